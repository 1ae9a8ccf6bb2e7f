"""Real parts for the tests: a real daphne, a real Valkey, a real Postgres, and other processes that change state."""
