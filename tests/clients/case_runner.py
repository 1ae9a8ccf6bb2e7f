"""Runs the cases of `clients/cases.json`: a server, a proxy, and drivers of one or several clients."""

from __future__ import annotations

import asyncio
import itertools
import json
import threading
import time
from typing import Any

import msgspec

from mahavishnu_client.fold import decode_state
from tests.clients.case_backends import RealBackend
from tests.clients.drivers import Driver
from tests.clients.tcp_proxy import TcpProxy
from tests.harness.client import connect
from tests.harness.ports import HOST
from tests.harness.programs import PROJECT_DIR

TABLE = json.loads((PROJECT_DIR / "clients" / "cases.json").read_text())
CASES: dict[str, dict[str, Any]] = {case["name"]: case for case in TABLE["cases"]}

WITHIN_MS = 20_000

Step = dict[str, Any]


_case_numbers = itertools.count(1)


def _names_of(value: Any, suffix: str) -> Any:
    """Return a value of the table with ids that no other case uses: `pool:a` is `pool:a_7`."""
    if isinstance(value, dict):
        ids = ("workflow_id", "pool_id", "follow", "channel", "events", "snapshot", "accept", "expire", "token")
        return {
            key: f"{item}{suffix}"
            if key in ids and isinstance(item, str) and item != "global"
            else _names_of(item, suffix)
            for key, item in value.items()
        }
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        # Tokens and permissions, but not the types of resources.
        return [item if item in ("admin", "global:read") else f"{item}{suffix}" for item in value]
    if isinstance(value, list):
        return [_names_of(item, suffix) for item in value]
    return value


