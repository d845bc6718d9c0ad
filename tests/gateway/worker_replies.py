"""Replies of workers, byte for byte: good ones at the edge of what is allowed, lies, and halves; and what the client of
each must be told."""

from __future__ import annotations

from dataclasses import dataclass

HEAD = "HTTP/1.1 200 OK\r\n"
CHUNKED = HEAD + "Transfer-Encoding: chunked\r\n\r\n"
CLOSE = "Connection: close\r\n"
HINTS = "HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n"


@dataclass(frozen=True)
class Passed:
    """The client gets `status` and `body`, preceded by `interim`; the connection to the worker is `kept` for the next
    request or not. `ends`: the worker closes after it."""

    script: str
    body: str = ""
    status: int = 200
    interim: tuple[int, ...] = ()
    kept: bool = True
    ends: bool = False
    method: str = "GET"
    has: tuple[tuple[str, str], ...] = ()
    lacks: tuple[str, ...] = ()


PASSED: dict[str, Passed] = {
    "a length": Passed(HEAD + "Content-Length: 2\r\n\r\nok", "ok", has=(("content-length", "2"),)),
    "length 0": Passed(HEAD + "Content-Length: 0\r\n\r\n", has=(("content-length", "0"),)),
    "a length with leading zeros": Passed(
        HEAD + "Content-Length: 0002\r\n\r\nok", "ok", has=(("content-length", "2"),)
    ),
    "chunks": Passed(CHUNKED + "1\r\no\r\n1\r\nk\r\n0\r\n\r\n", "ok", lacks=("content-length",)),
    "no chunk": Passed(CHUNKED + "0\r\n\r\n"),
    "extensions go no further": Passed(CHUNKED + '2;a="b"\r\nok\r\n0;c\r\n\r\n', "ok"),
    "trailers go no further": Passed(
        CHUNKED + "2\r\nok\r\n0\r\nx-a: 1\r\nContent-Length: 7\r\n\r\n", "ok", lacks=("x-a",)
    ),
    "chunked in capitals": Passed(HEAD + "TRANSFER-ENCODING: Chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", "ok"),
    "up to the end": Passed(HEAD + "\r\nok", "ok", kept=False, ends=True, has=(("transfer-encoding", "chunked"),)),
    "nothing up to the end": Passed(HEAD + "\r\n", kept=False, ends=True),
    "HTTP/1.0 with a length": Passed("HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok", "ok", kept=False),
    "HTTP/1.0 up to the end": Passed("HTTP/1.0 200 OK\r\n\r\nok", "ok", kept=False, ends=True),
    "HTTP/1.0 kept alive": Passed("HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nok", "ok"),
    "close": Passed(HEAD + CLOSE + "Content-Length: 2\r\n\r\nok", "ok", kept=False, lacks=("connection",)),
    "no reason": Passed("HTTP/1.1 200 \r\nContent-Length: 0\r\n\r\n"),
    "neither reason nor space": Passed("HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n"),
    "a reason in Latin-1": Passed("HTTP/1.1 200 sch\xf6n, oder?\r\nContent-Length: 0\r\n\r\n"),
    "an unknown status": Passed("HTTP/1.1 299 Odd\r\nContent-Length: 0\r\n\r\n", status=299),
    "the largest status": Passed("HTTP/1.1 599 Odd\r\nContent-Length: 0\r\n\r\n", status=599),
    "an error with a body": Passed("HTTP/1.1 500 Oops\r\nContent-Length: 4\r\n\r\noops", "oops", 500),
    "a redirect is passed on": Passed(
        "HTTP/1.1 302 Found\r\nLocation: http://evil/\r\nContent-Length: 0\r\n\r\n", status=302
    ),
    "204": Passed("HTTP/1.1 204 No Content\r\n\r\n", status=204, lacks=("content-length", "transfer-encoding")),
    "204 with a length of 0": Passed(
        "HTTP/1.1 204 X\r\nContent-Length: 0\r\n\r\n", status=204, lacks=("content-length",)
    ),
    "204 with a body": Passed(
        "HTTP/1.1 204 X\r\nContent-Length: 3\r\n\r\nabc", status=204, kept=False, lacks=("content-length",)
    ),
    "204 that announces a body": Passed("HTTP/1.1 204 X\r\nContent-Length: 3\r\n\r\n", status=204, kept=False),
    "204 in chunks": Passed(
        "HTTP/1.1 204 X\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        status=204,
        kept=False,
        lacks=("transfer-encoding",),
    ),
    "304 with a length": Passed(
        "HTTP/1.1 304 X\r\nContent-Length: 9\r\n\r\n", status=304, has=(("content-length", "9"),)
    ),
    "304 without one": Passed("HTTP/1.1 304 X\r\nETag: 1\r\n\r\n", status=304, has=(("etag", "1"),)),
    "HEAD with a length": Passed(HEAD + "Content-Length: 9\r\n\r\n", method="HEAD", has=(("content-length", "9"),)),
    "HEAD in chunks": Passed(HEAD + "Transfer-Encoding: chunked\r\n\r\n", method="HEAD"),
    "HEAD with a body": Passed(HEAD + "Content-Length: 3\r\n\r\nabc", method="HEAD", kept=False),
    "hints": Passed(HINTS + HEAD + "Content-Length: 2\r\n\r\nok", "ok", interim=(103,)),
    "8 interim replies": Passed(HINTS * 8 + HEAD + "Content-Length: 0\r\n\r\n", interim=(103,) * 8),
    "100 is for us": Passed("HTTP/1.1 100 Continue\r\n\r\n" + HEAD + "Content-Length: 0\r\n\r\n"),
    "102 with a length": Passed(
        "HTTP/1.1 102 X\r\nContent-Length: 5\r\n\r\n" + HEAD + "Content-Length: 0\r\n\r\n", interim=(102,)
    ),
    "an unknown interim reply": Passed("HTTP/1.1 199 X\r\n\r\n" + HEAD + "Content-Length: 0\r\n\r\n", interim=(199,)),
    "more than announced": Passed(
        HEAD + "Content-Length: 2\r\n\r\nok" + HEAD + "Content-Length: 1\r\n\r\nx", "ok", kept=False
    ),
    "more than the last chunk": Passed(CHUNKED + "2\r\nok\r\n0\r\n\r\nmore", "ok", kept=False),
    "fields that repeat": Passed(
        HEAD + "Set-Cookie: a\r\nSet-Cookie: b\r\nContent-Length: 0\r\n\r\n", has=(("set-cookie", "a|b"),)
    ),
    "fields that Connection names": Passed(
        HEAD + "Connection: x-a\r\nx-a: 1\r\nContent-Length: 0\r\n\r\n", lacks=("x-a", "connection")
    ),
    "fields of ours that it forges": Passed(
        HEAD + "x-worker-id: evil\r\nx-remaining-credits: 9\r\nx-request-id: x\r\nContent-Length: 0\r\n\r\n",
        has=(("x-worker-id", "id-a"), ("x-remaining-credits", "25.50")),
    ),
    "names with underscores are dropped": Passed(
        HEAD + "content_length: 5\r\nContent-Length: 0\r\n\r\n", lacks=("content_length",)
    ),
    "an offer to upgrade": Passed(
        HEAD + "Connection: Upgrade\r\nUpgrade: h2c\r\nContent-Length: 0\r\n\r\n", lacks=("upgrade",)
    ),
}

