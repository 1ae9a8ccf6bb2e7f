"""Commands whose `--help` ends with examples."""

from __future__ import annotations

from argparse import RawDescriptionHelpFormatter
from typing import Any, ClassVar

from django.core.management.base import CommandParser, DjangoHelpFormatter

from orchestration.management.output import EscapingCommand


class CommandWithEpilog(EscapingCommand):
    """A command whose help ends with `epilog`, printed without reformatting."""

    epilog: ClassVar[str]

    def create_parser(self, prog_name: str, subcommand: str, **kwargs: Any) -> CommandParser:
        defaults = {"epilog": self.epilog, "formatter_class": _HelpFormatter}
        return super().create_parser(prog_name, subcommand, **{**defaults, **kwargs})


class _HelpFormatter(DjangoHelpFormatter, RawDescriptionHelpFormatter):
    """Django's formatter, without reformatting of the epilog."""
