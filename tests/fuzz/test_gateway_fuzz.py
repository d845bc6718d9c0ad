"""A short run of what tests/fuzz/gateway.py does for long, and proof that its oracles notice what they are for."""

from __future__ import annotations

import re

import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.gateway import chunks, fields, head, recall, upstream
from tests.fuzz.corpus import mutants, seeds, trains
from tests.fuzz.oracles import HEADS, check_any, check_reply, check_requests

SHORT = 1_500
CUTS = st.lists(st.integers(0, 4_096), max_size=12)


def test_all_seeds_hold() -> None:
    for data in seeds():
        check_any(data)


def test_a_short_run_holds() -> None:
    for data in mutants(SHORT, seed=20_261_124):
        check_any(data)


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


def test_the_oracles_notice_a_length_that_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(head, "_LENGTH", lambda _value: True)
    # two digits, not three: a status that is misread would be remembered, and poison the tests that follow
    monkeypatch.setattr(head, "int", lambda value: 0 if len(value) == 2 else int(value), raising=False)
    evil = TO.replace(b"POST", b"GET") + b"\r\n"
    assert 9 < len(evil) < 100
    with pytest.raises(AssertionError):
        check_requests(TO + b"Content-Length: %d\r\n\r\n%b" % (len(evil), evil), [])


def test_the_oracles_notice_a_size_that_is_read_by_half(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunks, "_SIZE_LINE", re.compile(rb"([0-9A-Fa-f]{1,15}?).*").fullmatch)
    monkeypatch.setattr(chunks, "_SIZES", {})
    evil = b"a\r\n0\r\n\r\n" + TO.replace(b"POST", b"GET") + b"\r\n"
    with pytest.raises(AssertionError):
        check_requests(CHUNKED + b"100\r\n" + evil.ljust(256) + b"\r\n0\r\n\r\n", [])


def test_the_oracles_notice_a_body_that_is_not_framed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("orchestrator.gateway.upload.frame", lambda spans: b"".join(spans))
    with pytest.raises((AssertionError, h11.RemoteProtocolError)):
        check_requests(CHUNKED + b"3\r\nabc\r\n0\r\n\r\n", [])


def test_the_oracles_notice_a_line_that_is_two(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fields, "_LINE_BYTES", bytes(range(256)))
    with pytest.raises((AssertionError, h11.RemoteProtocolError)):
        check_requests(TO + b"x-a: 1\nx-b: 2\r\n\r\n", [])


def test_the_oracles_notice_a_connection_that_is_kept_too_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """The rest of a reply must not become the next one."""

    def keep(self: upstream.WorkerConnection, now_ns: int, *, request_sent: bool) -> None:
        self.exchange = None
        self._replying = False
        self._pool.idle.append(self)

    monkeypatch.setattr(upstream.WorkerConnection, "finish", keep)
    reply = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx"
    with pytest.raises(AssertionError):
        check_reply(reply, [], kind="GET", ends=False)


def test_the_oracles_notice_a_head_that_is_recalled_wrongly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recall, "is_text", lambda _value: True)
    with pytest.raises(AssertionError):
        check_requests(trains()[1].encode().replace(b"X: 4", b"X: 4\nx-api-key: b"), [])
