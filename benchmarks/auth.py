"""What credentials cost: `verify` of a token with each algorithm, and one question to the policy.

The goal is at most 1 µs for the policy.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.report import Report
from tests.auth.token_signing import AUDIENCE, ISSUER, MAX_TOKEN_SECONDS, SECRET, issued_token, jwks, secret_token
from tests.harness.interpreter import run_python

VERIFICATIONS = 2000
QUESTIONS = 100_000

GRANTS = ("global:read", "pool:read:nightly_*", *(f"workflow:read:wf_{number}" for number in range(97)))
"""As many as a token can have, apart from one."""


MEASURE = """
import json
import django
django.setup()
from benchmarks.auth import measure
print(json.dumps(measure()))
"""


def run(report: Report, *, rounds: int) -> None:
    """Measure each in turn, `rounds` times, in a process with the settings of a server."""
    measured: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(rounds):
            done = run_python(Path(folder), "-c", MEASURE)
            done.check_returncode()
            for name, microseconds in json.loads(done.stdout).items():
                measured.setdefault(name, []).append(microseconds)
    for name, all_microseconds in measured.items():
        report.add(call=name, us=all_microseconds)


def measure() -> dict[str, float]:
    """Return the microseconds of each call."""
    calls = {**_verifications(), **_questions()}
    return {name: _microseconds(call, repetitions) for name, (call, repetitions) in calls.items()}


def _verifications() -> dict[str, tuple[Callable[[], object], int]]:
    from realtime.auth.jwks import parse_jwks
    from realtime.auth.keys import Keys, keys_of_secrets
    from realtime.auth.tokens import verify

    secret = keys_of_secrets(SECRET, max_token_seconds=MAX_TOKEN_SECONDS)
    issuer = Keys(keys=parse_jwks(jwks().encode()), audience=AUDIENCE, issuer=ISSUER)
    tokens = {"HS256": (secret_token(), secret)}
    for algorithm, key_id in {"RS256": "rs", "PS256": "ps", "ES256": "es", "EdDSA": "ed"}.items():
        tokens[algorithm] = (issued_token(key_id), issuer)
    now = time.time()

    def call(token: str, keys: Keys) -> Callable[[], object]:
        return lambda: verify(token, keys=keys, now=now)

    return {f"verify {name}": (call(token, keys), VERIFICATIONS) for name, (token, keys) in tokens.items()}


def _questions() -> dict[str, tuple[Callable[[], object], int]]:
    from realtime.auth.identity import Identity
    from realtime.auth.policy import may

    many = Identity(user_id="ada", permissions=GRANTS)
    admin = Identity(user_id="ada", permissions=("admin",))
    return {
        "may: admin": (lambda: may(admin, "read", "workflow", "wf_1"), QUESTIONS),
        "may: one of 97 ids": (lambda: may(many, "read", "workflow", "wf_96"), QUESTIONS),
        "may: a prefix": (lambda: may(many, "read", "pool", "nightly_1"), QUESTIONS),
        "may: no": (lambda: may(many, "operate", "workflow", "wf_1"), QUESTIONS),
    }


def _microseconds(call: Callable[[], object], repetitions: int) -> float:
    start = time.perf_counter()
    for _ in range(repetitions):
        call()
    return (time.perf_counter() - start) * 1e6 / repetitions
