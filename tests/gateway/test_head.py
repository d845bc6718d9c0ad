"""Heads of any bytes are scanned to one reading or refused."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.gateway import head
from orchestrator.gateway.answers import Refusal, credits_body, dollars
from orchestrator.gateway.head import scan_reply, scan_request
from orchestrator.gateway.routes import predict_target

TOKEN = st.text("abcXYZ019!#$%&'*+-.^`|~", min_size=1, max_size=12)
VALUE = st.text(st.characters(min_codepoint=0x20, max_codepoint=0xFF, exclude_characters="\x7f"), max_size=30).filter(
    lambda s: all(not 0x7F <= ord(c) < 0x80 for c in s)
)


def scan(head: bytes):
    return scan_request(head, 100, 8_192)


@given(st.binary(max_size=300), st.sampled_from([b"", b"GET / HTTP/1.1\r\nHost: a\r\n"]))
def test_any_bytes_are_scanned_or_refused(data: bytes, prefix: bytes) -> None:
    kept, status = outcome(lambda: scan(prefix + data).kept)
    assert status in (None, 400, 414, 417, 431, 501, 505)
    assert not any(b"\r" in line or b"\n" in line for line in kept)
    kept, status = outcome(lambda: scan_reply(b"HTTP/1.1 200 OK\r\n" + data, 100).kept)
    assert status in (None, 502)
    assert not any(b"\r" in line or b"\n" in line for line in kept)


WORDS = st.sampled_from(
    ["GET", "get", "PURGE", "", "/", "/v1/a?b", "*", "/\x80", "/\t", "HTTP/1.1", "HTTP/1.0", "HTTP/2.0", "HTTP/1.2"]
)


@given(st.lists(WORDS, max_size=4), st.sampled_from([" ", "  ", "\t"]))
def test_the_short_cut_for_request_lines_takes_no_other_way(words: list[str], gap: str) -> None:
    line = gap.join(words).encode("latin-1")
    match = head._REQUEST_LINE(line)
    told, status = outcome(lambda: list(head._request_line(line)))
    if match is None:
        assert status == 400
    elif match[3] != b"1" or match[4] > b"1":
        assert status == 505
    else:
        assert told == [match[1], match[2], int(match[4])]


def outcome(scanned: Callable[[], list[bytes]]) -> tuple[list[bytes], int | None]:
    try:
        return scanned(), None
    except Refusal as refusal:
        return [], refusal.status


@given(st.lists(st.tuples(TOKEN, VALUE), max_size=20))
def test_unknown_fields_pass_as_they_are(pairs: list[tuple[str, str]]) -> None:
    lines = [f"x-{name}:{value}".encode("latin-1") for name, value in pairs]
    request = scan(b"\r\n".join([b"GET /p HTTP/1.1", b"Host: h", *lines]))
    assert request.kept == lines
    assert (request.method, request.target, request.host, request.keep_alive) == (b"GET", b"/p", b"h", True)


@pytest.mark.parametrize(
    ("line", "version", "keep_alive"),
    [
        (b"Connection: close", b"1.1", False),
        (b"connection: CLOSE", b"1.1", False),
        (b"Connection: x, Close", b"1.1", False),
        (b"Connection: keep-alive", b"1.0", True),
        (b"Connection: x", b"1.0", False),
        (b"Connection: keep-alive, close", b"1.0", False),
        (b"x: y", b"1.1", True),
        (b"x: y", b"1.0", False),
    ],
)
def test_persistence(line: bytes, version: bytes, keep_alive: bool) -> None:
    assert scan(b"GET / HTTP/%b\r\nHost: h\r\n%b" % (version, line)).keep_alive is keep_alive


@pytest.mark.parametrize(
    ("amount_u", "text"),
    [
        (0, "0.00"),
        (1, "0.000001"),
        (12_340_000, "12.34"),
        (12_345_600, "12.3456"),
        (-500_000, "-0.50"),
        (10**15, "1000000000.00"),
        (-1, "-0.000001"),
    ],
)
def test_dollars_are_exact(amount_u: int, text: str) -> None:
    assert dollars(amount_u) == text
    assert credits_body('a"b', amount_u) == b'{"credits": %b, "account": "a\\"b"}' % text.encode()


def test_a_predict_path_cannot_break_out_of_the_request_line() -> None:
    assert predict_target("/a b\r\nx: y?q=1&r=%20") == b"/a%20b%0D%0Ax:%20y?q=1&r=%20"
