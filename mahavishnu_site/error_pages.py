"""Hide the passwords in URLs on Django's error pages, which exist with `DEBUG=1` only."""

from __future__ import annotations

import re

from django.views.debug import SafeExceptionReporterFilter


class UrlHidingFilter(SafeExceptionReporterFilter):
    """Replaces values of settings by stars. Django does so by name, such as `PASSWORD`, but URLs contain passwords too.

    `hosts` is the list of URLs in `CHANNEL_LAYERS`.
    """

    hidden_settings = re.compile(
        f"{SafeExceptionReporterFilter.hidden_settings.pattern}|URL|^hosts$", flags=re.IGNORECASE
    )
