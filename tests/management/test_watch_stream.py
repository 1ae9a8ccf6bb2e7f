"""`manage.py watch --stream`: the chunks of one stream, in a pipe."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.harness.commands import command
from tests.harness.engine import Engine
from tests.harness.engine_fixtures import Files
from tests.harness.server import MahavishnuServer
from tests.management.test_watch import watching


def test_chunks_are_shown_as_they_come_until_the_stage_is_completed(
    engine: Engine, shared_pool: str, files: Files
) -> None:
    parts = ["Hello, \x1b[2J", "wörld\n", "✓"]
    workflow_id = engine.start("answering", pool=shared_pool, parts=parts, **files.params)
    with watching(engine.server, "--stream", f"{workflow_id}/answer/answer") as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "Hello, \\x1b[2Jwörld\n"
        files.open_gate()
        output, errors = process.communicate(timeout=60)
    assert (output, errors, process.returncode) == ("✓", "The stage is completed.\n", 0)


def test_bytes_are_written_to_a_file_as_they_are(
    engine: Engine, shared_pool: str, files: Files, tmp_path: Path
) -> None:
    workflow_id = engine.start("drawing", pool=shared_pool, **files.params)
    channel = f"stream:{workflow_id}/draw/twice/picture"
    picture = tmp_path / "picture"
    with picture.open("wb") as out, watching(engine.server, "--stream", channel, stdout=out) as process:
        assert process.wait(60) == 0
    assert picture.read_bytes() == bytes(range(256))


def test_exit_code_is_that_of_the_stage(engine: Engine, shared_pool: str, files: Files) -> None:
    workflow_id = engine.start("answering", pool=shared_pool, parts=["a\n", "b"], **files.params)
    with watching(engine.server, "--stream", f"{workflow_id}/answer/answer") as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "a\n"
        engine.server.services.cancel_workflow(workflow_id=workflow_id)
        output, errors = process.communicate(timeout=60)
    assert (output, errors, process.returncode) == ("", "The stage is cancelled.\n", 4)


@pytest.mark.parametrize(
    ("arguments", "code", "error"),
    [
        (("--stream", "missing/answer/answer"), 1, "Stage answer of workflow missing not found."),
        (("--stream", "missing/answer"), 2, "expected 'stream:', the id of a workflow"),
        (("global", "--stream", "wf/answer/answer"), 1, "--stream cannot be combined with CHANNEL"),
    ],
)
def test_stream_that_cannot_be_shown_is_an_error(
    server: MahavishnuServer, arguments: tuple[str, ...], code: int, error: str
) -> None:
    finished = command(server, "watch", *arguments)
    assert finished.returncode == code
    assert error in finished.stderr
