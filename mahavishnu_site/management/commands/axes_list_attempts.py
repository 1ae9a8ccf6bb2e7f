"""`manage.py axes_list_attempts`: list failed logins. Replaces the command of django-axes, which escapes nothing."""

from __future__ import annotations

from typing import Any

from axes.models import AccessAttempt

from orchestration.management.output import EscapingCommand
from orchestration.text import escape_line


class Command(EscapingCommand):
    """List failed logins. Names are what strangers have typed."""

    help = "Lists failed logins: the address, the name and the number of failures, with tabs between them."

    def handle(self, *args: Any, **options: Any) -> None:
        for attempt in AccessAttempt.objects.order_by("pk"):
            fields = map(str, (attempt.ip_address, attempt.username, attempt.failures_since_start))
            self.stdout.write("\t".join(map(escape_line, fields)))
