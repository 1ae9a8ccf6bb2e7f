"""The ten jobs of the cookbook: what each finds, what happens in its middle, and what must come of it."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.cookbook.gate import Gate
from tests.cookbook.installation import ADDRESS, RefusedLine
from tests.cookbook.trial import Trial

ENCODER = "sh -c 'cat {source} > {part}'"


async def pass_gates(trial: Trial, gates: list[Gate]) -> None:
    """Kill while stages wait at the gates, then open these."""
    await wait_at(gates)
    await trial.middle()
    for gate in gates:
        gate.open()


async def wait_at(gates: list[Gate]) -> None:
    """Wait until a stage waits at each of the gates."""
    for gate in gates:
        await asyncio.to_thread(gate.wait_for_reader)


@dataclass(frozen=True, kw_only=True)
class Job:
    """One job.

    Attributes:
        page: The name of its page.
        arrange: Makes the files that it finds, of a number that differs from test to test; returns the gates.
        check: Checks what has come of it, each paid call counted.
        converse: What happens while it runs.
        pool: The pool of the stage that runs in its middle.
        arguments: Additional arguments of its command line.
        size: How many files it finds when it is killed; the pages say how many in general.
    """

    page: str
    arrange: Callable[[Path, int], list[Gate]]
    check: Callable[[Trial, int], None]
    converse: Callable[[Trial, list[Gate]], Awaitable[None]] = pass_gates
    pool: str = "local"
    arguments: tuple[str, ...] = ()
    size: int = 0


def texts(folder: Path, count: int) -> list[Gate]:
    """Write `count` files, of which two make the run wait in its middle. Every fortieth is not UTF-8."""
    (folder / "documents").mkdir()
    for number in range(count):
        content = b"\xff" if number % 40 == 39 else f"text {number}".encode()
        (folder / "documents" / f"{number:03}.txt").write_bytes(content)
    middle = range(count // 2, count // 2 + 2)
    return [Gate(folder / "documents" / f"{number:03}.txt", f"text {number}") for number in middle]


def check_retrieval(trial: Trial, count: int) -> None:
    broken = [number for number in range(count) if number % 40 == 39]
    index = trial.folder / "documents" / "index.json"
    assert trial.output() == {"index": str(index), "files": count, "failed": len(broken)}
    assert len(json.loads(index.read_text())) == count - len(broken)
    paid = sorted(repr(f"text {number}") for number in range(count) if number not in broken)
    assert trial.lines("documents/bill") == paid
    assert trial.watch.of("workflow.map_started")[0]["total"] == count


def notes(folder: Path, count: int) -> list[Gate]:
    (folder / "notes").mkdir()
    (folder / "notes" / "a.txt").write_text("about a")
    return [Gate(folder / "notes" / "b.txt", "about b")]


def check_agent(trial: Trial, count: int) -> None:
    assert trial.output() == "{'a.txt': 'about a', 'b.txt': 'about b'} have been read"
    assert trial.lines("notes/bill") == ["model 1", "model 2", "model 3", "tool a.txt", "tool b.txt"]
    names = ["agent_turn_2", "agent_turn_3"]
    assert [added["stage_name"] for added in trial.watch.of("workflow.stage_added")] == names
    opened = [opened["stage_name"] for opened in trial.watch.of("workflow.stream_opened")]
    assert opened == ["agent_turn", *names]


def sources(folder: Path, count: int) -> list[Gate]:
    (folder / "sources").mkdir()
    for name in ("customers", "stock"):
        (folder / "sources" / f"{name}.csv").write_text("1\n2\n")
    return [Gate(folder / "sources" / f"{name}.csv", "1\n2\n3\n") for name in ("orders", "payments")]


def check_nightly(trial: Trial, count: int) -> None:
    output = trial.output()
    assert output["rows"] == 10
    assert list(output["failed"]) == ["returns"]
    assert output["failed"]["returns"].startswith("FileNotFoundError")
    assert trial.lines("sources/journal") == ["customers", "orders", "payments", "stock"]
    assert len(trial.watch.of("workflow.stage_log")) == 1


def links(folder: Path, count: int) -> list[Gate]:
    (folder / "site").mkdir()
    names = [f"page_{number:03}" for number in range(count)]
    (folder / "site" / "links").write_text("\n".join([*names, "missing"]))
    for name in names:
        (folder / "site" / name).write_text("12")
    return [Gate(folder / "site" / name, "12") for name in names[count // 2 :][:2]]


def check_found_items(trial: Trial, count: int) -> None:
    assert trial.output() == {"links": count + 1, "bytes": 2 * count, "broken": 1}
    assert trial.lines("site/requests") == [f"page_{number:03}" for number in range(count)]


def nothing(folder: Path, count: int) -> list[Gate]:
    return []


ANSWER = f"{ADDRESS}/api/v1/workflows/wf_1/waits/approve/answer"
PAY = f"{ADDRESS}/api/v1/workflows/wf_1/signals/paid"
LINK = f"{ADDRESS}/api/v1/waits/$LINK"

MAKE_LINK = """
from orchestration.sdk import Run
result = Run(workflow_id).answer_link("address", by="customer")
"""


async def approve(trial: Trial, gates: list[Gate]) -> None:
    """Kill while a question is open, and answer it twice."""
    waiting = await trial.watch.until("workflow.waiting")
    assert waiting.data.title == "Deploy shop:7?"
    await trial.middle()
    assert json.loads(await trial.run_line(ANSWER))["changed"] is True
    with pytest.raises(RefusedLine, match="ALREADY_ANSWERED"):
        await trial.run_line(ANSWER)


def check_approval(trial: Trial, count: int) -> None:
    assert trial.output() == {"deploy": "shop:7 was approved by ", "keep": None}
    assert trial.lines("journal") == ["built shop:7", "deployed shop:7"]
    assert len(trial.watch.of("workflow.wait_answered")) == 1


def shards(folder: Path, count: int) -> list[Gate]:
    (folder / "shards").mkdir()
    for number in (1, 2, 4, 5):
        (folder / "shards" / f"shard_{number}").write_text("x" * number)
    return [Gate(folder / "shards" / "shard_3", "xxx")]


def check_training(trial: Trial, count: int) -> None:
    assert trial.output() == {"weight": 15}
    assert trial.lines("shards/bill") == [f"shard_{number}" for number in (1, 2, 3, 4, 5)]
    started = Counter(event["stage_name"] for event in trial.watch.of("workflow.stage_started"))
    assert (started["find_shards"], started["publish"]) == (1, 1)


TEST_MODULE = """
import pathlib
import unittest


