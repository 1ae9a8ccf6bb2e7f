"""What Celery says of a process that died, and of a message that goes back: with a stack trace, as of a mistake.

Both are the engine's business: a process is killed mostly by its keeper, which says why, and its stage is looked after.
The traces lead into Celery and to nothing that anybody could mend. Here each is one line.
"""

from __future__ import annotations

import logging


class WithoutTrace(logging.Filter):
    """Takes the stack trace from what the engine expects, and lets everything else pass as it is."""

    def filter(self, record: logging.LogRecord) -> bool:
        if record.exc_info and (kind := record.exc_info[0]) is not None:
            # Imported here: the settings name this filter, and most of what they are read by has no use for Celery.
            from celery.exceptions import Reject, WorkerLostError

            if issubclass(kind, Reject | WorkerLostError):
                record.exc_info = record.exc_text = None
        return True
