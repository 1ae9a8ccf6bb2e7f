"""What a server says about itself."""

from __future__ import annotations

import tomllib
from dataclasses import replace

from realtime.limits import Limits
from realtime.protocol.server_info import SERVER_VERSION, ClientLimits
from tests.docs.markdown import page


def test_server_version_is_that_of_the_distribution() -> None:
    project = tomllib.loads(page("pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["version"] == SERVER_VERSION


def test_client_limits_are_those_of_the_server() -> None:
    limits = replace(Limits(), max_subscriptions=3, max_messages_per_second=0.5)
    assert ClientLimits.of(limits) == ClientLimits(
        max_message_bytes=limits.max_message_bytes,
        max_subscriptions=3,
        max_messages_per_second=0.5,
        max_message_burst=limits.max_message_burst,
        max_replay_events=limits.max_replay_events,
        max_event_data_bytes=limits.max_event_data_bytes,
    )
