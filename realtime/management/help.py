"""Commands whose `--help` goes on after the arguments: with examples, and what else there is to say."""

from __future__ import annotations

from argparse import RawDescriptionHelpFormatter
from typing import Any, ClassVar

from django.core.management.base import BaseCommand, CommandParser, DjangoHelpFormatter


class CommandWithEpilog(BaseCommand):
    """A command whose help ends with `epilog`, its lines as they are."""

    epilog: ClassVar[str]

    def create_parser(self, prog_name: str, subcommand: str, **kwargs: Any) -> CommandParser:
        shown = {"epilog": self.epilog, "formatter_class": _HelpFormatter}
        return super().create_parser(prog_name, subcommand, **{**shown, **kwargs})


class _HelpFormatter(DjangoHelpFormatter, RawDescriptionHelpFormatter):
    """Django's, with the lines of the epilog as they are."""
