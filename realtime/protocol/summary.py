"""What the channel `summary` carries: the events of `global`, reduced to what an overview of a busy system shows.

It is computed from the events of `global`, in each server process and once for all subscribers. So it has no rows in
the event log and no messages in the channel layer.
"""

from __future__ import annotations

from typing import Final

import msgspec

from realtime.protocol.channels import SUMMARY
from realtime.protocol.messages import EventRecord, decode_event, encode_event

LEFT_OUT: Final = ("workflow.stage_log", "workflow.stage_progress", "workflow.step_completed", "workflow.map_progress")
"""Names of the events that `summary` does not carry."""

REMOVED_FIELDS: Final = ("result", "params", "stages")
"""Fields of `data` that its events do not have."""

MAX_PROMPT_CHARACTERS: Final = 200
"""A longer `prompt` is cut, and ends with an ellipsis that counts too."""

_REDUCED: Final = tuple(f'"{field}"' for field in (*REMOVED_FIELDS, "prompt"))

# The values of the fields stay JSON text: a large one is not decoded.
_decode_fields = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_encode = msgspec.json.Encoder().encode


def summarize(event: EventRecord) -> EventRecord | None:
    """Return an event as `summary` carries it; None if it does not."""
    if event.name in LEFT_OUT:
        return None
    if not any(key in event.data for key in _REDUCED):
        return event
    fields = {key: value for key, value in _decode_fields(event.data).items() if key not in REMOVED_FIELDS}
    if "prompt" in fields:
        fields["prompt"] = _cut(fields["prompt"])
    return msgspec.structs.replace(event, data=_encode(fields).decode())


def summarize_message(message: bytes) -> bytes | None:
    """Return the message that delivers through `summary` what `message` delivers through `global`; None for none."""
    event = summarize(decode_event(message))
    return None if event is None else encode_event(event, room=SUMMARY)


def _cut(prompt: msgspec.Raw) -> msgspec.Raw:
    text = msgspec.json.decode(prompt)
    if not isinstance(text, str) or len(text) <= MAX_PROMPT_CHARACTERS:
        return prompt
    return msgspec.Raw(_encode(text[: MAX_PROMPT_CHARACTERS - 1] + "…"))
