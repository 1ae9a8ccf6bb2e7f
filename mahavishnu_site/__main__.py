"""Django's command line for the site: `mahavishnu`, `python -m mahavishnu_site` and `manage.py` all run it."""

from __future__ import annotations

import os
import signal
import sys
from io import TextIOWrapper
from pathlib import Path


def open_standard_files() -> None:
    """Open standard input, output and error on the null device if they are closed, as after `>&-`.

    Otherwise the next file that the process opens, such as the database, would be its standard output.
    """
    for descriptor, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            null = os.open(os.devnull, os.O_RDWR)
            if null != descriptor:
                os.dup2(null, descriptor, inheritable=True)
                os.close(null)
            os.set_inheritable(descriptor, True)
            setattr(sys, name, open(descriptor, "w" if descriptor else "r", closefd=False))  # noqa: SIM115


def main() -> None:
    """Run the command that `sys.argv` names, and exit without a traceback on Ctrl-C or an invalid variable."""
    open_standard_files()
    settings_module = os.environ.setdefault("DJANGO_SETTINGS_MODULE", "mahavishnu_site.settings")
    if isinstance(sys.stdout, TextIOWrapper):
        # What the locale cannot express is an escape, as on standard error, and not the end of the command.
        sys.stdout.reconfigure(errors="backslashreplace")
    program, *arguments = sys.argv
    if Path(program) == Path(__file__):
        program = "python -m mahavishnu_site"
    try:
        # Imported here: loading the code takes a moment, and Ctrl-C during it must not print a traceback.
        from django.core.management import execute_from_command_line

        from mahavishnu_site.env import InvalidEnvironmentError
        from mahavishnu_site.var_dir import base_dir

        # The user's own workflows may be in this folder. The programs that `serve` starts run in this folder too.
        sys.path.append(str(base_dir()))
        try:
            execute_from_command_line([program, *arguments])
        except InvalidEnvironmentError as error:
            sys.exit(str(error))
        except ModuleNotFoundError as error:
            if not f"{settings_module}.".startswith(f"{error.name}."):
                raise
            sys.exit(
                f"DJANGO_SETTINGS_MODULE={settings_module!r}: expected a module in {base_dir()} or in a folder that "
                f"PYTHONPATH names; {error.name} was not found"
            )
    except KeyboardInterrupt:
        # The convention of shells: 128 plus the number of the signal.
        sys.exit(128 + signal.SIGINT)


if __name__ == "__main__":
    main()
