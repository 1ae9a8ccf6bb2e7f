"""Group messages as they travel through the channel layer, with a message authentication code.

Everyone who can write to Redis can publish to a group. So a message carries a keyed hash (BLAKE2b, RFC 7693) under the
`bus_key` of the event log: only processes that read the log's database can make one. A new epoch has a new key.
"""

from __future__ import annotations

import hmac
from hashlib import blake2b
from typing import Any, Final

import msgspec

MAC_BYTES: Final = 16

Entry = tuple[int, int, float, bytes]
"""One event in a group message: the previous seq in its room, its seq, Unix time in seconds, and encoded message."""


class GroupMessage(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """Events of one room in one `group_send`, in the order in which one process committed them."""

    room: str
    entries: list[Entry]


class InvalidEnvelope(ValueError):
    """A message of the channel layer that no process of this installation has made."""


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(GroupMessage).decode


def seal(message: GroupMessage, *, bus_key: str) -> dict[str, Any]:
    """Return what is sent to the group."""
    body = _encode(message)
    return {"type": "relay.deliver", "sealed": _mac(body, bus_key) + body}


def unseal(envelope: Any, *, bus_key: str) -> GroupMessage:
    """Return the message in an envelope.

    Raises:
        InvalidEnvelope: if it was not sealed with this key.
    """
    sealed = envelope.get("sealed") if isinstance(envelope, dict) else None
    if not isinstance(sealed, bytes):
        raise InvalidEnvelope("not a sealed message")
    body = sealed[MAC_BYTES:]
    if not hmac.compare_digest(sealed[:MAC_BYTES], _mac(body, bus_key)):
        raise InvalidEnvelope("not sealed with the key of this event log")
    try:
        return _decode(body)
    except msgspec.MsgspecError as error:
        raise InvalidEnvelope(f"not a message of this version: {error}") from None


def _mac(body: bytes, bus_key: str) -> bytes:
    return blake2b(body, digest_size=MAC_BYTES, key=bus_key.encode()).digest()
