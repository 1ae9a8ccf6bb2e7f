"""A process that ends with the one that started it, even if that one was killed with no chance to say so.

Linux has this (`PR_SET_PDEATHSIG` in prctl(2)). Elsewhere nothing is done: there, whoever kills a parent with -9 has
to end its children too.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Callable

_PR_SET_PDEATHSIG = 1

# Looked up here: between fork and exec nothing should be loaded any more.
_prctl = ctypes.CDLL(None, use_errno=True).prctl if sys.platform == "linux" else None


def signalled_by_parent_death(number: signal.Signals) -> Callable[[], None]:
    """Return what `subprocess.Popen(preexec_fn=…)`, or a fork, calls to be sent `number` when this process ends.

    It counts as ended when the thread that starts the child ends, so that should be the main one. What the child
    becomes with exec keeps the wish; what it starts in turn does not have it.
    """
    parent = os.getpid()

    def wish() -> None:
        if _prctl is None:
            return
        _prctl(_PR_SET_PDEATHSIG, number.value, 0, 0, 0)
        if os.getppid() != parent:
            # It ended before the wish was made. (A signal to oneself would meet the parent's handler here.)
            os._exit(128 + number)

    return wish