BROKEN: dict[str, str] = {
    "no HTTP": "hello\r\n\r\n",
    "a request": "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    "TLS": "\x15\x03\x01\x00\x02\x02\x16\r\n\r\n",
    "HTTP/2": "HTTP/2 200 OK\r\n\r\n",
    "HTTP/1.2": "HTTP/1.2 200 OK\r\n\r\n",
    "lower case": "http/1.1 200 OK\r\n\r\n",
    "a space first": " HTTP/1.1 200 OK\r\n\r\n",
    "an empty line first": "\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
    "two spaces": "HTTP/1.1  200 OK\r\n\r\n",
    "a status of two digits": "HTTP/1.1 20 OK\r\n\r\n",
    "a status of four digits": "HTTP/1.1 2000 OK\r\n\r\n",
    "a status with a letter": "HTTP/1.1 2x0 OK\r\n\r\n",
    "status 600": "HTTP/1.1 600 X\r\n\r\n",
    "status 099": "HTTP/1.1 099 X\r\n\r\n",
    "a control character in the reason": "HTTP/1.1 200 \x1b[31m\r\n\r\n",
    "a bare LF": HEAD + "x-a: 1\nx-b: 2\r\n\r\n",
    "bare LF everywhere": "HTTP/1.1 200 OK\nContent-Length: 0\n\n\r\n\r\n",
    "a bare CR": HEAD + "x-a: 1\rx-b: 2\r\n\r\n",
    "NUL": HEAD + "x-a: \x00\r\n\r\n",
    "a folded line": HEAD + "x-a: 1\r\n folded\r\n\r\n",
    "a space before the colon": HEAD + "Content-Length : 0\r\n\r\n",
    "no colon": HEAD + "nonsense\r\n\r\n",
    "an empty name": HEAD + ": 1\r\n\r\n",
    "length and chunked": HEAD + "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunked and length": HEAD + "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
    "two lengths": HEAD + "Content-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
    "two equal lengths": HEAD + "Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc",
    "a list of lengths": HEAD + "Content-Length: 3, 3\r\n\r\nabc",
    "a negative length": HEAD + "Content-Length: -1\r\n\r\n",
    "a signed length": HEAD + "Content-Length: +1\r\n\r\na",
    "a hexadecimal length": HEAD + "Content-Length: 0x1\r\n\r\na",
    "an empty length": HEAD + "Content-Length:\r\n\r\n",
    "a huge length": HEAD + "Content-Length: 9999999999999999\r\n\r\n",
    "another coding": HEAD + "Transfer-Encoding: gzip\r\n\r\n",
    "gzip, chunked": HEAD + "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "chunked twice": HEAD + "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunked in HTTP/1.0": "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "101 unasked": "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
    "9 interim replies": HINTS * 9,
    "an interim reply that is none": "HTTP/1.1 103 X\r\nx-a\r\n\r\n",
    "101 fields": HEAD + "x-a: 1\r\n" * 101 + "\r\n",
    "a head of 64 KiB and more": HEAD + "x-a: " + "a" * 70_000,
    "one that says nothing of its end": HEAD + "x-a: 1\r\nx-b",
}
"""The client gets 502, and no other worker is asked: the request has been worked on."""

