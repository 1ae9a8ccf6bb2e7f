"""Show the chunks of one stream in a command, as they come from Redis and the database. No server is needed."""

from __future__ import annotations

import base64
from typing import Any, Final

from django.conf import settings
from django.core.management.base import CommandError

from orchestration.management.output import EscapedOutput
from orchestration.models import StageStatus, WorkflowStatus
from orchestration.text import escape_line
from realtime.management.run_follower import EXIT_CODES
from realtime.protocol.frames import Frames
from realtime.protocol.payload import decode_object
from realtime.protocol.stream_messages import parse_stream_channel
from realtime.streams.hub import StreamHub

_FAILED_CODES: Final = {
    StageStatus.FAILED.value: EXIT_CODES[WorkflowStatus.FAILED],
    StageStatus.CANCELLED.value: EXIT_CODES[WorkflowStatus.CANCELLED],
}


class StreamDisplay:
    """Writes one stream, as a connection that reads it at once.

    Text is written with its control characters as escapes; bytes are written as they are, unless to a terminal.

    Args:
        out: Receives the chunks.
        err: Receives a line for each gap, and for each further attempt.

    Attributes:
        replay_budget: What is charged for reads: nothing here.
    """

    def __init__(self, out: EscapedOutput, err: EscapedOutput) -> None:
        self.replay_budget = self
        self._out = out
        self._err = err
        self._status = ""

    async def show(self, channel: str) -> int:
        """Show a stream until it is closed. Return the exit code: that of the status of its stage.

        Raises:
            CommandError: if the stage does not exist, or bytes would be written to a terminal.
            django.db.Error: if the database is unavailable at first.
        """
        hub, names = StreamHub(settings.MAHAVISHNU_LIMITS), parse_stream_channel(channel)
        stream = await hub.find(channel, names)
        if stream is None:
            raise CommandError(f"Stage {names.stage_name} of workflow {names.workflow_id} not found.")
        reader = hub.read(self, stream, offset=0)
        try:
            await reader.run()
        finally:
            hub.leave(channel, reader)
            await hub.close()
        return _FAILED_CODES.get(self._status, 0)

    def charge(self, size_bytes: int) -> None:
        """Charge nothing."""

    async def caught_up(self) -> None:
        """Wait for nothing: what is written is written."""

    def write(self, frames: Frames) -> None:
        """Show messages."""
        for message in frames.messages:
            content = decode_object(message.decode())
            self._show(content["event"], content["data"])
        self._out.flush()

    def _show(self, event: str, data: dict[str, Any]) -> None:
        if event == "stream.chunk" and "base64" in data:
            if self._out.isatty():
                raise CommandError("The stream has bytes, not text: write it to a file or a pipe.")
            self._out.flush()
            self._out.stream.buffer.write(base64.b64decode(data["base64"]))
            self._out.stream.buffer.flush()
        elif event == "stream.chunk":
            self._out.write(data["delta"], ending="")
        elif event == "stream.gap":
            self._note(f"{data['end'] - data['offset']} bytes are missing here.")
        elif event == "stream.reset":
            self._note(f"Attempt {data['attempt']} began: the text before this is void.")
        else:
            self._status = data["status"]
            self._note(f"The stage is {self._status}.")

    def _note(self, line: str) -> None:
        self._out.flush()
        self._err.write(escape_line(line), style_func=lambda text: text)
