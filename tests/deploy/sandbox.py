"""Run commands as a hardened service does: a read-only file system except some folders, and no privileges."""

from __future__ import annotations

import os
import shlex
import subprocess
from collections.abc import Sequence
from functools import cache
from pathlib import Path

_UNSHARE = ["unshare", "--mount"] if os.geteuid() == 0 else ["unshare", "--user", "--map-root-user", "--mount"]

_SCRIPT = """
mount --make-rprivate / && for folder in {folders}; do mount --bind "$folder" "$folder" || exit 99; done &&
mount -o remount,bind,ro / && exec setpriv --no-new-privs --bounding-set=-all --inh-caps=-all {command}
"""


def sandboxed(command: Sequence[str], *, writable: Sequence[Path]) -> list[str]:
    """Return the command that runs `command` without capabilities, with a root that is read-only.

    Args:
        command: The words of the command.
        writable: The folders that it may write to.
    """
    script = _SCRIPT.format(folders=shlex.join(map(str, writable)), command=shlex.join(command))
    return [*_UNSHARE, "sh", "-c", script]


@cache
def can_sandbox() -> bool:
    """Return whether this machine allows it: Linux, with mounts or user namespaces."""
    try:
        done = subprocess.run(sandboxed(["true"], writable=[Path("/dev/shm")]), capture_output=True, check=False)
    except OSError:
        return False
    return done.returncode == 0
