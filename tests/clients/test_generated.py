"""The typed messages of the clients are those of the server (`make clients`)."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from generator.files import render
from generator.model import OWN_REQUESTS
from mahavishnu_client import messages, requests
from mahavishnu_client.sync_requests import SyncRequests
from realtime.events.types import EVENT_TYPES
from realtime.protocol.requests import REQUESTS
from tests.harness.programs import PROJECT_DIR

FILES = render()


@pytest.mark.parametrize("path", FILES)
def test_generated_file_is_current(path: str) -> None:
    assert (PROJECT_DIR / "clients" / path).read_text(encoding="utf-8") == FILES[path], "run `make clients`"


@pytest.mark.parametrize("name", EVENT_TYPES)
def test_event_of_the_client_has_the_fields_of_the_server(name: str) -> None:
    server: Any = EVENT_TYPES[name]
    fields = set(messages.EVENT_TYPES[name].__struct_fields__)
    assert fields == {*server.__struct_fields__, "test", "truncated"}


@pytest.mark.parametrize("methods", [requests.Requests, SyncRequests])
def test_every_request_is_a_method(methods: type) -> None:
    assert REQUESTS.keys() - vars(methods).keys() == set(OWN_REQUESTS)


@pytest.mark.parametrize("name", EVENT_TYPES)
def test_sample_of_the_server_is_an_event_of_the_client(name: str) -> None:
    server: Any = EVENT_TYPES[name]
    ids = {f"{kind}_id": "x" for kind in ("workflow", "pool", "worker") if f"{kind}_id" in server.__struct_fields__}
    data = {"timestamp": "2026-02-10T20:00:00Z", **ids, **server.sample}
    decoded = msgspec.convert(msgspec.to_builtins(data), messages.EVENT_TYPES[name])
    assert type(decoded) is messages.EVENT_TYPES[name]
