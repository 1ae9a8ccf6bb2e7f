"""Run a stage and record the end of its attempt in one transaction: what the stage wrote is stored exactly once."""

from __future__ import annotations

from collections.abc import Callable

from django.db import DEFAULT_DB_ALIAS, connection, connections, transaction

from orchestration.sdk import Context, StageFailed
from orchestration.services import AttemptOutcome
from orchestration.worker.stage_connections import has_transaction
from orchestration.worker.stage_result import REJECTIONS, OpenTransaction, Recorded, Returned


class AttemptSuperseded(StageFailed):
    """The stage has ended otherwise or has a newer attempt: what this attempt wrote is rolled back."""

    def __init__(self) -> None:
        super().__init__("The stage has ended or has a newer attempt; what this attempt wrote is rolled back")


def run_atomic_stage(
    run: Callable[[], Returned], complete: Callable[[Returned], AttemptOutcome], *, ctx: Context
) -> Recorded:
    """Run a stage in a transaction, complete its attempt in it, and commit. Log messages and progress are sent last.

    The end of the attempt locks its row. So the commit means that the attempt was the running one until then. If the
    commit fails, or its outcome is unknown, the exception passes. The caller then records a failure, which checks the
    attempt again, and changes nothing if the commit was executed.

    Args:
        run: Runs the stage and returns what it returned, checked.
        complete: Records that in the open transaction.
        ctx: The context of the stage.

    Raises:
        AttemptSuperseded: if the attempt is no longer the running one.
        StageFailed: if the next stages cannot run.
        OpenTransaction: if the stage left a transaction open.
        Exception: what the stage raises, or the commit.
    """
    open_before = _open_elsewhere()
    with ctx.held_reports() as send_reports, transaction.atomic():
        depth = len(connection.atomic_blocks)
        returned = run()
        if returned.wait_for_runs is not None:
            raise StageFailed("An atomic stage cannot wait for sub-runs", may_retry=False)
        left_open = _open_elsewhere() - open_before
        if len(connection.atomic_blocks) != depth:
            left_open.add(DEFAULT_DB_ALIAS)
        if left_open:
            raise OpenTransaction(sorted(left_open))
        ctx.flush_progress()
        send_reports()
        try:
            outcome = complete(returned)
        except REJECTIONS as rejection:
            raise StageFailed(str(rejection), may_retry=False) from rejection
        if not outcome.accepted:
            raise AttemptSuperseded
    return Recorded(outcome)


def _open_elsewhere() -> set[str]:
    """Return the other databases in which this thread has a transaction, by alias."""
    others = (each for each in connections.all(initialized_only=True) if each.alias != DEFAULT_DB_ALIAS)
    return {each.alias for each in others if has_transaction(each)}
