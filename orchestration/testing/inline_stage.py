"""Run one attempt in the process of a test and on its database connections, and leave both as they were."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from django.db import connection, connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper

from orchestration.sdk import StageFailed
from orchestration.services import Claim, Slot
from orchestration.testing.inline_streams import InlineStreams
from orchestration.worker.executor import call_stage
from orchestration.worker.process_state import ProcessState
from orchestration.worker.slot_table import SharedSlot
from orchestration.worker.stage_connections import has_transaction
from orchestration.worker.stage_result import OpenTransaction, Raised, Recorded, Returned

UNUSABLE_TRANSACTION: Final = (
    "The stage handled a database error, and the transaction of the test cannot continue after it. Put the statement "
    "into transaction.atomic(), or run the test without a transaction: TransactionTestCase instead of TestCase, "
    "django_db(transaction=True) instead of django_db"
)


def run_stage_inline(
    claim: Claim, owner: Slot, slot: SharedSlot, streams: InlineStreams
) -> Returned | Raised | Recorded:
    """Run the stage; return its checked output, or the exception that it raised.

    Must be called in the thread of the test. Its transaction, if any, remains usable after every stage.
    """
    savepoint = transaction.savepoint() if connection.in_atomic_block else None
    depths = {each.alias: len(each.atomic_blocks) for each in connections.all(initialized_only=True)}
    state = ProcessState.capture()
    try:
        result = call_stage(claim, owner, slot, streams=streams)
    finally:
        streams.close()
        state.restore()
    if (left_open := _end_transactions(depths)) and not isinstance(result, Raised | Recorded):
        result = Raised(OpenTransaction(left_open))
    if savepoint is None:
        return result
    if not connection.needs_rollback and connection.is_usable():
        transaction.savepoint_commit(savepoint)
        return result
    transaction.set_rollback(False)
    transaction.savepoint_rollback(savepoint)
    if isinstance(result, Raised):
        return result
    return Raised(StageFailed(UNUSABLE_TRANSACTION, may_retry=False))


def _end_transactions(depths: Mapping[str, int]) -> list[str]:
    """Roll back what the stage has begun and not ended. Return the databases, by alias.

    Args:
        depths: How many `atomic()` blocks were open before the stage, by database.
    """
    opened = connections.all(initialized_only=True)
    return sorted(each.alias for each in opened if _end_transaction(each, depths.get(each.alias, 0)))


def _end_transaction(opened: BaseDatabaseWrapper, depth: int) -> bool:
    left_open = len(opened.atomic_blocks) > depth
    while len(opened.atomic_blocks) > depth:
        opened.set_rollback(True)
        opened.atomic_blocks[-1].__exit__(None, None, None)
    if not opened.in_atomic_block and has_transaction(opened):
        opened.rollback()
        left_open = True
    if opened.connection is not None and not opened.in_atomic_block:
        opened.set_autocommit(opened.settings_dict["AUTOCOMMIT"])
    return left_open
