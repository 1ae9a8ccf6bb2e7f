"""Every generated file, as text."""

from __future__ import annotations

import subprocess
import sys

from generator import python, typescript
from generator.model import event_types, request_types, response_types

_PACKAGE = "python/mahavishnu_client"


def render() -> dict[str, str]:
    """Return the text of each file, by its path in `clients`."""
    events, responses, requests = event_types(), response_types(), request_types()
    sources = {
        f"{_PACKAGE}/messages.py": python.messages_file(events),
        f"{_PACKAGE}/responses.py": python.responses_file(responses),
        f"{_PACKAGE}/requests.py": python.requests_file(requests, responses, is_sync=False),
        f"{_PACKAGE}/sync_requests.py": python.requests_file(requests, responses, is_sync=True),
    }
    formatted = {path: _formatted(text) for path, text in sources.items()}
    return {**formatted, "javascript/messages.d.ts": typescript.messages_file(events, responses, requests)}


def _formatted(source: str) -> str:
    """Return Python source without unused imports, formatted as `make format` does."""
    text = source
    for command in (("check", "--select", "F401,I", "--fix", "--quiet"), ("format", "--quiet")):
        ruff = [
            sys.executable,
            "-m",
            "ruff",
            *command,
            "--stdin-filename",
            "clients/python/mahavishnu_client/x.py",
            "-",
        ]
        text = subprocess.run(ruff, input=text, capture_output=True, text=True, check=True).stdout
    return text
