"""Environment variables that stages do not inherit from their worker, because they contain passwords."""

from __future__ import annotations

import os
from collections.abc import Iterable

_withheld: dict[str, str] = {}


def withhold(names: Iterable[str]) -> None:
    """Remove variables from the environment that programs of this process inherit.

    The kernel still shows the variables that the process started with, in `/proc/PID/environ`:
    `orchestration.processes.close_memory` closes that.
    """
    for name in names:
        if name in os.environ:
            _withheld[name] = os.environ.pop(name)


def named_variables(names: Iterable[str]) -> dict[str, str]:
    """Return the variables with these names, withheld ones too: their author has asked for them."""
    known = {**_withheld, **os.environ}
    return {name: known[name] for name in names if name in known}
