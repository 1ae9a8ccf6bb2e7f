"""A daphne on a machine whose wall clock is wrong by the seconds in the first argument; its other arguments follow."""

from __future__ import annotations

import runpy
import sys
import time
from datetime import timedelta

from django.utils import timezone

if __name__ == "__main__":
    error_seconds = float(sys.argv.pop(1))
    now, seconds = timezone.now, time.time
    timezone.now = lambda: now() + timedelta(seconds=error_seconds)
    time.time = lambda: seconds() + error_seconds
    runpy.run_module("daphne", run_name="__main__", alter_sys=True)
