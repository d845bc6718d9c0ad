"""The decisions about asynchronous calls, by themselves."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.contract.deferred import RequestState
from orchestrator.deferred.rules import WINDOW, Next, after, read_wishes, state_of, window_of
from orchestrator.gateway.answers import Refusal


@pytest.mark.parametrize(
    ("code", "made", "most", "follows"),
    [
        ("worker_lost", 1, 3, Next.AGAIN), ("worker_lost", 3, 3, Next.FAIL), ("worker_lost", 1, 1, Next.FAIL),
        ("interrupted", 1, 2, Next.AGAIN), ("interrupted", 2, 2, Next.FAIL), ("storage", 1, 3, Next.AGAIN),
        ("execution_timeout", 1, 3, Next.FAIL), ("worker_protocol", 1, 3, Next.FAIL),
        ("result_too_large", 1, 3, Next.FAIL), ("queue_full", 3, 3, Next.WAIT), ("queue_timeout", 1, 1, Next.WAIT),
        ("endpoint_disabled", 1, 1, Next.WAIT), ("credit_exhausted", 1, 1, Next.WAIT), ("stopping", 1, 1, Next.WAIT),
        ("endpoint_failed", 1, 1, Next.WAIT), ("endpoint_deleted", 1, 3, Next.FAIL),
        ("out_of_descriptors", 1, 1, Next.WAIT), ("worker_unreachable", 1, 1, Next.WAIT),
        ("something new", 1, 3, Next.FAIL),
    ],
)  # fmt: skip
def test_what_follows_an_attempt_without_a_reply(code: str, made: int, most: int, follows: Next) -> None:
    assert after(code, made, most) is follows


def test_a_reply_below_400_is_completed() -> None:
    assert {state_of(status) for status in (200, 204, 302, 399)} == {RequestState.COMPLETED}
    assert {state_of(status) for status in (400, 404, 500, 599)} == {RequestState.FAILED}


@given(st.integers(0, 100_000))
def test_live_requests_keep_half_of_every_queue(limit: int) -> None:
    window = window_of(limit)
    assert 1 <= window <= WINDOW
    assert limit < 2 or window <= limit // 2


_TEXT = st.binary(max_size=30).filter(lambda data: not set(data) & set(b"&#?") and not data.startswith(b"webhook_url"))


@given(st.lists(_TEXT, max_size=6), st.integers(0, 6))
def test_the_rest_of_a_query_stays_as_it_came(pairs: list[bytes], place: int) -> None:
    mine = b"webhook_url=https%3A%2F%2Fa.example%2F%3Fx%3D%2526"
    before = b"&".join(pairs)
    _, _, untouched = read_wishes([], b"?" + before)
    assert untouched == b"?" + before
    mixed = [*pairs[:place], mine, *pairs[place:]]
    wishes, _, rest = read_wishes([], b"?" + b"&".join(mixed))
    assert wishes.webhook == "https://a.example/?x=%26", "decoded once, not twice"
    assert rest == (b"?" + before if pairs else b"")


@pytest.mark.parametrize("value", [b"%zz", b"%2", b"a+b", b"a%00b", b"a%20b", b"%ff"])
def test_a_webhook_that_no_url_can_hold_is_refused(value: bytes) -> None:
    with pytest.raises(Refusal) as refused:
        read_wishes([], b"?webhook_url=https://x/" + value)
    assert (refused.value.status, refused.value.code) == (400, "webhook_refused")


def test_our_fields_are_taken_and_the_others_kept() -> None:
    lines = [b"X-Max-Attempts: 7", b"content-type: a/b", b"Idempotency-Key:  k ", b"x-webhook-url: https://a.example/"]
    wishes, kept, query = read_wishes(lines, b"")
    assert (wishes.attempts_max, wishes.idempotency_key, wishes.webhook) == (7, "k", "https://a.example/")
    assert (kept, query) == ([b"content-type: a/b", b"Idempotency-Key:  k "], b"")
