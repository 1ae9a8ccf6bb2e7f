"""Every example of `docs/protocol.md` with a token, sent to a real server that requires one."""

from __future__ import annotations

import json
import re

from websockets.asyncio.client import connect

from realtime.connection.authentication import MAX_FIRST_MESSAGE_BYTES
from realtime.connection.expiry import MIN_NOTICE_SECONDS
from realtime.limits import Limits
from tests.docs.markdown import Block, blocks, page
from tests.docs.message_comparison import comparable
from tests.harness.client import Client, Message
from tests.harness.server import MahavishnuServer
from tests.harness.tokens import token

PROTOCOL = page("docs/protocol.md")


def documented(section: str) -> list[Block]:
    return [block for block in blocks(PROTOCOL, language="json") if block.section == section]


def test_writing_a_client_has_a_step_on_tokens() -> None:
    section = PROTOCOL.read_text(encoding="utf-8").partition("## Writing a client")[2]
    step = section.partition("\n1. ")[2].partition("\n2. ")[0]
    for word in ("(#authentication)", "`auth`", "`session.expiring`", "`refresh_token`", "`AUTH_FAILED`"):
        assert word in step


def assert_same(block: Block, received: Message) -> None:
    def without_times(message: Message) -> Message:
        result = comparable(message, exact_seq=True)
        if re.fullmatch(r"[-0-9]{10}T[:0-9]{8}Z", result["data"].get("expires_at", "")):
            result["data"]["expires_at"] = "a time"
        if type(result["data"].get("expires_in_ms")) is int:
            result["data"]["expires_in_ms"] = "a number"
        return result

    assert without_times(received) == without_times(block.message), block.where


async def test_documented_session_with_a_token_matches_the_server(closed_server: MahavishnuServer) -> None:
    (auth, authenticated), (refresh, refreshed) = documented("auth"), documented("refresh_token")
    (expiring,), (unsubscribed,) = documented("session.expiring"), documented("session.unsubscribed")
    async with connect(closed_server.ws_url, compression=None) as connection:
        client = Client(connection)
        await client.send_raw(auth.text.replace("TOKEN", token("workflow:read", "pool:read", seconds=4)))
        assert_same(authenticated, await client.next())
        assert (await client.event("session.created"))["data"]["user_id"] == "ada"
        await client.subscribe("pool:pool_local")
        assert_same(expiring, await client.event("session.expiring"))
        await client.send_raw(refresh.text.replace("TOKEN", token("workflow:read")))
        assert_same(refreshed, await client.next())
        assert_same(unsubscribed, await client.next())
        answer = await client.request("subscribe", channel="pool:pool_local")
        assert answer["error_code"] == "FORBIDDEN", json.dumps(answer)


def test_bounds_before_authentication_are_stated() -> None:
    limits, text = Limits(), " ".join(PROTOCOL.read_text(encoding="utf-8").split())
    assert f"one message of at most {MAX_FIRST_MESSAGE_BYTES // 1024} KiB, which must be `auth`" in text
    assert f"[`auth`](#auth) within {limits.auth_timeout_seconds:g} s" in text
    assert f"At most {limits.max_unauthenticated} connections of a process" in text
    assert f"and {limits.max_unauthenticated_per_address} of one address, may be unauthenticated" in text
    assert f"with {limits.max_auth_failures_per_minute} refused tokens in a minute is answered 429 for 60 s" in text
    assert f"{MIN_NOTICE_SECONDS:g} s before, or a tenth of their lifetime" in text
