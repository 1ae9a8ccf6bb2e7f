"""The examples of the API reference, as printed. The server must accept and send them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

_DIRECTORY = Path(__file__).parent

MESSAGES: dict[str, Any] = json.loads((_DIRECTORY / "messages.json").read_text())
PYTHON_CLIENT = (_DIRECTORY / "python_client.py").read_text()
JAVASCRIPT_CLIENT = (_DIRECTORY / "javascript_client.js").read_text()

ADDRESS = "127.0.0.1:8690"
"""The address in both clients."""
