"""A short run of what tests/fuzz/gateway.py does for long, and proof that its oracles notice what they are for."""

from __future__ import annotations

import re
from functools import lru_cache

import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.core.routing import KeyGrant, RoutingTable
from orchestrator.gateway import admission, chunks, fields, head, recall, routes, upstream
from orchestrator.gateway.head import RequestHead
from orchestrator.gateway.limits import Limits
from tests.fuzz.corpus import STEP_BYTES, STEPPED, STEPS, mutants, seeds, train_seeds, trains
from tests.fuzz.oracles import HEADS, check_any, check_reply, check_requests
from tests.fuzz.trains import COUNTED, check_train

SHORT = 1_500
CUTS = st.lists(st.integers(0, 4_096), max_size=12)


def test_all_seeds_hold() -> None:
    for data in seeds():
        check_any(data)


def test_a_short_run_holds() -> None:
    for data in mutants(SHORT, 20_261_124, seeds()):
        check_any(data)


def test_all_trains_hold_and_most_of_them_are_recalled() -> None:
    seen = [check_train(data) for data in train_seeds()]
    assert sum(train.recalled for train in seen) * 4 > sum(train.heads for train in seen)


def test_a_short_run_of_trains_holds() -> None:
    for data in mutants(SHORT, 20_261_124, train_seeds()):
        check_train(data)


@given(st.sampled_from([seed for seed in seeds() if seed[0] & 1]), CUTS)
def test_any_cut_of_requests_means_the_same(seed: bytes, cuts: list[int]) -> None:
    check_requests(seed[5:], cuts)


@given(
    st.sampled_from([seed for seed in seeds() if not seed[0] & 1]), CUTS, st.sampled_from(list(HEADS)), st.booleans()
)
def test_any_cut_of_replies_means_the_same(seed: bytes, cuts: list[int], kind: str, ends: bool) -> None:
    check_reply(seed[5:], cuts, kind=kind, ends=ends)


TO = b"POST /v1/sketch/t HTTP/1.1\r\nHost: localhost\r\nx-api-key: gd_k1_owner\r\n"
CHUNKED = TO + b"Transfer-Encoding: chunked\r\n\r\n"


