"""The load that a peer broadcasts: a number of messages of one size, each with the time it is sent."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class Load:
    """A number of `messages`, sent one after the other, of about `size_bytes` each."""

    messages: int
    size_bytes: int

    @classmethod
    def of(cls, text: str) -> Load:
        return cls(**json.loads(text))

    def text(self) -> str:
        return json.dumps(asdict(self))

    def texts(self) -> Iterator[str]:
        """Yield the messages, each with the time at which it is generated."""
        padding = "x" * max(self.size_bytes - 40, 0)
        for _ in range(self.messages):
            yield f'{{"sent_ns":{time.monotonic_ns()},"padding":"{padding}"}}'
