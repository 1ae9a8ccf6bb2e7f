"""Real parts for the tests: daphne, Valkey, Postgres, Celery workers, and processes that change the state."""
