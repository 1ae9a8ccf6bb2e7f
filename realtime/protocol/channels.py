"""The grammar of channel names, which clients use to subscribe: `workflow:abc123`, `global`, `summary`.

*Channel* is the term of the API reference. In an event message, the same name is in the field `room`.
"""

from __future__ import annotations

import re
from urllib.parse import quote

GLOBAL = "global"
SUMMARY = "summary"
"""The events of `global` without the large and the frequent: see `realtime.protocol.summary`."""

RESOURCE_TYPES = ("workflow", "pool", "worker")
CREATED_BY = {"workflow": "workflow.created", "pool": "pool.created", "worker": "worker.added"}
"""By resource type: the event that begins the history of a resource, and of its channel."""

MAX_ID_CHARACTERS = 128

# The same as `orchestration.identifiers`, which needs Django and cannot be imported here; a test compares the two.
# The hyphen is escaped for browsers: the `pattern` attribute of an HTML input requires it.
ID_PATTERN = rf"[A-Za-z0-9._\-]{{1,{MAX_ID_CHARACTERS}}}"
MAX_STAGE_CHARACTERS = 100
"""Characters of the percent-encoded name of a stage with items."""

_STAGE_PATTERN = rf"[A-Za-z0-9._~%\-]{{1,{MAX_STAGE_CHARACTERS}}}"
CHANNEL_PATTERN = (
    rf"{GLOBAL}|{SUMMARY}|(?:{'|'.join(RESOURCE_TYPES)}):{ID_PATTERN}|workflow:{ID_PATTERN}/{_STAGE_PATTERN}"
)

_EXPECTED = (
    "'global', 'summary', or 'workflow:', 'pool:' or 'worker:' followed by an id "
    f"(1 to {MAX_ID_CHARACTERS} of the characters A-Z a-z 0-9 . _ -); "
    "for the items of a stage, 'workflow:', the id, '/' and the percent-encoded name of the stage"
)
_MAX_SHOWN_CHARACTERS = 200
_FROM_GLOBAL = (GLOBAL, SUMMARY)
_CHANNEL = re.compile(CHANNEL_PATTERN)


class InvalidChannel(ValueError):
    """A name that does not follow the channel grammar.

    Attributes:
        channel: The rejected name.
    """

    expected = _EXPECTED

    def __init__(self, channel: str) -> None:
        super().__init__(channel)
        self.channel = channel

    def __str__(self) -> str:
        shown = self.channel
        if len(shown) > _MAX_SHOWN_CHARACTERS:
            shown = shown[:_MAX_SHOWN_CHARACTERS] + "…"
        return f"Invalid channel name {shown!r}: expected {self.expected}"


def check_channel(channel: str) -> str:
    """Return `channel` unchanged if its name is valid.

    Raises:
        InvalidChannel: if it is not.
    """
    if _CHANNEL.fullmatch(channel) is None:
        raise InvalidChannel(channel)
    return channel


def source_of(channel: str) -> str:
    """Return the channel whose messages between processes carry the events of `channel`."""
    return GLOBAL if channel == SUMMARY else channel


def channels_from(source: str) -> tuple[str, ...]:
    """Return the channels that take their events from the messages of `source`."""
    return _FROM_GLOBAL if source == GLOBAL else (source,)


def channel_of(resource_type: str, resource_id: str) -> str:
    """Return the channel of one resource: `channel_of("workflow", "abc")` is `workflow:abc`."""
    return f"{resource_type}:{resource_id}"


def items_channel(workflow_id: str, stage_name: str) -> str:
    """Return the channel of the items of a stage: `workflow:abc/embed`."""
    return f"{channel_of('workflow', workflow_id)}/{quote(stage_name, safe='')}"


def split_channel(channel: str) -> tuple[str, str]:
    """Return resource type and id: `("workflow", "abc")` for `workflow:abc`, `("global", "")` for `global`.

    The id of the items of a stage has the name of the stage: `abc/embed`.
    """
    resource_type, _, resource_id = channel.partition(":")
    return resource_type, resource_id


def resource_of(channel: str) -> tuple[str, str]:
    """Return type and id of the resource that a channel belongs to. Items belong to their workflow."""
    resource_type, resource_id = split_channel(channel)
    return resource_type, resource_id.partition("/")[0]


def created_by(channel: str) -> str | None:
    """Return the event that begins the history of a channel; None if any event may."""
    resource_type, resource_id = split_channel(channel)
    return None if "/" in resource_id else CREATED_BY.get(resource_type)
