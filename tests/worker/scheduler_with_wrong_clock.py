"""A scheduler on a machine whose clock is wrong by the seconds in the argument."""

from __future__ import annotations

import sys
from datetime import timedelta

import django
from django.core.management import call_command
from django.utils import timezone

if __name__ == "__main__":
    now, error = timezone.now, timedelta(seconds=float(sys.argv[1]))
    timezone.now = lambda: now() + error
    django.setup()
    call_command("run_scheduler")
