"""The processes of a worker machine: a Celery worker process, its children that run stages, and their supervisor.

The database owns the runs; the queue only wakes workers. Only `orchestration.services` changes the state of a run.
"""
