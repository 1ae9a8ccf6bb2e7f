"""Outages of the channel layer under a stream of changes: no event is lost, duplicated or out of order."""

from __future__ import annotations

import statistics

from tests.broadcast.change_stream import (
    PUBLISH_TIMEOUT_SECONDS,
    assert_all_received,
    assert_in_time,
    committed,
    recording,
    seconds_to_subscribe,
    streaming,
    subscribe_to_all,
)
from tests.harness.client import connect
from tests.harness.server import MahavishnuServer
from tests.harness.valkey import frozen


async def test_killed_frozen_and_stopped_channel_layer_loses_no_event(
    server_with_outages: MahavishnuServer,
) -> None:
    server = server_with_outages
    valkey = server.valkey
    async with connect(server) as client:
        await subscribe_to_all(client)
        start = committed(server, "global")[-1][0]
        async with recording(client) as record:
            with streaming(server):
                await record.until_fast()
                for break_layer, restore_layer in (
                    (valkey.kill, valkey.start),
                    (valkey.pause, valkey.resume),
                    (valkey.stop, valkey.start),
                ):
                    break_layer()
                    assert_in_time(await record.more(500))
                    restore_layer()
                    await record.until_fast()
            await assert_all_received(server, record, after=start)


async def test_repeated_channel_layer_restarts_lose_no_event(server_with_outages: MahavishnuServer) -> None:
    server = server_with_outages
    async with connect(server) as client:
        await subscribe_to_all(client)
        start = committed(server, "global")[-1][0]
        async with recording(client) as record:
            with streaming(server):
                for _ in range(4):
                    await record.more(15)
                    server.valkey.kill()
                    await record.more(5)
                    server.valkey.start()
                await record.until_fast()
            await assert_all_received(server, record, after=start)


async def test_server_started_without_a_channel_layer_delivers_and_joins_groups_later(
    server_with_outages: MahavishnuServer,
) -> None:
    server = server_with_outages
    server.terminate()
    server.valkey.kill()
    server.start()
    async with connect(server) as client:
        assert statistics.median(await subscribe_to_all(client)) < PUBLISH_TIMEOUT_SECONDS
        start = committed(server, "global")[-1][0]
        async with recording(client) as record:
            with streaming(server):
                assert_in_time(await record.more(300))
                server.valkey.start()
                await record.until_fast()
            await assert_all_received(server, record, after=start)


async def test_subscribing_while_the_channel_layer_hangs_is_served_from_the_log(
    server_with_outages: MahavishnuServer,
) -> None:
    server = server_with_outages
    async with connect(server) as client:
        await client.subscribe("pool:p")
        with frozen(server.valkey):
            durations = [await seconds_to_subscribe(client, room) for room in ("global", "worker:w1", "worker:w2")]
            # Only the first waits for the channel layer; another one may wait for a busy machine.
            assert min(durations) < PUBLISH_TIMEOUT_SECONDS
            server.services.change_worker_status(worker_id="w1", status="busy")
            names = {(event["event"], event["room"]) for event in await client.events(5)}
        assert names == {
            ("worker.status_changed", "pool:p"),
            ("worker.status_changed", "global"),
            ("worker.status_changed", "worker:w1"),
            ("pool.status_changed", "pool:p"),
            ("pool.status_changed", "global"),
        }
        server.services.change_worker_status(worker_id="w1", status="idle")
        await client.events(5)
        async with recording(client) as record:
            with streaming(server):
                await record.until_fast()
