"""What a question to the policy and the verification of a token cost, in processor time.

The policy is asked for every request, about an id that a prefix grants. Tokens have an id, a lifetime and a permission,
and are signed with a secret (HS256) and with private keys (RS256 of 2048 bits, ES256, EdDSA).
"""

from __future__ import annotations

import time
from collections.abc import Callable

from benchmarks.report import Report
from realtime.auth.identity import Identity
from realtime.auth.keys import Keys
from realtime.auth.policy import may
from realtime.auth.tokens import verify
from tests.auth import token_cases

QUESTIONS = 200_000
TOKENS = 2_000
PUBLIC_KEY_ALGORITHMS = ("RS256", "ES256", "EdDSA")


def run(report: Report, *, rounds: int) -> None:
    """Add one row for the policy, and one for each algorithm: the best of all rounds."""
    identity = Identity(user_id="ada", permissions=("global:read", "workflow:read:wf_1", "workflow:read:etl-*"))
    report.add(part="policy", us=_best_us(lambda: may(identity, "read", "workflow", "etl-17"), QUESTIONS, rounds))
    signed = {"HS256": (token_cases.signed(jti="one"), token_cases.secret_keys())} | {
        kind: (
            token_cases.signed(token_cases.private_key(kind), kind, {"kid": kind}, jti="one"),
            token_cases.public_keys(),
        )
        for kind in PUBLIC_KEY_ALGORITHMS
    }
    for algorithm, (token, keys) in signed.items():
        report.add(part=algorithm, us=_best_us(_verification(token, keys), TOKENS, rounds))


def _verification(token: str, keys: Keys) -> Callable[[], object]:
    now = time.time()
    return lambda: verify(token, keys=keys, now=now)


def _best_us(call: Callable[[], object], times: int, rounds: int) -> float:
    """Return the processor time of one call in microseconds, in the fastest round."""
    best_ns = min(_round_ns(call, times) for _ in range(rounds))
    return round(best_ns / times / 1000, 2)


def _round_ns(call: Callable[[], object], times: int) -> int:
    began = time.process_time_ns()
    for _ in range(times):
        call()
    return time.process_time_ns() - began
