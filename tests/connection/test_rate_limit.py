"""How many messages a second are one too many. The clock is ours."""

from __future__ import annotations

import pytest

from realtime.connection.rate_limit import RateLimit, Verdict
from realtime.limits import Limits

START = 1000.0
LIMITS = Limits()


def verdicts(rate: RateLimit, count: int, *, at: float) -> list[Verdict]:
    return [rate.take(now=at) for _ in range(count)]


def test_a_full_bucket_lets_a_burst_pass_and_not_one_more() -> None:
    rate = RateLimit(LIMITS, now=START)
    assert verdicts(rate, 152, at=START) == [Verdict.ALLOWED] * 150 + [Verdict.REFUSED] * 2
    assert rate.retry_after_ms == 10


def test_a_bucket_fills_by_a_hundred_a_second_and_never_beyond_the_burst() -> None:
    rate = RateLimit(LIMITS, now=START)
    verdicts(rate, 150, at=START)
    assert verdicts(rate, 51, at=START + 0.5) == [Verdict.ALLOWED] * 50 + [Verdict.REFUSED]
    assert verdicts(rate, 151, at=START + 1000) == [Verdict.ALLOWED] * 150 + [Verdict.REFUSED]


def test_whoever_keeps_to_the_rate_is_never_refused() -> None:
    rate = RateLimit(LIMITS, now=START)
    assert {rate.take(now=START + number / 100) for number in range(10_000)} == {Verdict.ALLOWED}


def test_a_refused_message_costs_no_token() -> None:
    rate = RateLimit(LIMITS, now=START)
    verdicts(rate, 1000, at=START)
    assert verdicts(rate, 2, at=START + 0.0101) == [Verdict.ALLOWED, Verdict.REFUSED]


@pytest.mark.parametrize("after_seconds", [0.0, 0.0025, 0.009, 0.00999999])
def test_the_wait_it_names_is_long_enough(after_seconds: float) -> None:
    rate = RateLimit(LIMITS, now=START)
    verdicts(rate, 150, at=START)
    now = START + after_seconds
    assert rate.take(now=now) is Verdict.REFUSED
    assert 1 <= rate.retry_after_ms <= 10
    assert rate.take(now=now + rate.retry_after_ms / 1000 + 1e-6) is Verdict.ALLOWED


def test_whoever_goes_on_for_longer_than_the_grace_is_to_be_closed() -> None:
    rate = RateLimit(LIMITS, now=START)
    seen = {second: set(verdicts(rate, 300, at=START + second)) for second in range(7)}
    both = {Verdict.ALLOWED, Verdict.REFUSED}
    assert seen == {**dict.fromkeys(range(6), both), 6: {Verdict.ALLOWED, Verdict.CLOSED}}


def test_a_quiet_second_is_a_new_beginning() -> None:
    rate = RateLimit(LIMITS, now=START)
    for second in range(5):
        verdicts(rate, 300, at=START + second)
    assert set(verdicts(rate, 300, at=START + 5.1)) == {Verdict.ALLOWED, Verdict.REFUSED}
    later = [set(verdicts(rate, 300, at=START + 5.1 + second)) for second in (1, 2, 3, 4, 5)]
    assert Verdict.CLOSED not in set().union(*later)
    assert Verdict.CLOSED in verdicts(rate, 300, at=START + 5.1 + 5.9)


def test_no_grace_closes_at_the_second_refusal() -> None:
    rate = RateLimit(Limits(rate_limit_grace_seconds=0.0, max_message_burst=1), now=START)
    assert verdicts(rate, 2, at=START) == [Verdict.ALLOWED, Verdict.REFUSED]
    assert rate.take(now=START + 0.001) is Verdict.CLOSED
