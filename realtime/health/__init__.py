"""The health of one server process, for `GET /health`."""
