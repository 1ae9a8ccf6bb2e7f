"""The token bucket of the rate limit, with a fake clock."""

from __future__ import annotations

import pytest

from realtime.connection.rate_limit import RateLimit, Verdict
from realtime.limits import Limits

START = 1000.0
LIMITS = Limits()


def verdicts(rate: RateLimit, count: int, *, at: float) -> list[Verdict]:
    return [rate.take(now=at) for _ in range(count)]


def test_full_bucket_allows_a_burst_of_150() -> None:
    rate = RateLimit(LIMITS, now=START)
    assert verdicts(rate, 152, at=START) == [Verdict.ALLOWED] * 150 + [Verdict.REJECTED] * 2
    assert rate.retry_after_ms == 10


def test_bucket_refills_by_a_hundred_a_second_up_to_the_burst() -> None:
    rate = RateLimit(LIMITS, now=START)
    verdicts(rate, 150, at=START)
    assert verdicts(rate, 51, at=START + 0.5) == [Verdict.ALLOWED] * 50 + [Verdict.REJECTED]
    assert verdicts(rate, 151, at=START + 1000) == [Verdict.ALLOWED] * 150 + [Verdict.REJECTED]


def test_steady_rate_is_always_allowed() -> None:
    rate = RateLimit(LIMITS, now=START)
    assert {rate.take(now=START + number / 100) for number in range(10_000)} == {Verdict.ALLOWED}


def test_rejected_message_takes_no_token() -> None:
    rate = RateLimit(LIMITS, now=START)
    verdicts(rate, 1000, at=START)
    assert verdicts(rate, 2, at=START + 0.0101) == [Verdict.ALLOWED, Verdict.REJECTED]


@pytest.mark.parametrize("after_seconds", [0.0, 0.0025, 0.009, 0.00999999])
def test_message_after_retry_after_ms_is_allowed(after_seconds: float) -> None:
    rate = RateLimit(LIMITS, now=START)
    verdicts(rate, 150, at=START)
    now = START + after_seconds
    assert rate.take(now=now) is Verdict.REJECTED
    assert 1 <= rate.retry_after_ms <= 10
    assert rate.take(now=now + rate.retry_after_ms / 1000 + 1e-6) is Verdict.ALLOWED


@pytest.mark.parametrize(
    ("per_second", "after_seconds", "retry_after_ms"),
    [(1.0, 0.0, 1000), (1.0, 0.25, 750), (100.0, 0.0025, 8), (100.0, 0.0095, 1), (1e6, 0.0, 1)],
)
def test_retry_after_ms_is_the_time_until_the_next_token_rounded_up(
    per_second: float, after_seconds: float, retry_after_ms: int
) -> None:
    rate = RateLimit(Limits(max_messages_per_second=per_second, max_message_burst=1), now=START)
    assert verdicts(rate, 1, at=START) == [Verdict.ALLOWED]
    assert verdicts(rate, 1, at=START + after_seconds) == [Verdict.REJECTED]
    assert rate.retry_after_ms == retry_after_ms


def test_retry_after_ms_of_a_full_bucket_is_one() -> None:
    assert RateLimit(LIMITS, now=START).retry_after_ms == 1


def test_exceeding_the_rate_for_longer_than_the_grace_time_closes() -> None:
    rate = RateLimit(LIMITS, now=START)
    seen = {second: set(verdicts(rate, 300, at=START + second)) for second in range(7)}
    both = {Verdict.ALLOWED, Verdict.REJECTED}
    assert seen == {**dict.fromkeys(range(6), both), 6: {Verdict.ALLOWED, Verdict.CLOSED}}


def test_second_without_rejections_restarts_the_grace_time() -> None:
    rate = RateLimit(LIMITS, now=START)
    for second in range(5):
        verdicts(rate, 300, at=START + second)
    assert set(verdicts(rate, 300, at=START + 5.1)) == {Verdict.ALLOWED, Verdict.REJECTED}
    later = [set(verdicts(rate, 300, at=START + 5.1 + second)) for second in (1, 2, 3, 4, 5)]
    assert Verdict.CLOSED not in set().union(*later)
    assert Verdict.CLOSED in verdicts(rate, 300, at=START + 5.1 + 5.9)


def test_zero_grace_time_closes_at_the_second_rejection() -> None:
    rate = RateLimit(Limits(rate_limit_grace_seconds=0.0, max_message_burst=1), now=START)
    assert verdicts(rate, 2, at=START) == [Verdict.ALLOWED, Verdict.REJECTED]
    assert rate.take(now=START + 0.001) is Verdict.CLOSED