CUT: dict[str, tuple[str, str]] = {
    "half of what was announced": (HEAD + "Content-Length: 9\r\n\r\nhalf", "half"),
    "no byte of what was announced": (HEAD + "Content-Length: 9\r\n\r\n", ""),
    "half a chunk": (CHUNKED + "9\r\nhalf", "half"),
    "no last chunk": (CHUNKED + "4\r\nhalf\r\n", "half"),
    "half a last chunk": (CHUNKED + "4\r\nhalf\r\n0\r\n", "half"),
    "half a size": (CHUNKED + "4\r\nhalf\r\n5", "half"),
    "a size that is none": (CHUNKED + "4\r\nhalf\r\nzz\r\n", "half"),
    "a negative size": (CHUNKED + "4\r\nhalf\r\n-1\r\n", "half"),
    "a huge size": (CHUNKED + "4\r\nhalf\r\nffffffffffffffffff\r\n", "half"),
    "a chunk longer than its size": (CHUNKED + "4\r\nhalf and more\r\n0\r\n\r\n", "half"),
    "a bare LF": (CHUNKED + "4\r\nhalf\n0\r\n\r\n", "half"),
    "a malformed trailer": (CHUNKED + "4\r\nhalf\r\n0\r\nno colon\r\n\r\n", "half"),
    "endless extensions": (CHUNKED + "4;" + "x" * 2_000, ""),
    "endless trailers": (CHUNKED + "4\r\nhalf\r\n0\r\n" + "x-a: 1\r\n" * 2_000, "half"),
}
"""The head is good, the body comes to no good end, and so must the client's: `(script, at most this body)`."""
