"""What `manage.py serve` prints once the server answers: the page first, then the other addresses and commands."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path

from django.conf import settings

from orchestration.sdk.workflow import DEFAULT_POOL
from realtime.management.server_address import page_url, server_prefix, server_url

VARIABLES_OF_COMMANDS = (
    "MAHAVISHNU_VAR_DIR",
    "MAHAVISHNU_HOST",
    "MAHAVISHNU_PORT",
    "MAHAVISHNU_PAGES_PORT",
    "MAHAVISHNU_PATH_PREFIX",
)
"""What a command in another terminal needs to find this server. None of them is secret."""


def banner(*, processes: int, has_staff: bool) -> str:
    """Return the text."""
    websocket = f"{server_url(scheme='ws', port=settings.MAHAVISHNU_PORT)}{server_prefix()}"
    base = f"{server_url()}{server_prefix()}"
    stages = settings.MAHAVISHNU_ENGINE.worker_concurrency
    lines = [
        f"Open {page_url('overview') or f'{base}/'}",
        f"  WebSocket  {websocket}" + (f" with {processes} processes" if processes > 1 else ""),
        f"  HTTP API   {base}/api/docs",
        f"  admin      {base}/admin/",
        f"  health     {server_url(port=settings.MAHAVISHNU_PORT)}{server_prefix()}/health",
        f"  worker     pool {DEFAULT_POOL}, {stages} {'stage' if stages == 1 else 'stages'} at a time",
        f"  data       {settings.MAHAVISHNU_VAR_DIR}",
        f"  try it     {command('run_workflow demo_retry --watch', os.environ)}",
    ]
    if settings.MAHAVISHNU_REQUIRE_TLS and not settings.MAHAVISHNU_TLS_CERTIFICATE:
        lines.append(
            "Pages are redirected to https: set MAHAVISHNU_TLS_CERTIFICATE, put a TLS proxy in front, "
            "or set MAHAVISHNU_REQUIRE_TLS=false on a network that you trust."
        )
    if not has_staff:
        lines.append(f"Create an account for the admin: {command('createsuperuser', os.environ)}")
    lines.append("Ctrl-C stops it.")
    return "\n".join([*lines, ""])


def command(arguments: str, variables: Mapping[str, str]) -> str:
    """Return the command line that runs a command of this installation in another terminal, in the same folder."""
    given = [f"{name}={shlex.quote(variables[name])}" for name in VARIABLES_OF_COMMANDS if variables.get(name)]
    folder, python = Path.cwd(), Path(sys.executable)
    shown = python.relative_to(folder) if python.is_relative_to(folder) else python
    program = "manage.py" if (folder / "manage.py").is_file() else "-m mahavishnu_site"
    return " ".join([*given, shlex.quote(str(shown)), program, arguments])
