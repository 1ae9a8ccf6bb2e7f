"""The streams of one attempt in the process of a test: stored as those of a worker are, and sent to no reader."""

from __future__ import annotations

from orchestration.sdk import Stream
from orchestration.services import WrittenStream
from orchestration.worker.stream_sender import AttemptStreams


class InlineStreams(AttemptStreams):
    """Keeps what is written."""

    def __init__(self) -> None:
        self._streams = []

    def on_write(self) -> None:
        """Do nothing: there are no readers."""

    def add(self, stream: Stream) -> None:
        """Keep what is written into a stream."""
        self._streams.append(stream)

    def close(self) -> None:
        """End all streams."""
        for stream in self._streams:
            stream.close()

    def end(self) -> list[WrittenStream]:
        """End all streams, and return what was written."""
        self.close()
        return self.written()

    def announce_end(self) -> None:
        """Do nothing: there are no readers."""
