"""Write the typed messages of both clients from the structs of the server: `make clients`.

The server's structs are the one source: `realtime.events.types.EVENT_TYPES` (the data of events), the structs of
`realtime.protocol` whose docstring begins with "The response to" (the data of responses), and
`realtime.protocol.requests.REQUESTS`. A test compares the committed files with what this writes.
"""

from __future__ import annotations

import sys
from pathlib import Path

PROJECT_DIR = Path(__file__).resolve().parent.parent
CLIENTS_DIR = PROJECT_DIR / "clients"


def write() -> None:
    """Write every generated file."""
    sys.path[:0] = [str(PROJECT_DIR), str(CLIENTS_DIR)]
    import django

    django.setup()
    from generator.files import render

    for path, text in render().items():
        (CLIENTS_DIR / path).parent.mkdir(parents=True, exist_ok=True)
        (CLIENTS_DIR / path).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    write()
