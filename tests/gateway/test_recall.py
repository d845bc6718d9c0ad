"""What is recalled of a connection's heads is what the scanner would have said, or it is left to the scanner."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.gateway.limits import Limits
from orchestrator.gateway.recall import CHANGING_MAX, KNOWN_BYTES, MISSES_MAX, Recall
from tests.gateway.readings import CheckedRecall, reading, take
from tests.gateway.rig import Rig

LIMITS = Limits(target_bytes=64, head_bytes=600)
START = b"POST /v1/sketch/t?n=%d HTTP/1.1"
LINES = (
    b"Host: localhost", b"X-Api-Key: gd_k1_owner", b"X-Request-Id: id-%d", b"traceparent: 00-%d", b"X-Two: a%d",
    b"X-Two: b%d", b"Content-Length: %d", b"x_odd: %d", b"X-Forwarded-For: 10.0.0.%d", b"Idempotency-Key: %d", b"A: b",
)  # fmt: skip


def head_of(*lines: bytes) -> bytes:
    return b"\r\n".join(lines) + b"\r\n\r\n"


def numbered(number: int, *indices: int) -> list[bytes]:
    """The lines of a head in which those at `indices` (0 is the request line) carry `number`, the others 7."""
    return [line % (number if i in indices else 7) if b"%d" in line else line for i, line in enumerate((START, *LINES))]


def recalls(*heads: list[bytes]) -> bool:
    """Whether the last of `heads`, one after the other on a connection, is told from those before it."""
    recall = CheckedRecall()
    for lines in heads[:-1]:
        take(recall, head_of(*lines), LIMITS)
    before = recall.recalled
    take(recall, head_of(*heads[-1]), LIMITS)
    return recall.recalled > before


@pytest.mark.parametrize("index", [i for i, line in enumerate((START, *LINES)) if b"%d" in line])
def test_what_has_changed_once_may_change_again(index: int) -> None:
    assert recalls(numbered(7), numbered(7))
    assert not recalls(numbered(7), numbered(8, index))
    assert recalls(numbered(7), numbered(8, index), numbered(9, index))
    assert recalls(numbered(7), numbered(8, index), numbered(12_345, index), numbered(1, index), numbered(7))


def test_several_may_change_at_once_and_those_that_change_later_are_learnt() -> None:
    assert recalls(numbered(7), numbered(8, 0, 3, 4), numbered(9, 0, 3, 4))
    assert not recalls(numbered(7), numbered(8, 3), numbered(8, 4))
    assert recalls(numbered(7), numbered(8, 3), numbered(8, 4), numbered(9, 3, 4))


def test_of_two_lines_with_one_name_each_keeps_its_place() -> None:
    recall = Recall()
    for number in (7, 8, 9):
        head = take(recall, head_of(*numbered(number, 6)), LIMITS)
        assert not isinstance(head, int)
        assert [line for line in head.kept if line.startswith(b"X-Two")] == [b"X-Two: a7", b"X-Two: b%d" % number]


@pytest.mark.parametrize(
    ("index", "line"),
    [
        (3, b"X-Request-Id: a\nb"),
        (3, b"X-Request-Id: a\rb"),
        (3, b"X-Request-Id: a\0b"),
        (4, b"traceparent: \x7f"),
        (4, b"traceparent: a\nHost: b"),
        (4, b" traceparent: 00-8"),
        (4, b"traceparent : 00-8"),
        (4, b"Traceparent: 00-8"),
        (4, b"00-8"),
        (7, b"Content-Length: 8, 8"),
        (7, b"Content-Length: +8"),
        (7, b"Content-Length:"),
        (7, b"Content-Length: 1234567890123456"),
        (8, b"x_odd: \x01"),
        (9, b"X-Forwarded-For: \n"),
        (0, b"POST /v1/sketch/t?n=8 HTTP/1.0"),
        (0, b"POST  /v1/sketch/t?n=8 HTTP/1.1"),
        (0, b"POST /v1/sketch/t ?n=8 HTTP/1.1"),
        (0, b"POST /v1/\x80 HTTP/1.1"),
        (0, b"GET /v1/sketch/t?n=8 HTTP/1.1"),
        (0, b"POST /v1/sketch/t?n=%b HTTP/1.1" % (b"8" * 64)),
        (1, b"Host: elsewhere"),
        (2, b"X-Api-Key: gd_k2_other"),
        (11, b"Connection: close"),
    ],
)
def test_what_the_scanner_must_judge_is_left_to_it(index: int, line: bytes) -> None:
    changing = (0, 3, 4, 7, 8, 9)
    bad = numbered(9, *changing)
    bad[index] = line
    assert recalls(numbered(7), numbered(8, *changing), numbered(9, *changing))
    assert not recalls(numbered(7), numbered(8, *changing), bad)


@pytest.mark.parametrize(
    "heads",
    [
        [numbered(n, 3)[: 12 - extra] for n, extra in ((7, 0), (8, 0), (9, 1))],
        [[*numbered(n, 3), *[b"B: c"] * extra] for n, extra in ((7, 0), (8, 0), (9, 1))],
        [[*numbered(7)[:-1], b"Connection: x-two"], *([*numbered(n, 3)[:-1], b"Connection: x-two"] for n in (8, 9))],
        [[*numbered(n, 3), b"Connection: Upgrade", b"Upgrade: websocket"] for n in (7, 8, 9)],
        [[*numbered(7), b"Origin: http://a%d" % n] for n in (7, 8, 9)],
        [[*numbered(7)[:2], b"Authorization: Bearer %d" % n] for n in (7, 8, 9)],
        [[b"GET / HTTP/1.1", b"Host: h", *(b"X-%d: %d" % (i, n) for i in range(CHANGING_MAX + 1))] for n in (7, 8, 9)],
        [[*numbered(n, 3), b"X: %b" % (b"x" * KNOWN_BYTES)] for n in (7, 8, 9)],
    ],
    ids=["a line less", "a line more", "Connection names it", "upgrade", "origin", "bearer", "too many", "too long"],
)
def test_heads_of_another_kind_are_read_in_full(heads: list[list[bytes]]) -> None:
    assert not recalls(*heads)


def test_a_head_that_grows_beyond_the_limit_is_not_taken() -> None:
    assert recalls(numbered(7), numbered(8, 4), [*numbered(7)[:4], b"traceparent: " + b"0" * 200, *numbered(7)[5:]])
    assert not recalls(numbered(7), numbered(8, 4), [*numbered(7)[:4], b"traceparent: " + b"0" * 400, *numbered(7)[5:]])


def test_half_a_head_is_waited_for_and_what_follows_is_not_touched() -> None:
    recall = CheckedRecall()
    for number in (7, 8):
        take(recall, head_of(*numbered(number, 3)), LIMITS)
    whole = head_of(*numbered(9, 3))
    for cut in range(len(whole)):
        assert recall.again(whole[:cut], LIMITS) is None
    found = recall.again(whole + b"POST / HTTP", LIMITS)
    assert found is not None
    assert found[1] == len(whole)


def test_a_connection_of_many_minds_stops_looking_for_a_pattern() -> None:
    recall = CheckedRecall()
    take(recall, head_of(*numbered(7)), LIMITS)
    for number in range(2 * MISSES_MAX):
        take(recall, head_of(*numbered(7), *[b"B: c"] * ((number + 1) % 2)), LIMITS)
    assert recall.recalled == 0
    for number in (8, 9, 10):
        take(recall, head_of(*numbered(number, 3)), LIMITS)
    assert recall.recalled == 0
    take(recall, head_of(*numbered(10, 3)), LIMITS)
    assert recall.recalled == 1, "an equal head is always known"


def test_a_pattern_never_outlives_the_head_it_was_made_of() -> None:
    """Completed from another head, a request would be given that one's method, host and key."""
    other = [line.replace(b"owner", b"other") for line in numbered(7)]
    long = [*numbered(7), b"X: %b" % (b"x" * KNOWN_BYTES)]
    limits = Limits()
    for between in ([long], [numbered(7), other] * MISSES_MAX):
        recall = CheckedRecall()
        for lines in (numbered(7), numbered(8, 3), *between, other, numbered(9, 3)):
            head = take(recall, head_of(*lines), limits)
            assert not isinstance(head, int)
            assert head.key == (b"gd_k1_other" if lines is other else b"gd_k1_owner")


