#!/usr/bin/env python
"""Django's command line for this project."""

from __future__ import annotations

import os
import sys

from django.core.management import execute_from_command_line

from mahavishnu_site.environment import BadEnvironmentError


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "mahavishnu_site.settings")
    try:
        execute_from_command_line(sys.argv)
    except BadEnvironmentError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
