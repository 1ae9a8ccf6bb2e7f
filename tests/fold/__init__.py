"""The fold of the Python client, and the proof of its rule."""
