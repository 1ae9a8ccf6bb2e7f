#!/usr/bin/env python
"""Django's command line for this project."""

from __future__ import annotations

import os
import sys

INTERRUPTED = 130
"""The exit code after Ctrl-C: 128 and the signal's number, as shells count."""


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "mahavishnu_site.settings")
    try:
        # Imported here: all of the code takes its time to load, and who is tired of waiting wants no traceback.
        from django.core.management import execute_from_command_line

        from mahavishnu_site.env import InvalidEnvironmentError

        try:
            execute_from_command_line(sys.argv)
        except InvalidEnvironmentError as error:
            sys.exit(str(error))
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)


if __name__ == "__main__":
    main()
