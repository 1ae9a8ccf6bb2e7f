"""The grammar of channels: what a client names when it subscribes (`workflow:abc123`, `global`).

*Channel* is the API reference's word; an event names the same thing its *room*.
"""

from __future__ import annotations

import re

GLOBAL = "global"
RESOURCE_TYPES = ("workflow", "pool", "worker")
MAX_ID_CHARACTERS = 128
ID_PATTERN = rf"[A-Za-z0-9._-]{{1,{MAX_ID_CHARACTERS}}}"
CHANNEL_SYNTAX = f"'global', or workflow|pool|worker ':' {ID_PATTERN}"

_CHANNEL = re.compile(rf"global|(?:{'|'.join(RESOURCE_TYPES)}):{ID_PATTERN}")


class InvalidChannel(ValueError):
    """A channel name that is not of the reference's form.

    Attributes:
        channel: What was given.
    """

    def __init__(self, channel: str) -> None:
        super().__init__(channel)
        self.channel = channel

    def __str__(self) -> str:
        shown = self.channel if len(self.channel) <= 200 else self.channel[:200] + "…"
        return f"Invalid channel name {shown!r}: expected {CHANNEL_SYNTAX}"


def check_channel(channel: str) -> str:
    """Return `channel` if it is a valid name.

    Raises:
        InvalidChannel: if it is not.
    """
    if _CHANNEL.fullmatch(channel) is None:
        raise InvalidChannel(channel)
    return channel


def channel_of(resource_type: str, resource_id: str) -> str:
    """The channel of one resource: `channel_of("workflow", "abc")` is `workflow:abc`."""
    return f"{resource_type}:{resource_id}"


def split_channel(channel: str) -> tuple[str, str]:
    """`("workflow", "abc")` for `workflow:abc`; `("global", "")` for `global`."""
    resource_type, _, resource_id = channel.partition(":")
    return resource_type, resource_id
