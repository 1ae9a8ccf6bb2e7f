"""How attempts reach workers, and how what was lost on the way is found again.

The database owns the run; the queue only wakes workers. State changes in `orchestration.services` alone.
"""