class CaseRun:
    """One run of one case.

    Args:
        case: The case, as in the table.
        drivers: The clients, all of which must see what the case says.
        backend: The server.
        proxy: The proxy in front of it, if the case has one.
    """

    def __init__(self, case: Step, *, drivers: list[Driver], backend: Any, proxy: TcpProxy | None = None) -> None:
        self._suffix = f"_{next(_case_numbers)}"
        self._case = _names_of(case, self._suffix)
        self._drivers = drivers
        self._backend = backend
        self._proxy = proxy
        self._url = backend.url if proxy is None else f"ws://{HOST}:{proxy.port}"
        self._stored: dict[str, Any] = {}
        self._last_seq: dict[tuple[str, str], int] = {}
        self._last_state: dict[tuple[str, str], Any] = {}
        self._channels: dict[str, str] = {}
        self._began_at: dict[str, float] = {}
        """When the last step of each kind began; the kind is the first key of a step."""

    def run(self) -> None:
        if isinstance(self._backend, RealBackend):
            self._backend.prepare(_channels_in(self._case["steps"]))
        else:
            self._backend.server.set_state(f"pool:a{self._suffix}", _pool(f"a{self._suffix}"))
        for driver in self._drivers:
            driver.forget()
        try:
            self._run_steps(self._case["steps"])
        except BaseException:
            for driver in self._drivers:
                driver.restart()
            raise
        for driver in self._drivers:
            for of in self._channels:
                unread = driver.unread(of)
                assert not unread, f"{driver.name}: {of} got more than the case says: {unread}"
            self._command(driver, "close", do="close")

    def _run_steps(self, steps: list[Step]) -> None:
        for step in steps:
            try:
                self._run_step(step)
            except (AssertionError, TimeoutError) as error:
                raise AssertionError(f"case {self._case['name']}, step {step}: {error}") from error

    def _run_step(self, step: Step) -> None:
        self._began_at[next(iter(step))] = time.monotonic()
        if "repeat" in step:
            for _ in range(step["repeat"]):
                self._run_steps(step["steps"])
        elif "emit" in step:
            for _ in range(step["emit"]):
                self._backend.emit(step["channel"])
                time.sleep(step.get("every_ms", 0) / 1000)
        elif "event" in step:
            data = {key: _letters(value) for key, value in step["data"].items()}
            self._backend.server.emit(step["event"], data)
        elif "run" in step:
            self._backend.run(step["run"], f"wf{self._suffix}")
        elif "server" in step:
            self._backend.do(step["server"])
        elif "accept" in step:
            self._backend.accept(step["accept"], step["permissions"], seconds=step.get("seconds", 600))
        elif "expire" in step:
            self._backend.expire(step["expire"])
        elif "announce_expiry" in step:
            self._backend.announce_expiry()
        elif "wait_refresh" in step:
            self._backend.wait_refresh(len(self._drivers))
        elif "unseen" in step:
            for driver in self._drivers:
                assert not driver.unread(step["unseen"]), driver.unread(step["unseen"])
        elif "fake" in step:
            ((action, arguments),) = step["fake"].items()
            if action == "state":
                arguments += self._suffix
            self._backend.do(action, arguments)
        elif "proxy" in step:
            self._use_proxy(step)
        elif "wait_ms" in step:
            time.sleep(step["wait_ms"] / 1000)
        elif "sees" in step:
            for driver in self._drivers:
                self._expect(driver, step)
        else:
            for driver in self._drivers:
                self._send(driver, step)

    def _use_proxy(self, step: Step) -> None:
        assert self._proxy is not None
        if step["proxy"] in ("cut", "freeze"):
            getattr(self._proxy, step["proxy"])()
            return
        every, proxy = step["proxy"], self._proxy

        def cut() -> None:
            for _ in range(every["times"]):
                time.sleep(every["every_ms"] / 1000)
                proxy.cut()

        cutting = threading.Thread(target=cut)
        cutting.start()
        self._run_steps(step["while"])
        cutting.join()

    # --- Commands ------------------------------------------------------------------------------------------------

    def _send(self, driver: Driver, step: Step) -> None:
        name = step.get("as")
        if "connect" in step:
            options = {**TABLE["options"], **self._case.get("options", {})}
            resume_from = self._stored.get(driver.name) if step["connect"].get("resume") else None
            given: dict[str, Any] = {}
            if "token" in step["connect"]:
                given["token"] = self._backend.token(step["connect"]["token"])
            if "tokens" in step["connect"]:
                given["tokens"] = [self._backend.token(name) for name in step["connect"]["tokens"]]
            given |= {"url": self._url, "options": options, "resume_from": resume_from}
            self._command(driver, "connect", do="connect", **given)
        elif "events" in step:
            self._channels[step["as"]] = step["events"]
            driver.send(do="events", channel=step["events"], **{"as": name})
        elif "follow" in step:
            driver.send(do="follow", workflow_id=step["follow"], **{"as": name})
        elif "request" in step:
            timeout = {"timeout_ms": step["timeout_ms"]} if "timeout_ms" in step else {}
            driver.send(do="request", name=step["request"], data=step["data"], **timeout, **{"as": name})
        elif "position" in step:
            driver.send(do="position")
            self._stored[driver.name] = driver.next("done", within_seconds=10).content["position"]
        elif "clock_jump" in step:
            self._command(driver, "clock_jump", do="clock_jump", ms=step["clock_jump"])
        elif "close" in step:
            self._command(driver, "close", do="close")
        else:
            ((command, target),) = step.items()
            assert command in ("pause", "resume", "end"), step
            self._command(driver, command, do=command, **{"as": target})

    @staticmethod
    def _command(driver: Driver, done: str, **command: Any) -> None:
        driver.send(**command)
        assert driver.next("done", within_seconds=10).content == {"done": done}

    # --- Expectations ----------------------------------------------------------------------------------------------

    def _expect(self, driver: Driver, step: Step) -> None:
        expected = step["sees"]
        within_seconds = step.get("within_ms", WITHIN_MS) / 1000
        of = expected.get("of", "client")
        if "client" in expected:
            line = driver.find("client", lambda content: content == expected, within_seconds=within_seconds)
        elif "events" in expected:
            for _ in range(expected["events"]):
                line = driver.next(of, within_seconds=within_seconds)
                self._check_event(driver, of, line.content, expected)
        elif "state" in expected or "snapshot" in expected:
            line = self._expect_state(driver, of, expected, within_seconds)
        else:
            line = driver.next(of, within_seconds=within_seconds)
            for key in ("history_lost", "error", "code", "maybe_done"):
                if key in expected:
                    assert line.content.get(key) == expected[key], line.content
            if "response" in expected:
                assert expected["response"].items() <= line.content["response"].items(), line.content
            self._last_seq.pop((driver.name, of), None)
        if "not_before_ms" in step:
            seconds = line.at - self._began_at[step["since"]]
            assert seconds >= step["not_before_ms"] / 1000, f"too early, after {seconds:.3f} s"

    def _check_event(self, driver: Driver, of: str, content: dict[str, Any], expected: Step) -> None:
        assert "event" in content, content
        last = self._last_seq.get((driver.name, of))
        if last is not None:
            # `global` has every event, and the positions of SQLite and of the fake server have no gaps.
            is_next = content["seq"] == last + 1 if self._channels[of] == "global" else content["seq"] > last
            assert is_next, f"{driver.name}: {content} follows on {last}"
        self._last_seq[driver.name, of] = content["seq"]
        if "event" in expected:
            assert content["event"] == expected["event"], content
            assert expected["data"].items() <= content["data"].items(), content

    def _expect_state(self, driver: Driver, of: str, expected: Step, within_seconds: float) -> Any:
        if "snapshot" in expected:
            state = self._last_state[driver.name, of]
            channel = expected["snapshot"]
            shown = decode_state(channel, msgspec.json.encode(state))
            assert shown == decode_state(channel, msgspec.json.encode(self._snapshot(channel)))
            return None
        part = {key: value for key, value in expected["state"].items() if value is not None}
        absent = [key for key, value in expected["state"].items() if value is None]

        def matches(content: dict[str, Any]) -> bool:
            state = content["state"]
            has_part = part.items() <= state.items() and not any(state.get(key) for key in absent)
            return has_part and content["is_live"] == expected["is_live"]

        line = driver.find(of, matches, within_seconds=within_seconds)
        self._last_state[driver.name, of] = line.content["state"]
        return line

    def _snapshot(self, channel: str) -> Any:
        async def read() -> Any:
            async with connect(self._backend.url) as client:
                return (await client.subscribe(channel, snapshot=True))["data"]["snapshot"]

        return asyncio.run(read())


def _channels_in(steps: list[Step]) -> set[str]:
    found: set[str] = set()
    for step in steps:
        found |= {step[key] for key in ("events", "channel") if isinstance(step.get(key), str)}
        for key in ("steps", "while"):
            found |= _channels_in(step.get(key, []))
    return found


def _letters(value: Any) -> Any:
    """Return a long text for `{"letters": n}`, which the table does not spell out."""
    return "x" * value["letters"] if isinstance(value, dict) and "letters" in value else value


def _pool(pool_id: str) -> dict[str, Any]:
    return {"pool_id": pool_id, "status": "active", "metrics": {}, "workers": []}
