"""A Hypothesis state machine on real parts: no event is lost, doubled or reordered, in any order of steps.

Clients connect, disconnect, stall and resume while writers write and processes are killed. `make chaos` runs 100
examples. More and longer ones, on Postgres: `MODEL_EXAMPLES=500 MODEL_STEPS=60 MODEL_DATABASE=postgres make chaos
ARGS=tests/broadcast/test_delivery_model.py`
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

from tests.broadcast.model_client import ClientLoop, ModelClient, ReceivedEvent, SubscribeResponse
from tests.broadcast.model_writers import Writers, check_history
from tests.harness.fixtures import StartServer
from tests.harness.server import MahavishnuServer

EXAMPLES = 5
MANY_EXAMPLES = int(os.environ.get("MODEL_EXAMPLES", "100"))
STEPS = int(os.environ.get("MODEL_STEPS", "30"))
DATABASE = os.environ.get("MODEL_DATABASE", "sqlite")

CLIENTS = 3
WRITERS = 2

KIB = 1024

some_client = st.integers(0, CLIENTS - 1)
some_room = st.sampled_from(["global", "summary", "a", "b"])
some_rooms = st.lists(st.sampled_from(["a", "b", "c"]), max_size=3, unique=True)
some_padding = st.sampled_from([0, 0, 0, 0, 2 * KIB, 30 * KIB])
some_transaction = st.tuples(st.lists(some_rooms, min_size=1, max_size=4), some_padding, st.sampled_from([False, True]))

# What a writer does during a step: its number, its transactions, and how often they repeat.
some_writing = st.tuples(
    st.integers(0, WRITERS - 1), st.lists(some_transaction, max_size=4), st.sampled_from([1, 1, 1, 8])
)
numbers = itertools.count(1)


class DeliveryMachine(RuleBasedStateMachine):
    """One example: fresh clients and rooms, on the server that the examples share."""

    server: MahavishnuServer
    writers: Writers
    loop: ClientLoop
    kinds: ClassVar[set[str]] = set()
    """What clients received, in all examples together."""

    def __init__(self) -> None:
        super().__init__()
        self.prefix = f"workflow:m{next(numbers)}_"
        self.clients: list[ModelClient] = []
        self.valkey = "up"
        self.restarts_left = 1
        self.renewals_left = 1
        self.steps: list[str] = []

    def log(self, step: str) -> None:
        self.steps.append(step)

    def room(self, name: str) -> str:
        return name if name in ("global", "summary") else self.prefix + name

    def start_writing(self, writing: Any) -> None:
        writer, transactions, times = writing
        self.log(f"  writer {writer} starts {transactions}, {times} times")
        self.writers.start(
            writer, [([list(map(self.room, rooms)) for rooms in each], *rest) for each, *rest in transactions * times]
        )

    # --- Clients -----------------------------------------------------------------------------------------------------

    @initialize(rooms=st.lists(st.lists(some_room, min_size=1, unique=True), min_size=CLIENTS, max_size=CLIENTS))
    def connect_clients(self, rooms: list[list[str]]) -> None:
        for number, of_client in enumerate(rooms):
            # The last one resumes all its rooms from one number.
            client = ModelClient(self.server, keeps_one_number=number == CLIENTS - 1)
            self.clients.append(client)
            self.loop.run(client.connect())
            for name in of_client:
                self.subscribe(number, name)

    @rule(number=some_client, name=some_room, writing=some_writing)
    def subscribe_or_unsubscribe(self, number: int, name: str, writing: Any) -> None:
        self.start_writing(writing)
        client = self.clients[number]
        if client.is_connected and not client.stalled:
            subscription = client.subscriptions.get(self.room(name))
            if subscription is None or not subscription.active:
                self.subscribe(number, name)
            else:
                self.log(f"client {number} unsubscribes from {name}")
                self.loop.run(client.unsubscribe(self.room(name)))

    def subscribe(self, number: int, name: str) -> None:
        self.log(f"client {number} subscribes to {name}")
        self.loop.run(self.clients[number].subscribe(self.room(name)))

    @rule(number=some_client, writing=some_writing)
    def drop_or_resume(self, number: int, writing: Any) -> None:
        self.start_writing(writing)
        client = self.clients[number]
        self.log(f"client {number} {'drops' if client.is_connected else 'resumes'}")
        self.loop.run(client.drop() if client.is_connected else client.connect())

    @rule(number=some_client, writing=some_writing)
    def stall_or_resume_reading(self, number: int, writing: Any) -> None:
        self.start_writing(writing)
        client = self.clients[number]
        self.log(f"client {number} {'resumes reading' if client.stalled else 'stalls'}")
        self.loop.run(client.resume_reading() if client.stalled else client.stall())

    @rule(writing=some_writing)
    def write(self, writing: Any) -> None:
        self.start_writing(writing)
        self.log("writers finish")
        self.writers.finish()

    # --- The log -----------------------------------------------------------------------------------------------------

    @rule(keep=st.sampled_from([0, 20, 200, 1000]), writing=some_writing)
    def prune(self, keep: int, writing: Any) -> None:
        self.start_writing(writing)
        self.log(f"the log is pruned to {keep} events")
        self.writers.prune(keep)

    @precondition(lambda self: self.renewals_left > 0)
    @rule(writing=some_writing)
    def renew_epoch(self, writing: Any) -> None:
        self.renewals_left -= 1
        self.start_writing(writing)
        self.log("the epoch is renewed")
        self.writers.renew_epoch()

    # --- Faults ------------------------------------------------------------------------------------------------------

    @rule(how=st.sampled_from(["killed", "frozen"]), writing=some_writing)
    def break_or_restore_valkey(self, how: str, writing: Any) -> None:
        self.start_writing(writing)
        self.log(f"Valkey was {self.valkey}, and is now {how if self.valkey == 'up' else 'up'}")
        if self.valkey == "up":
            (self.server.valkey.kill if how == "killed" else self.server.valkey.pause)()
            self.valkey = how
        else:
            self.restore_valkey()

    def restore_valkey(self) -> None:
        if self.valkey != "up":
            (self.server.valkey.start if self.valkey == "killed" else self.server.valkey.resume)()
        self.valkey = "up"

    @precondition(lambda self: self.restarts_left > 0)
    @rule(kill=st.booleans(), writing=some_writing)
    def restart_the_server(self, kill: bool, writing: Any) -> None:
        self.restarts_left -= 1
        self.start_writing(writing)
        self.log(f"the server is {'killed' if kill else 'stopped'} and started")
        for client in self.clients:
            # A stalled client would delay the shutdown of the server.
            self.loop.run(client.resume_reading())
        (self.server.kill if kill else self.server.terminate)()
        self.server.start()

    # --- Checks ------------------------------------------------------------------------------------------------------

    def teardown(self) -> None:
        """Restore all parts, resume all clients, and check what each received against what was committed."""
        self.restore_valkey()
        self.writers.finish()
        for client in self.clients:
            self.loop.run(client.resume_reading())
            if not client.is_connected:
                self.loop.run(client.connect())
        self.writers.start(0, [([[self.room("a"), self.room("b")]] * 2, 0, False)])
        self.writers.finish()
        try:
            for client in self.clients:
                for subscription in client.subscriptions.values():
                    if subscription.active:
                        self.loop.run(
                            client.reaches(subscription.room, self.writers.in_room(subscription.room)[-1].seq)
                        )
                        check_history(subscription, self.writers, keeps_one_number=client.keeps_one_number)
        except BaseException as error:
            closed = [client.closed_with for client in self.clients]
            error.add_note("\n".join([*self.steps, f"closed with {closed}"]))
            raise
        finally:
            for client in self.clients:
                self.kinds.update(kind_of(entry) for one in client.subscriptions.values() for entry in one.history)
                self.kinds.update(["moved"] if client.moves else [])
            for client in self.clients:
                self.loop.run(client.drop())


def kind_of(entry: SubscribeResponse | ReceivedEvent) -> str:
    if isinstance(entry, ReceivedEvent):
        return "replayed" if entry.replay else "live"
    if entry.since is None:
        return "subscribed"
    return str(entry.data.get("reason", "recovered"))


@pytest.fixture
def running_server(start_server: StartServer) -> Iterator[None]:
    server = start_server(
        database=DATABASE, max_send_queue_bytes=256 * KIB, send_stall_seconds=5, publish_timeout_seconds=1
    )
    machine = DeliveryMachine
    machine.server, machine.writers, machine.loop = server, Writers(server, WRITERS), ClientLoop()
    yield
    machine.loop.close()
    machine.writers.close()


@pytest.mark.timeout(3600)
@pytest.mark.usefixtures("running_server")
@pytest.mark.parametrize("examples", [EXAMPLES, pytest.param(MANY_EXAMPLES, marks=pytest.mark.chaos)])
def test_no_event_is_lost_doubled_or_reordered_in_any_sequence_of_steps(examples: int) -> None:
    run_state_machine_as_test(
        DeliveryMachine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=STEPS,
            deadline=None,
            database=None,
            # An example takes seconds, so a failing one is not shrunk; its steps are in the error's note.
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        ),
    )
    # Fewer kinds would make the test too weak.
    assert DeliveryMachine.kinds >= {"subscribed", "live", "replayed", "recovered", "moved"}