class BuildTest(unittest.TestCase):
    def test_gate(self):
        self.assertEqual(pathlib.Path("data").read_text(), "ready")
"""


def project(folder: Path, count: int) -> list[Gate]:
    (folder / "project").mkdir()
    (folder / "project" / "test_build.py").write_text(TEST_MODULE)
    return [Gate(folder / "project" / "data", "ready")]


async def build(trial: Trial, gates: list[Gate]) -> None:
    """Kill while the tests run, when the compiler has ended."""
    await trial.watch.until("workflow.stage_completed", stage_name="compile")
    await pass_gates(trial, gates)


def check_build(trial: Trial, count: int) -> None:
    archive = f"{trial.workflow_id}.zip"
    output = trial.output()
    digest, name = output["stdout"].split()
    assert (output["exit_code"], len(digest), name) == (0, 64, archive)
    assert trial.lines("journal") == [f"packed {archive}"]
    started = Counter(event["stage_name"] for event in trial.watch.of("workflow.stage_started"))
    assert (started["compile"], started["pack"], started["checksum"]) == (1, 1, 1)
    log = "\n".join(event["message"] for event in trial.watch.of("workflow.stage_log"))
    assert "Compiling" in log and "test_gate" in log and digest in log


async def fulfil(trial: Trial, gates: list[Gate]) -> None:
    """Kill while the payment is awaited, and again while the address is."""
    waiting = await trial.watch.until("workflow.waiting")
    assert (waiting.data.kind, waiting.data.wait_name) == ("signal", "paid")
    await trial.middle()
    # A repeated call gets the answer of the first one.
    assert await trial.run_line(PAY) == await trial.run_line(PAY)
    asked = await trial.watch.until("workflow.waiting")
    assert asked.data.title == "Where to ship order 7?"
    await trial.middle()
    link = trial.installation.engine.execute(MAKE_LINK, workflow_id=trial.workflow_id)
    assert json.loads(await trial.run_line(LINK, LINK=link.rpartition("/")[2]))["changed"] is True


def check_webhook(trial: Trial, count: int) -> None:
    assert trial.output() == "Shipped to Main Street 1, Springfield"
    assert trial.lines("journal") == ["invoice 7", "shipped 7"]
    assert [event["by"] for event in trial.watch.of("workflow.wait_answered")][-1] == "customer"


def orders(folder: Path, count: int) -> list[Gate]:
    (folder / "orders").mkdir()
    return [Gate(folder / "orders" / "orders", "2026-02-10T19:55,400\n2026-02-10T20:05,990\n2026-02-10T20:59,10\n")]


def check_report(trial: Trial, count: int) -> None:
    report = trial.folder / "orders" / "2026-02-10T20.report"
    assert trial.output() == str(report)
    assert report.read_text() == "2 orders, 1000 cents\n"
    assert trial.lines("orders/journal") == ["read for 2026-02-10T20"]


def segments(folder: Path, count: int) -> list[Gate]:
    (folder / "film").mkdir()
    for number in range(count):
        (folder / "film" / f"{number:02}.ts").write_text(f"segment {number}")
    middle = range(count // 2, count // 2 + 2)
    return [Gate(folder / "film" / f"{number:02}.ts", f"segment {number}") for number in middle]


def check_transcode(trial: Trial, count: int) -> None:
    film = trial.folder / "film"
    assert trial.output() == {"segments": count, "playlist": str(film / "film.txt")}
    names = [f"{number:02}" for number in range(count)]
    assert trial.lines("film/journal") == [f"{name}.ts" for name in names]
    assert [path.stem for path in sorted(film.glob("*.mp4"))] == names
    assert list(film.glob("*.part")) == []


JOBS = {
    job.page: job
    for job in (
        Job(page="retrieval", arrange=texts, check=check_retrieval, size=60),
        Job(page="agent-loop", arrange=notes, check=check_agent),
        Job(page="nightly-load", arrange=sources, check=check_nightly),
        Job(page="found-items", arrange=links, check=check_found_items, size=60),
        Job(page="approval", arrange=nothing, check=check_approval, converse=approve),
        Job(page="training", arrange=shards, check=check_training, pool="gpu"),
        Job(page="build", arrange=project, check=check_build, converse=build),
        Job(page="webhook", arrange=nothing, check=check_webhook, converse=fulfil),
        Job(page="hourly-report", arrange=orders, check=check_report),
        Job(
            page="transcode",
            arrange=segments,
            check=check_transcode,
            arguments=("--param", f"encoder={ENCODER}"),
            size=6,
        ),
    )
}
