"""Django's `LOGGING`: one format, with every record on one line, for the console and the log file."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def logging_settings(log_file: Path, *, repeat_seconds: float) -> dict[str, Any]:
    """Return the setting `LOGGING`.

    Args:
        log_file: The file that gets the same lines as the console.
        repeat_seconds: How often a line is repeated that clients or an outage can cause.
    """
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {
            "escaped": {
                "()": "mahavishnu_site.log_format.EscapingFormatter",
                "format": "{asctime} {levelname:<8} {name}: {message}",
                "style": "{",
            },
        },
        "filters": {
            "outages": {
                "()": "mahavishnu_site.log_filters.RateLimitFilter",
                "interval_seconds": repeat_seconds,
            },
            "expected": {"()": "mahavishnu_site.log_filters.DropTracebackFilter"},
            "clients": {
                "()": "mahavishnu_site.log_filters.ClientRecordFilter",
                "interval_seconds": repeat_seconds,
            },
        },
        "handlers": {
            "console": {
                "class": "mahavishnu_site.log_handlers.ConsoleHandler",
                "formatter": "escaped",
                "filters": ["clients"],
            },
            "file": {
                "()": "mahavishnu_site.log_file.open_log_file",
                "path": str(log_file),
                "formatter": "escaped",
                "filters": ["clients"],
            },
        },
        "root": {"handlers": ["console", "file"], "level": "WARNING"},
        "loggers": {
            "mahavishnu_site": {"level": "INFO"},
            "realtime": {"level": "INFO"},
            "orchestration": {"level": "INFO"},
            # `mahavishnu_site.logins` logs failed logins, escaped and at a limited rate.
            "axes": {"level": "CRITICAL"},
            "channels_redis.pubsub": {"filters": ["outages"]},
            "celery.worker.request": {"filters": ["expected"]},
            "celery.app.trace": {"filters": ["expected"]},
            # Django's defaults add a console handler and mail to administrators; here, all records go to the root.
            "django": {"handlers": [], "level": "INFO", "propagate": True},
            "django.server": {"handlers": [], "level": "INFO", "propagate": True},
        },
    }
