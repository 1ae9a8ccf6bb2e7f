"""Anything, in any order: clients come, go, stall and resume while writers write and parts die. Nothing is ever lost.

A Hypothesis state machine on real parts. `MODEL_EXAMPLES=100 MODEL_STEPS=60 MODEL_DATABASE=postgres make test
ARGS=tests/broadcast/test_delivery_model.py` looks further than the run of all tests does.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from typing import Any, ClassVar

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test

from tests.broadcast.delivery_model import Answered, Loop, ModelClient, Received, Writers, judge
from tests.harness.fixtures import StartServer
from tests.harness.server import MahavishnuServer

EXAMPLES = int(os.environ.get("MODEL_EXAMPLES", "16"))
STEPS = int(os.environ.get("MODEL_STEPS", "30"))
DATABASE = os.environ.get("MODEL_DATABASE", "sqlite")

CLIENTS = 3
WRITERS = 2

KIB = 1024

some_client = st.integers(0, CLIENTS - 1)
some_room = st.sampled_from(["global", "a", "b"])
some_rooms = st.lists(st.sampled_from(["a", "b", "c"]), max_size=3, unique=True)
some_padding = st.sampled_from([0, 0, 0, 0, 2 * KIB, 30 * KIB])
some_transaction = st.tuples(st.lists(some_rooms, min_size=1, max_size=4), some_padding, st.sampled_from([False, True]))

# What a writer is doing while something else happens: which one, what, and how often.
some_writing = st.tuples(
    st.integers(0, WRITERS - 1), st.lists(some_transaction, max_size=4), st.sampled_from([1, 1, 1, 8])
)
numbers = itertools.count(1)


class Delivery(RuleBasedStateMachine):
    """One example: fresh clients and rooms, on the server that the examples share."""

    server: MahavishnuServer
    writers: Writers
    loop: Loop
    kinds: ClassVar[set[str]] = set()
    """What clients have met with, in all examples together."""

    def __init__(self) -> None:
        super().__init__()
        self.prefix = f"workflow:m{next(numbers)}_"
        self.clients: list[ModelClient] = []
        self.groups = "up"
        self.restarts_left = 1
        self.renewals_left = 1
        self.steps: list[str] = []

    def note(self, step: str) -> None:
        self.steps.append(step)

    def room(self, name: str) -> str:
        return name if name == "global" else self.prefix + name

    def meanwhile(self, writing: Any) -> None:
        writer, transactions, times = writing
        self.note(f"  writer {writer} begins {transactions}, {times} times")
        self.writers.start(
            writer, [([list(map(self.room, rooms)) for rooms in each], *rest) for each, *rest in transactions * times]
        )

    # --- Clients -----------------------------------------------------------------------------------------------------

    @initialize(rooms=st.lists(st.lists(some_room, min_size=1, unique=True), min_size=CLIENTS, max_size=CLIENTS))
    def begin(self, rooms: list[list[str]]) -> None:
        for number, of_client in enumerate(rooms):
            client = ModelClient(self.server)
            self.clients.append(client)
            self.loop.run(client.connect())
            for name in of_client:
                self.subscribe(number, name)

    @rule(number=some_client, name=some_room, writing=some_writing)
    def subscribe_or_unsubscribe(self, number: int, name: str, writing: Any) -> None:
        self.meanwhile(writing)
        client = self.clients[number]
        if client.is_connected and not client.stalled:
            subscription = client.subscriptions.get(self.room(name))
            if subscription is None or not subscription.active:
                self.subscribe(number, name)
            else:
                self.note(f"client {number} unsubscribes from {name}")
                self.loop.run(client.unsubscribe(self.room(name)))

    def subscribe(self, number: int, name: str) -> None:
        self.note(f"client {number} subscribes to {name}")
        self.loop.run(self.clients[number].subscribe(self.room(name)))

    @rule(number=some_client, writing=some_writing)
    def drop_or_resume(self, number: int, writing: Any) -> None:
        self.meanwhile(writing)
        client = self.clients[number]
        self.note(f"client {number} {'drops' if client.is_connected else 'resumes'}")
        self.loop.run(client.drop() if client.is_connected else client.connect())

    @rule(number=some_client, writing=some_writing)
    def stall_or_go_on(self, number: int, writing: Any) -> None:
        self.meanwhile(writing)
        client = self.clients[number]
        self.note(f"client {number} {'goes on' if client.stalled else 'stalls'}")
        self.loop.run(client.go_on() if client.stalled else client.stall())

    @rule(writing=some_writing)
    def write(self, writing: Any) -> None:
        self.meanwhile(writing)
        self.note("writers finish")
        self.writers.finish()

    # --- The log -----------------------------------------------------------------------------------------------------

    @rule(keep=st.sampled_from([0, 20, 200, 1000]), writing=some_writing)
    def prune(self, keep: int, writing: Any) -> None:
        self.meanwhile(writing)
        self.note(f"the log is pruned to {keep} events")
        self.writers.prune(keep)

    @precondition(lambda self: self.renewals_left > 0)
    @rule(writing=some_writing)
    def renew_epoch(self, writing: Any) -> None:
        self.renewals_left -= 1
        self.meanwhile(writing)
        self.note("the log gets a new name")
        self.writers.renew_epoch()

    # --- Faults ------------------------------------------------------------------------------------------------------

    @rule(how=st.sampled_from(["killed", "frozen"]), writing=some_writing)
    def take_the_bus_away_or_bring_it_back(self, how: str, writing: Any) -> None:
        self.meanwhile(writing)
        self.note(f"the bus was {self.groups}, and is now {how if self.groups == 'up' else 'up'}")
        if self.groups == "up":
            (self.server.valkey.kill if how == "killed" else self.server.valkey.pause)()
            self.groups = how
        else:
            self.bring_the_bus_back()

    def bring_the_bus_back(self) -> None:
        if self.groups != "up":
            (self.server.valkey.start if self.groups == "killed" else self.server.valkey.resume)()
        self.groups = "up"

    @precondition(lambda self: self.restarts_left > 0)
    @rule(kill=st.booleans(), writing=some_writing)
    def restart_the_server(self, kill: bool, writing: Any) -> None:
        self.restarts_left -= 1
        self.meanwhile(writing)
        self.note(f"the server is {'killed' if kill else 'ended'} and started")
        for client in self.clients:
            # Whoever takes nothing would hold up the end of the server.
            self.loop.run(client.go_on())
        (self.server.kill if kill else self.server.terminate)()
        self.server.start()

    # --- What must be true -------------------------------------------------------------------------------------------

    def teardown(self) -> None:
        """Bring everything back, let everybody resume, and hold what each was given against what was committed."""
        self.bring_the_bus_back()
        self.writers.finish()
        for client in self.clients:
            self.loop.run(client.go_on())
            if not client.is_connected:
                self.loop.run(client.connect())
        self.writers.start(0, [([[self.room("a"), self.room("b")]], 0, False)])
        self.writers.finish()
        last = self.writers.committed[-1].seq if self.writers.committed else 0
        try:
            for client in self.clients:
                for subscription in client.subscriptions.values():
                    if subscription.active:
                        self.loop.run(client.reaches(subscription.room, last))
                        judge(subscription, self.writers)
        except BaseException as error:
            closed = [client.closed_with for client in self.clients]
            error.add_note("\n".join([*self.steps, f"closed with {closed}"]))
            raise
        finally:
            for client in self.clients:
                self.kinds.update(kind_of(entry) for of in client.subscriptions.values() for entry in of.story)
            for client in self.clients:
                self.loop.run(client.drop())


def kind_of(entry: Answered | Received) -> str:
    if isinstance(entry, Received):
        return "replayed" if entry.replay else "live"
    if entry.since is None:
        return "subscribed"
    return str(entry.data.get("reason", "recovered"))


@pytest.fixture
def world(start_server: StartServer) -> Iterator[None]:
    server = start_server(
        database=DATABASE, max_send_queue_bytes=256 * KIB, send_stall_seconds=5, publish_timeout_seconds=1
    )
    Delivery.server, Delivery.writers, Delivery.loop = server, Writers(server, WRITERS), Loop()
    yield
    Delivery.loop.close()
    Delivery.writers.close()


@pytest.mark.timeout(3600)
@pytest.mark.usefixtures("world")
def test_whatever_happens_no_event_is_lost_doubled_or_reordered_on_any_channel() -> None:
    run_state_machine_as_test(
        Delivery,
        settings=settings(
            max_examples=EXAMPLES,
            stateful_step_count=STEPS,
            deadline=None,
            database=None,
            # An example takes seconds, so what fails is shown as it was found; the steps are in the error's note.
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        ),
    )
    # Otherwise there was little to be lost.
    assert Delivery.kinds >= {"subscribed", "live", "replayed", "recovered"}