ODD = st.sampled_from(
    [b"", b" ", b"8", b"id-9", b"\t12 ", b"\n", b"\r", b"\r\n", b"\0", b"\xff", b"a,b", b": x", b"#", b"/x"]
)
CHANGES = st.lists(st.tuples(st.integers(0, len(LINES)), st.one_of(ODD, st.binary(max_size=6))), max_size=4)


@given(st.lists(CHANGES, min_size=2, max_size=8), st.lists(st.integers(0, len(LINES)), max_size=3))
def test_it_says_what_the_scanner_says(steps: list[list[tuple[int, bytes]]], dropped: list[int]) -> None:
    recall = CheckedRecall()
    for changes in steps:
        lines = numbered(7)
        for index, text in changes:
            lines[index] = lines[index].replace(b"7", text) if b"7" in lines[index] else lines[index] + text
        kept = [line for index, line in enumerate(lines) if index == 0 or index not in dropped]
        data = head_of(*kept)
        alone = take(Recall(), data, LIMITS)
        told = take(recall, data, LIMITS)
        if isinstance(told, int) or isinstance(alone, int):
            assert told == alone
            return
        assert reading(told) == reading(alone)


async def test_requests_that_differ_are_served_each_for_itself(rig: Rig) -> None:
    (a,) = await rig.workers("a")
    caller = await rig.caller()
    for number in range(5):
        body = b"x" * (number + 1)
        caller.request("POST", f"/v1/sketch/body?n={number}", f"x-request-id: id-{number}", f"x-n: {number}", body=body)
        reply = await caller.reply()
        assert (reply.status, reply.get("x-request-id"), reply.body) == (200, f"id-{number}", body)
    assert [seen.target for seen in a.seen] == [f"/body?n={number}" for number in range(5)]
