"""Channels: what a client names when it subscribes (`workflow:abc123`, `global`), and the layer group behind each.

*Channel* (or *room*, in an event) is the API reference's word. *Group* is Django Channels' word and never leaves here.
"""

from __future__ import annotations

import hashlib
import re

GLOBAL = "global"
RESOURCE_TYPES = ("workflow", "pool", "worker")
MAX_ID_CHARACTERS = 128
ID_PATTERN = rf"[A-Za-z0-9._-]{{1,{MAX_ID_CHARACTERS}}}"
CHANNEL_SYNTAX = f"'global', or workflow|pool|worker ':' {ID_PATTERN}"

_CHANNEL = re.compile(rf"global|(?:{'|'.join(RESOURCE_TYPES)}):{ID_PATTERN}")
# Channels allows ASCII letters, digits, '-', '_' and '.' in a group's name, and fewer than 100 characters.
_MAX_GROUP_CHARACTERS = 99
_HASH_CHARACTERS = 32


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


def group_of(channel: str, *, epoch: str) -> str:
    """The channel-layer group that carries a channel's events of the log `epoch`.

    Servers of different databases may share one Redis: their groups are different ones. A name that is too long for a
    group keeps its readable beginning and ends in a hash of the whole, so two channels never share a group.
    """
    group = f"{epoch}.{channel.replace(':', '.', 1)}"
    if len(group) <= _MAX_GROUP_CHARACTERS:
        return group
    digest = hashlib.sha256(group.encode()).hexdigest()[:_HASH_CHARACTERS]
    return f"{group[: _MAX_GROUP_CHARACTERS - _HASH_CHARACTERS - 1]}-{digest}"
