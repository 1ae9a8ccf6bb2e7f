"""Each job of the cookbook, started as its page says, seen to its end, and killed in the middle."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from tests.cookbook.installation import KILLS, Installation
from tests.cookbook.jobs import JOBS, Job
from tests.cookbook.trial import RECIPES, begin

# As many as the pages say.
SIZES = {"retrieval": 400, "found-items": 500, "transcode": 8}

KILLED = {
    "retrieval": "worker",
    "agent-loop": "child",
    "nightly-load": "valkey",
    "found-items": "scheduler",
    "approval": "server",
    "training": "worker",
    "build": "child",
    "webhook": "server",
    "hourly-report": "worker",
    "transcode": "child",
}
"""What is killed in each job."""

CHAOS = [(page, kill) for page, usual in KILLED.items() for kill in KILLS if kill != usual]


async def run_job(
    installation: Installation, job: Job, folder: Path, *, size: int, kill: Callable[[], None] = lambda: None
) -> None:
    """Run a job from its files to its end, and check what has come of it."""
    gates = job.arrange(folder, size)
    async with begin(installation, job.page, folder, *job.arguments, kill=kill) as trial:
        await job.converse(trial, gates)
        await trial.watch.until_end()
        await trial.watch.assert_nothing_is_silent()
        await trial.watch.assert_each_item_ended_once()
        job.check(trial, size)
    for pool in {job.pool, "local"}:
        installation.assert_counters_match(pool)


def test_every_page_is_a_job() -> None:
    assert set(RECIPES) == set(JOBS) == set(KILLED)


@pytest.mark.parametrize("page", JOBS)
async def test_job_reaches_its_end(installation: Installation, tmp_path: Path, page: str) -> None:
    job = JOBS[page]
    await run_job(installation, job, tmp_path, size=SIZES.get(page, job.size))


@pytest.mark.parametrize(("page", "kill"), KILLED.items())
async def test_job_that_is_killed_in_the_middle_reaches_the_same_end(
    installation: Installation, tmp_path: Path, page: str, kill: str
) -> None:
    job = JOBS[page]
    await run_job(installation, job, tmp_path, size=job.size, kill=partial(KILLS[kill], installation, job.pool))


@pytest.mark.chaos
@pytest.mark.parametrize(("page", "kill"), CHAOS)
async def test_job_survives_every_kill(
    short_lease_installation: Installation, tmp_path: Path, page: str, kill: str
) -> None:
    job = JOBS[page]
    kill_it = partial(KILLS[kill], short_lease_installation, job.pool)
    await run_job(short_lease_installation, job, tmp_path, size=job.size, kill=kill_it)
