"""The queue of the replays: shared reads, turns, and reads whose clients have left. With a real log and relay."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Any

import pytest

from realtime.connection.dispatcher import RequestDispatcher
from realtime.database import in_database_thread
from realtime.eventlog.epoch import renew_epoch
from realtime.limits import Limits
from realtime.protocol.decoder import Incoming
from realtime.protocol.requests import Subscribe
from realtime.queries import replay_reads, resume
from realtime.queries.chunk_cache import ChunkCache
from realtime.queries.replay_reads import ReplayReads, RequestTimeout
from realtime.queries.replay_turns import MAX_REST_SECONDS, ReplayTurns
from realtime.queries.resume import ReplayChunk
from tests.broadcast.relay_sandbox import ARRIVAL_TIMEOUT_SECONDS, OTHER, ROOM, RelaySandbox, Subscriber, prune, seqs_of

pytestmark = pytest.mark.django_db(transaction=True)

ONE_AT_A_TIME = Limits(max_concurrent_replays=1)


def subscribers(sandbox: RelaySandbox, count: int, limits: Limits = ONE_AT_A_TIME) -> list[Subscriber]:
    """Return connections of one process."""
    queue = ReplayReads(limits)
    return [Subscriber(sandbox.relay, limits, queue) for _ in range(count)]


async def test_clients_that_resume_together_share_their_reads(
    sandbox: RelaySandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resume, "REPLAY_CHUNK_EVENTS", 10)
    committed = await sandbox.commit(ROOM, count=35)
    clients = subscribers(sandbox, 50, Limits())
    sandbox.reads.clear()
    await asyncio.gather(*(client.subscribe(ROOM, since=0) for client in clients))
    assert sandbox.reads == ["_read_positions", "find_resume_point", *["read_chunk"] * 3]
    assert all(client.seqs == seqs_of(committed) for client in clients)


async def test_chunks_read_a_moment_ago_are_used_and_later_events_are_not_missed(
    sandbox: RelaySandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resume, "REPLAY_CHUNK_EVENTS", 10)
    first, second = subscribers(sandbox, 2)
    committed = await sandbox.commit(ROOM, count=15)
    await first.subscribe(ROOM, since=0)
    sandbox.reads.clear()
    committed += await sandbox.commit(ROOM, count=20)
    response = await second.subscribe(ROOM, since=0)
    assert (response.missed, response.seq) == (35, committed[-1].event.seq)
    assert second.seqs == seqs_of(committed)
    assert all(message["replay"] for message in second.messages)
    # Both chunks of the first replay were used; two more follow them.
    assert sandbox.reads == ["find_resume_point", "read_chunk", "read_chunk"]


async def test_cached_chunk_beyond_the_position_of_the_response_is_not_used(
    sandbox: RelaySandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resume, "REPLAY_CHUNK_EVENTS", 10)
    early, late = subscribers(sandbox, 2)
    committed = await sandbox.commit(ROOM, count=15)
    has_read = asyncio.Event()
    monkeypatch.setattr(early, "caught_up", has_read.wait)
    subscribing = asyncio.create_task(early.subscribe(ROOM, since=0))
    await early.has(10)
    committed += await sandbox.commit(ROOM, count=3)
    await late.subscribe(ROOM, since=0)
    assert late.seqs == seqs_of(committed)
    await sandbox.send(committed, room=ROOM)
    await sandbox.settle()
    has_read.set()
    await subscribing
    await early.has(18)
    assert early.seqs == seqs_of(committed)
    assert [message.get("replay") for message in early.messages] == [True] * 15 + [None] * 3


async def test_cached_chunk_of_another_epoch_is_not_used(sandbox: RelaySandbox) -> None:
    before = await sandbox.commit(ROOM, count=3)
    first, second = subscribers(sandbox, 2)
    await first.subscribe(ROOM, since=before[0].event.seq)
    await in_database_thread(renew_epoch)
    await sandbox.relay.backfill.compare_with_log()
    response = await second.subscribe(ROOM, since=before[0].event.seq)
    assert (response.recovered, response.reason, second.messages) == (False, "trimmed", [])


async def test_cached_chunk_of_pruned_events_is_not_used(sandbox: RelaySandbox) -> None:
    before = await sandbox.commit(ROOM, count=3)
    first, second = subscribers(sandbox, 2)
    await first.subscribe(ROOM, since=before[0].event.seq)
    await prune(keep=1)
    response = await second.subscribe(ROOM, since=before[0].event.seq)
    assert (response.recovered, response.reason, second.messages) == (False, "trimmed", [])


async def test_request_during_a_read_gets_a_later_one(sandbox: RelaySandbox) -> None:
    first, second = subscribers(sandbox, 2, Limits(max_concurrent_replays=2))
    with sandbox.paused("find_resume_point", after_reading=True) as pause:
        early = asyncio.create_task(first.subscribe(ROOM, snapshot=True))
        await pause.reached()
        committed = await sandbox.commit(ROOM)
        assert (await second.subscribe(ROOM, snapshot=True)).seq == committed[-1].event.seq
    assert (await early).seq < committed[-1].event.seq


def dispatch(client: Subscriber, channels: Sequence[str]) -> RequestDispatcher:
    """Let a connection subscribe to channels without waiting, as a client that pipelines its requests does."""
    dispatcher = RequestDispatcher(client)
    for channel in channels:
        request = Subscribe(channel=channel, snapshot=True)
        dispatcher.dispatch(Incoming(request=request, event="subscribe", correlation_id=channel), request)
    return dispatcher


async def test_connections_take_turns_regardless_of_their_number_of_requests(
    sandbox: RelaySandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    blocking, greedy, modest = subscribers(sandbox, 3)
    answers: list[Subscriber] = []
    for client in (greedy, modest):
        monkeypatch.setattr(client, "write", lambda _, client=client: answers.append(client))
    with sandbox.paused("find_resume_point", after_reading=False) as pause:
        first = asyncio.create_task(blocking.subscribe("workflow:blocking", snapshot=True))
        await pause.reached()
        dispatch(greedy, [f"workflow:greedy_{number}" for number in range(16)])
        await sandbox.until(lambda: len(sandbox.relay.rooms) == 2)
        dispatch(modest, ["workflow:modest"])
        await sandbox.until(lambda: len(sandbox.relay.rooms) == 3)
    await first
    await sandbox.until(lambda: len(answers) == 17)
    assert answers.index(modest) == 1


async def test_read_without_a_waiting_client_leaves_the_queue(sandbox: RelaySandbox) -> None:
    blocking, leaving, staying = subscribers(sandbox, 3)
    sandbox.reads.clear()
    with sandbox.paused("find_resume_point", after_reading=False) as pause:
        first = asyncio.create_task(blocking.subscribe("workflow:blocking", snapshot=True))
        await pause.reached()
        gone = dispatch(leaving, [ROOM, OTHER])
        await sandbox.until(lambda: ROOM in sandbox.relay.rooms)
        last = asyncio.create_task(staying.subscribe("workflow:staying", snapshot=True))
        await sandbox.until(lambda: "workflow:staying" in sandbox.relay.rooms)
        gone.cancel()
        await gone.stop()
    await asyncio.gather(first, last)
    assert sandbox.reads.count("find_resume_point") == 2


async def test_shared_read_continues_for_the_clients_that_still_wait(sandbox: RelaySandbox) -> None:
    leaving, staying = subscribers(sandbox, 2)
    committed = await sandbox.commit(ROOM, count=2)
    blocking = Subscriber(sandbox.relay, ONE_AT_A_TIME, leaving.replay_reads)
    with sandbox.paused("find_resume_point", after_reading=False) as pause:
        first = asyncio.create_task(blocking.subscribe(OTHER, snapshot=True))
        await pause.reached()
        gone = asyncio.create_task(leaving.subscribe(ROOM, since=0))
        stays = asyncio.create_task(staying.subscribe(ROOM, since=0))
        await sandbox.until(lambda: ROOM in sandbox.relay.rooms)
        gone.cancel()
        await asyncio.wait([gone])
    await asyncio.gather(first, stays)
    assert (leaving.seqs, staying.seqs) == ([], seqs_of(committed))


async def test_failed_read_fails_for_every_waiting_client_and_frees_its_turn(sandbox: RelaySandbox) -> None:
    clients = subscribers(sandbox, 3)
    sandbox.fail_next("find_resume_point")
    results = await asyncio.gather(
        *(client.subscribe(ROOM, snapshot=True) for client in clients), return_exceptions=True
    )
    assert [type(result) for result in results] == [OSError] * 3
    assert (await clients[0].subscribe(ROOM, snapshot=True)).status == "subscribed"


async def test_hanging_read_fails_and_so_do_all_that_wait_behind_it(sandbox: RelaySandbox) -> None:
    queue = ReplayReads(Limits(max_concurrent_replays=1, request_timeout_seconds=0.5))
    sandbox.reads.clear()
    with sandbox.paused("read_chunk", after_reading=False) as pause:
        hanging = asyncio.create_task(queue.chunk(ROOM, epoch=sandbox.epoch, after=0, through=9))
        await pause.reached()
        waiting: list[asyncio.Task[Any]] = [
            asyncio.create_task(queue.resume_point(f"workflow:{n}", since=0, epoch=None, with_snapshot=False))
            for n in range(2)
        ]
        waiting.append(asyncio.create_task(queue.chunk(OTHER, epoch=sandbox.epoch, after=0, through=9)))
        async with asyncio.timeout(ARRIVAL_TIMEOUT_SECONDS):
            results = await asyncio.gather(hanging, *waiting, return_exceptions=True)
    assert [type(result) for result in results] == [RequestTimeout] * 4
    assert sandbox.reads == ["read_chunk"]
    # Its turn is free again.
    await queue.resume_point(OTHER, since=None, epoch=None, with_snapshot=True)


async def test_time_in_the_queue_does_not_count(sandbox: RelaySandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    async def read_slowly(*_: object, **__: object) -> ReplayChunk:
        await asyncio.sleep(0.8)
        return chunk(0, 1)

    monkeypatch.setattr(replay_reads, "in_database_thread", read_slowly)
    queue = ReplayReads(Limits(max_concurrent_replays=1, request_timeout_seconds=2))
    # The last one waits for 1.6 s, and takes 0.8 s.
    await asyncio.gather(*(queue.chunk(f"workflow:{n}", epoch="e", after=0, through=1) for n in range(3)))


def chunk(after: int, size_bytes: int) -> ReplayChunk:
    return ReplayChunk(
        epoch="e", after=after, through=after + 1, event_count=1, parts=[], size_bytes=size_bytes, cost_bytes=size_bytes
    )


async def test_cache_is_bounded_in_bytes_and_drops_the_oldest_chunks() -> None:
    cache = ChunkCache(max_bytes=100_000)
    for after in range(10):
        cache.put(ROOM, chunk(after, 10_000))
        assert cache.size_bytes <= 100_000
    assert [after for after in range(10) if cache.get(ROOM, after) is not None] == [6, 7, 8, 9]
    cache.put(ROOM, chunk(20, 60_000))
    assert cache.get(ROOM, 20) is None
    cache.put(ROOM, chunk(21, 45_000))
    assert [after for after in range(22) if cache.get(ROOM, after) is not None] == [21]


async def test_cache_is_empty_after_a_second(sandbox: RelaySandbox) -> None:
    cache = ChunkCache(max_bytes=100_000)
    cache.put(ROOM, chunk(0, 10))
    cache.put(OTHER, chunk(0, 10))
    await sandbox.until(lambda: cache.size_bytes == 0)
    assert cache.get(ROOM, 0) is None


async def test_long_replays_leave_half_of_the_time_to_others(
    sandbox: RelaySandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    committed = await sandbox.commit(ROOM, count=20)
    read_seconds = MAX_REST_SECONDS
    times: list[float] = []

    def read_slowly(*arguments: Any, **options: Any) -> ReplayChunk:
        times.append(time.monotonic())
        time.sleep(read_seconds)
        result = resume.read_chunk(*arguments, **options)
        times.append(time.monotonic())
        return result

    monkeypatch.setattr(replay_reads, "read_chunk", read_slowly)
    queue, through = ReplayReads(ONE_AT_A_TIME), committed[-1].event.seq
    chunks = [queue.chunk(ROOM, epoch=sandbox.epoch, after=through - after, through=through) for after in (20, 10)]
    await asyncio.gather(*chunks)
    assert times[2] - times[1] >= read_seconds


async def test_first_and_later_reads_take_turns_in_alternation() -> None:
    turns, order = ReplayTurns(1), list[str]()
    may_end = asyncio.Event()

    async def read(name: str, *, is_first: bool) -> None:
        async with turns.turn(is_first=is_first):
            order.append(name)
            await may_end.wait()

    reads = [asyncio.create_task(read("first 0", is_first=True))]
    await asyncio.sleep(0)
    reads += [asyncio.create_task(read(f"later {number}", is_first=False)) for number in range(3)]
    reads += [asyncio.create_task(read(f"first {number}", is_first=True)) for number in range(1, 20)]
    await asyncio.sleep(0)
    # Those that leave while they wait take no turn.
    reads[3].cancel()
    reads[4].cancel()
    may_end.set()
    await asyncio.gather(*reads, return_exceptions=True)
    # A first read follows each later one. The second later read waits for its rest, not for all first reads.
    assert order[:3] == ["first 0", "later 0", "first 2"]
    assert [name for name in order if name.startswith("later")] == ["later 0", "later 1"]
    assert [name for name in order if name.startswith("first")] == ["first 0", *(f"first {n}" for n in range(2, 20))]