@pytest.fixture
def planted(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """For planting a defect. What it makes the gateway remember of lines, heads and paths would else be met by every
    test that follows in this process."""
    for reader in (fields.REQUESTS, fields.REPLIES):
        monkeypatch.setattr(reader, "_names", {})
        monkeypatch.setattr(reader, "_remembered", {})
    monkeypatch.setattr(chunks, "_SIZES", {})
    monkeypatch.setattr(head, "_SEEN", {})
    monkeypatch.setattr(head, "_status_line", lru_cache(head._status_line.__wrapped__))
    monkeypatch.setattr(routes, "_place", lru_cache(routes._place.__wrapped__))
    return monkeypatch


def test_the_oracles_notice_a_length_that_is_not_read(planted: pytest.MonkeyPatch) -> None:
    planted.setattr(head, "_LENGTH", lambda _value: True)
    # two digits, not three: the status is still read rightly
    planted.setattr(head, "int", lambda value: 0 if len(value) == 2 else int(value), raising=False)
    evil = TO.replace(b"POST", b"GET") + b"\r\n"
    assert 9 < len(evil) < 100
    with pytest.raises(AssertionError):
        check_requests(TO + b"Content-Length: %d\r\n\r\n%b" % (len(evil), evil), [])


def test_the_oracles_notice_a_size_that_is_read_by_half(planted: pytest.MonkeyPatch) -> None:
    planted.setattr(chunks, "_SIZE_LINE", re.compile(rb"([0-9A-Fa-f]{1,15}?).*").fullmatch)
    evil = b"a\r\n0\r\n\r\n" + TO.replace(b"POST", b"GET") + b"\r\n"
    with pytest.raises(AssertionError):
        check_requests(CHUNKED + b"100\r\n" + evil.ljust(256) + b"\r\n0\r\n\r\n", [])


def test_the_oracles_notice_a_body_that_is_not_framed(planted: pytest.MonkeyPatch) -> None:
    planted.setattr("orchestrator.gateway.upload.frame", lambda spans: b"".join(spans))
    with pytest.raises((AssertionError, h11.RemoteProtocolError)):
        check_requests(CHUNKED + b"3\r\nabc\r\n0\r\n\r\n", [])


def test_the_oracles_notice_a_line_that_is_two(planted: pytest.MonkeyPatch) -> None:
    planted.setattr(fields, "_LINE_BYTES", bytes(range(256)))
    with pytest.raises((AssertionError, h11.RemoteProtocolError)):
        check_requests(TO + b"x-a: 1\nx-b: 2\r\n\r\n", [])


def test_the_oracles_notice_a_connection_that_is_kept_too_long(planted: pytest.MonkeyPatch) -> None:
    """The rest of a reply must not become the next one."""

    def keep(self: upstream.WorkerConnection, now_ns: int, *, request_sent: bool) -> None:
        self.exchange = None
        self._replying = False
        self._pool.idle.append(self)

    planted.setattr(upstream.WorkerConnection, "finish", keep)
    reply = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx"
    with pytest.raises(AssertionError):
        check_reply(reply, [], kind="GET", ends=False)


def test_the_oracles_notice_a_head_that_is_recalled_wrongly(planted: pytest.MonkeyPatch) -> None:
    planted.setattr(recall, "is_text", lambda _value: True)
    with pytest.raises(AssertionError):
        check_requests(trains()[1].encode().replace(b"X: 4", b"X: 4\nx-api-key: b"), [])


def train(head: str) -> bytes:
    """The head again and again, counted."""
    return b"".join(bytes([COUNTED, 0, 0, n]) for n in range(STEPS)) + head.encode()


REVOKED = bytes(3 * STEP_BYTES) + bytes([10, 0, 0, 0]) + bytes(4 * STEP_BYTES) + STEPPED[3].encode()
"""The same head eight times, and before the fourth its key is revoked."""


@pytest.mark.parametrize(
    ("where", "what", "data"),
    [
        ("_take", lambda *_: True, train(STEPPED[0])),
        ("length_of", lambda _: 3, train(STEPPED[1])),
        ("Recall.again", lambda self, *_: self._head and (self._head, len(self._raw)), train(STEPPED[0])),
    ],
    ids=["a value that is not taken", "a length that is not read", "an older head"],
)
def test_trains_notice_a_head_that_is_recalled_wrongly(
    planted: pytest.MonkeyPatch, where: str, what: object, data: bytes
) -> None:
    check_train(data)
    planted.setattr(f"orchestrator.gateway.recall.{where}", what)
    with pytest.raises(AssertionError):
        check_train(data)


def test_trains_notice_a_pattern_that_outlives_its_head(planted: pytest.MonkeyPatch) -> None:
    real = recall.Recall.read

    def read(self: recall.Recall, data: bytes, end: int, limits: Limits) -> RequestHead:
        pattern = self._pattern
        found = real(self, data, end, limits)
        self._pattern = self._pattern or pattern
        return found

    planted.setattr(recall.Recall, "read", read)
    with pytest.raises(AssertionError):
        list(map(check_train, train_seeds()))


def test_trains_notice_a_key_that_is_good_because_it_was(planted: pytest.MonkeyPatch) -> None:
    check_train(REVOKED)
    real = admission.authenticate
    known: dict[int, tuple[RequestHead, KeyGrant]] = {}

    def remembered(table: RoutingTable, head: RequestHead, now_ns: int) -> KeyGrant:
        if id(head) not in known:
            known[id(head)] = (head, real(table, head, now_ns))
        return known[id(head)][1]

    planted.setattr(admission, "authenticate", remembered)
    with pytest.raises(AssertionError):
        check_train(REVOKED)
