"""Messages of channel-layer groups: their entries, and the name of a channel's group."""

from __future__ import annotations

import hashlib
from typing import Final, TypedDict

# Channels allows ASCII letters, digits, '-', '_' and '.' in a group's name, and fewer than 100 characters.
_MAX_GROUP_CHARACTERS: Final = 99
_HASH_CHARACTERS: Final = 32

Entry = tuple[int, int, float, bytes]
"""One event in a group message: the previous seq in its room, its seq, Unix time in seconds, and encoded message."""


class GroupMessage(TypedDict):
    """Events of one room in one `group_send`, in the order in which one process committed them."""

    type: str
    room: str
    entries: list[Entry]


def group_name(channel: str, *, epoch: str) -> str:
    """Return the name of the group that carries a channel's events of the log `epoch`.

    Servers of different databases may share one Redis: their groups differ by epoch. A name too long for a group keeps
    its readable beginning and ends in a hash of the whole name. Two channels therefore never share a group.
    """
    group = f"{epoch}.{channel.replace(':', '.', 1)}"
    if len(group) <= _MAX_GROUP_CHARACTERS:
        return group
    digest = hashlib.sha256(group.encode()).hexdigest()[:_HASH_CHARACTERS]
    return f"{group[: _MAX_GROUP_CHARACTERS - _HASH_CHARACTERS - 1]}-{digest}"
