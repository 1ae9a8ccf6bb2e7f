"""One room, many subscribers: what a delivery costs and when the last subscriber has it.

*CPU µs per delivery* is the processor time of the server process, all its threads, divided by messages times
subscribers; for us it includes receiving from the bus. *Last ms* is from the moment the message was made (by us: in
another process, before its transaction commits) to the moment the last subscriber has read it. A burst is 100 messages
at once.
"""

from __future__ import annotations

import statistics
import time
from contextlib import ExitStack
from typing import Any

from benchmarks.accounting import cpu_ns
from benchmarks.contestants import PEERS, Contestant, ours, peer
from benchmarks.peers.load import Load
from benchmarks.report import Report, medians, percentile
from benchmarks.subscribers import Subscribers

MESSAGE_BYTES = 400
SINGLE_MESSAGES = 20
BURST_MESSAGES = 100
_PAUSE_SECONDS = 0.02


def run(report: Report, *, rounds: int, sizes: tuple[int, ...] = (1, 10, 100, 1000, 5000)) -> None:
    """Measure every contestant at every number of subscribers, in turn, `rounds` times."""
    with ExitStack() as stack:
        contestants: list[Contestant] = [stack.enter_context(ours())]
        contestants += [stack.enter_context(peer(name)) for name in PEERS]
        for size in sizes:
            # Stock Channels takes most of a second for each message at 1000, and grows from there.
            taking_part = [one for one in contestants if size <= 1000 or not one.name.startswith("channels")]
            measured: dict[str, list[dict[str, float]]] = {one.name: [] for one in taking_part}
            for _ in range(rounds):
                for contestant in taking_part:
                    measured[contestant.name].append(_measure(contestant, size))
            for name, figures in measured.items():
                report.add(subscribers=size, server=name, **medians(figures))


def _measure(contestant: Contestant, size: int) -> dict[str, float]:
    subscribers = Subscribers()
    try:
        subscribers.connect(contestant.port, size, send=contestant.subscribe, replies=contestant.replies)
        _send(contestant, subscribers, Load(1, MESSAGE_BYTES))
        before = cpu_ns(contestant.pid)
        singles = [_send(contestant, subscribers, Load(1, MESSAGE_BYTES)) for _ in range(SINGLE_MESSAGES)]
        cpu = cpu_ns(contestant.pid) - before
        last = [single["last_ms"][0] for single in singles]
        figures = {
            "cpu_us_per_delivery": cpu / 1000 / SINGLE_MESSAGES / size,
            "last_ms_median": statistics.median(last),
            "last_ms_p99": percentile(last, 99),
        }
        if not contestant.name.startswith("channels"):
            before = cpu_ns(contestant.pid)
            burst = _send(contestant, subscribers, Load(BURST_MESSAGES, MESSAGE_BYTES))
            cpu = cpu_ns(contestant.pid) - before
            figures["burst_deliveries_per_second"] = BURST_MESSAGES * size / burst["seconds"]
            figures["burst_cpu_us_per_delivery"] = cpu / 1000 / BURST_MESSAGES / size
        return figures
    finally:
        subscribers.close()


def _send(contestant: Contestant, subscribers: Subscribers, load: Load) -> dict[str, Any]:
    time.sleep(_PAUSE_SECONDS)
    subscribers.collect(load.messages)
    contestant.broadcast(load)
    return subscribers.collected()
