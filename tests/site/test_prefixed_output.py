"""The output of `make serve`: prefixed lines, and a reader that is slow or gone."""

from __future__ import annotations

import os
import re
import select
from collections.abc import Iterator

import pytest

from mahavishnu_site.serve.prefixed_output import MAX_BACKLOG_BYTES, PrefixedOutput


class Pipe:
    """A pipe that does not block, as two files."""

    def __init__(self) -> None:
        reader, writer = os.pipe()
        os.set_blocking(reader, False)
        self.reader, self.writer = os.fdopen(reader, "rb"), os.fdopen(writer, "wb", buffering=0)

    def read(self) -> str:
        return (self.reader.read() or b"").decode()

    def close(self) -> None:
        self.reader.close()
        self.writer.close()


@pytest.fixture
def terminal() -> Iterator[Pipe]:
    pipe = Pipe()
    yield pipe
    pipe.close()


@pytest.fixture
def process() -> Iterator[Pipe]:
    pipe = Pipe()
    yield pipe
    pipe.close()


def copy(output: PrefixedOutput) -> None:
    """Wait for nothing, and copy what is ready."""
    readable, writable, _ = select.select(output.sources(), output.targets(), [], 0)
    output.copy(readable=readable, writable=bool(writable))


def test_prefixed_output_adds_the_time_and_the_name_to_each_line(terminal: Pipe, process: Pipe) -> None:
    output = PrefixedOutput(terminal.writer.fileno(), names=["web", "scheduler"])
    output.add("web", process.reader)
    process.writer.write(b"one\ntwo\npart")
    copy(output)
    process.writer.write(b"ial\n")
    output.finish()
    lines = terminal.read().splitlines()
    assert [re.sub(r"^\d\d:\d\d:\d\d ", "", line) for line in lines] == [
        "web       | one",
        "web       | two",
        "web       | partial",
    ]


def test_prefixed_output_lets_no_process_control_the_terminal(terminal: Pipe, process: Pipe) -> None:
    output = PrefixedOutput(terminal.writer.fileno(), names=["web"])
    output.add("web", process.reader)
    process.writer.write("\x1b[2J\x9b2J é \u202e\rover".encode() + b"\xff\n")
    output.finish()
    assert terminal.read().partition("| ")[2] == "\\x1b[2J\\x9b2J é \\u202e\\rover\\xff\n"


def test_prefixed_output_ends_an_unfinished_line_when_the_process_ends(terminal: Pipe, process: Pipe) -> None:
    output = PrefixedOutput(terminal.writer.fileno(), names=["web"])
    output.add("web", process.reader)
    process.writer.write(b"unfinished")
    process.writer.close()
    output.finish()
    assert terminal.read().endswith(" web | unfinished\n")
    assert output.sources() == []


def test_prefixed_output_drops_the_oldest_lines_when_nothing_reads(terminal: Pipe, process: Pipe) -> None:
    output = PrefixedOutput(terminal.writer.fileno(), names=["web"])
    output.add("web", process.reader)
    line_bytes, lines = 1000, 3 * MAX_BACKLOG_BYTES // 1000
    for number in range(lines):
        process.writer.write(f"{number:0{line_bytes - 1}}\n".encode())
        copy(output)
    received = ""
    while output.targets():
        received += terminal.read()
        copy(output)
    received += terminal.read()
    numbers = [int(line.rpartition(" ")[2]) for line in received.splitlines()]
    assert numbers[-1] == lines - 1
    assert len(numbers) < lines / 2


def test_prefixed_output_keeps_reading_when_the_reader_has_closed(terminal: Pipe, process: Pipe) -> None:
    output = PrefixedOutput(terminal.writer.fileno(), names=["web"])
    output.add("web", process.reader)
    terminal.reader.close()
    for _ in range(3):
        process.writer.write(b"line\n")
        copy(output)
        copy(output)
    assert (output.sources(), output.targets()) == ([process.reader.fileno()], [])
