"""One room with many subscribers: the cost of a delivery, and the latency of the last subscriber.

*CPU µs per delivery* is the CPU time of the server process, all its threads, divided by messages times subscribers. For
Mahavishnu it includes receiving from the channel layer. *Last ms* is the time from the creation of the message (for
Mahavishnu: in another process, before its transaction commits) until the last subscriber has read it. A burst is 100
messages at once. A run ends early when its time is over or a delivery was lost: *messages* is the number sent by then,
*lost* the number of missing deliveries.
"""

from __future__ import annotations

import statistics
import time
from typing import Any

from benchmarks.accounting import cpu_ns
from benchmarks.contestants import PEERS, Contestant, ours, peer
from benchmarks.peers.load import Load
from benchmarks.report import Report, by_figure, percentile
from benchmarks.subscribers import Subscribers

MESSAGE_BYTES = 400
SINGLE_MESSAGES = 20
BURST_MESSAGES = 100
MAX_DELIVERY_SECONDS = 30
MAX_SINGLES_SECONDS = 60
_PAUSE_SECONDS = 0.02


def run(report: Report, *, rounds: int, sizes: tuple[int, ...] = (1, 10, 100, 1000, 5000)) -> None:
    """Measure every contestant at every number of subscribers, in turn, `rounds` times.

    A new peer is started for each measurement: stock Channels stays busy long after a thousand subscribers disconnect.
    """
    with ours() as server:
        for size in sizes:
            # Stock Channels takes more than a second for each message at 1000 subscribers, and more beyond.
            peers = [name for name in PEERS if size <= 1000 or not name.startswith("channels")]
            measured: dict[str, list[dict[str, float]]] = {name: [] for name in (server.name, *peers)}
            for _ in range(rounds):
                measured[server.name].append(_measure(server, size))
                for name in peers:
                    with peer(name) as contestant:
                        measured[name].append(_measure(contestant, size))
            for name, figures in measured.items():
                report.add(subscribers=size, server=name, **by_figure(figures))


def _measure(contestant: Contestant, size: int) -> dict[str, float]:
    subscribers = Subscribers()
    try:
        try:
            subscribers.connect(contestant.port, size, send=contestant.subscribe, replies=contestant.replies)
        except RuntimeError as error:
            print(f"  {contestant.name} did not accept {size} subscribers: {error}", flush=True)
            return {"messages": 0, "lost": size}
        figures = _singles(contestant, subscribers, size)
        if not contestant.name.startswith("channels"):
            before = cpu_ns(contestant.pid)
            burst = _send(contestant, subscribers, Load(BURST_MESSAGES, MESSAGE_BYTES))
            cpu = cpu_ns(contestant.pid) - before
            figures["burst_deliveries_per_second"] = BURST_MESSAGES * size / burst["seconds"]
            figures["burst_cpu_us_per_delivery"] = cpu / 1000 / BURST_MESSAGES / size
            figures["lost"] += burst["lost"]
        return figures
    finally:
        subscribers.close()


def _singles(contestant: Contestant, subscribers: Subscribers, size: int) -> dict[str, float]:
    """Send messages one at a time, each after all subscribers have received the previous one."""
    lost: int = _send(contestant, subscribers, Load(1, MESSAGE_BYTES))["lost"]
    last_ms: list[float] = []
    began, before = time.monotonic(), cpu_ns(contestant.pid)
    while not lost and len(last_ms) < SINGLE_MESSAGES and time.monotonic() < began + MAX_SINGLES_SECONDS:
        found = _send(contestant, subscribers, Load(1, MESSAGE_BYTES))
        last_ms += found["last_ms"]
        lost = found["lost"]
    cpu = cpu_ns(contestant.pid) - before
    figures: dict[str, float] = {"messages": len(last_ms), "lost": lost}
    if last_ms:
        figures["cpu_us_per_delivery"] = cpu / 1000 / (len(last_ms) * size - lost)
        figures["last_ms_median"] = statistics.median(last_ms)
        figures["last_ms_p99"] = percentile(last_ms, 99)
    return figures


def _send(contestant: Contestant, subscribers: Subscribers, load: Load) -> dict[str, Any]:
    time.sleep(_PAUSE_SECONDS)
    subscribers.collect(load.messages, within_seconds=MAX_DELIVERY_SECONDS)
    contestant.broadcast(load)
    return subscribers.collected_in_time()
