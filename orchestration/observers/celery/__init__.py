"""Follow a Celery application by the events of its workers."""
