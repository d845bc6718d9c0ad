"""Requests at the edge of what is allowed, byte for byte: what the client is told and what the workers must see."""

from __future__ import annotations

from dataclasses import dataclass, field

KEY = "x-api-key: gd_k1_owner\r\n"
HOST = "Host: localhost\r\n"
TO = " /v1/sketch/t HTTP/1.1\r\n" + HOST + KEY
OLD = " /v1/sketch/t HTTP/1.0\r\n" + KEY
CHUNKED = "POST" + TO + "Transfer-Encoding: chunked\r\n\r\n"
EVIL = "GET /v1/sketch/evil HTTP/1.1\r\nHost: localhost\r\n\r\n"


@dataclass(frozen=True)
class Taken:
    """`data` is answered with `statuses` in order; the worker sees `seen`: start and body of each request. Fields of
    the first one: `has` by name, and `lacks`."""

    data: str
    seen: tuple[tuple[str, str], ...] = (("GET /t", ""),)
    statuses: tuple[int, ...] = (200,)
    has: dict[str, str] = field(default_factory=dict)
    lacks: tuple[str, ...] = ()


def body(text: str, method: str = "POST") -> tuple[tuple[str, str], ...]:
    return ((f"{method} /t", text),)


TAKEN: dict[str, Taken] = {
    # methods
    "GET": Taken("GET" + TO + "\r\n", lacks=("content-length", "transfer-encoding", "x-api-key", "connection")),
    "HEAD": Taken("HEAD" + TO + "\r\n", body("", "HEAD")),
    "OPTIONS": Taken("OPTIONS" + TO + "\r\n", body("", "OPTIONS")),
    "DELETE": Taken("DELETE" + TO + "\r\n", body("", "DELETE"), lacks=("content-length",)),
    "an extension method": Taken("PROPFIND" + TO + "\r\n", body("", "PROPFIND")),
    "a method in lower case is another one": Taken("get" + TO + "\r\n", body("", "get")),
    "OPTIONS *": Taken("OPTIONS * HTTP/1.1\r\n" + HOST + "\r\n", ()),
    "a GET with a body": Taken("GET" + TO + "Content-Length: 3\r\n\r\nabc", body("abc", "GET")),
    "a DELETE with a body": Taken("DELETE" + TO + "Content-Length: 3\r\n\r\nabc", body("abc", "DELETE")),
    # targets
    "absolute form": Taken(f"GET http://localhost/v1/sketch/t HTTP/1.1\r\n{HOST}{KEY}\r\n"),
    "absolute form in capitals": Taken(f"GET HTTP://LOCALHOST/v1/sketch/t HTTP/1.1\r\n{HOST}{KEY}\r\n"),
    "absolute form, HTTP/1.0": Taken(f"GET http://localhost/v1/sketch/t HTTP/1.0\r\n{KEY}\r\n"),
    "absolute form without a path": Taken(f"GET http://localhost?a HTTP/1.1\r\n{HOST}{KEY}\r\n", (), (404,)),
    "the predict path": Taken(f"POST /v1/sketch HTTP/1.1\r\n{HOST}{KEY}\r\n", (("POST /predict", ""),)),
    "a query": Taken("GET" + TO.replace("/t", "/t?a=b&c=/../x%00") + "\r\n", (("GET /t?a=b&c=/../x%00", ""),)),
    "an empty query": Taken("GET" + TO.replace("/t", "/t?") + "\r\n", (("GET /t?", ""),)),
    "dots are the worker's business": Taken("GET" + TO.replace("/t", "/../x/./") + "\r\n", (("GET /../x/./", ""),)),
    "percent signs pass as they are": Taken(
        "GET" + TO.replace("/t", "/%2e%2E%2f%00%zz") + "\r\n", (("GET /%2e%2E%2f%00%zz", ""),)
    ),
    "two slashes": Taken("GET" + TO.replace("/t", "//evil/t") + "\r\n", (("GET //evil/t", ""),)),
    "every visible character": Taken(
        "GET" + TO.replace("/t", "/!\"$&'()*+,-.:;<=>@[\\]^_`{|}~") + "\r\n",
        (("GET /!\"$&'()*+,-.:;<=>@[\\]^_`{|}~", ""),),
    ),
    "an encoded slug is none": Taken(f"GET /v1/%73ketch/t HTTP/1.1\r\n{HOST}{KEY}\r\n", (), (404,)),
    "a slug in capitals is none": Taken(f"GET /v1/Sketch/t HTTP/1.1\r\n{HOST}{KEY}\r\n", (), (404,)),
    "dots before the slug": Taken(f"GET /v1/../v1/sketch/t HTTP/1.1\r\n{HOST}{KEY}\r\n", (), (404,)),
    "a target of 8 KiB": Taken("GET" + TO.replace("/t", "/" + "t" * 8_181) + "\r\n", ((f"GET /{'t' * 8_181}", ""),)),
    # HTTP/1.0
    "HTTP/1.0": Taken("GET" + OLD + "\r\n", has={"host": "127.0.0.1"}),
    "HTTP/1.0 with a body": Taken("POST" + OLD + "Content-Length: 3\r\n\r\nabc", body("abc")),
    "HTTP/1.0 expects nothing": Taken(
        "POST" + OLD + "Expect: 100-continue\r\nContent-Length: 3\r\n\r\nabc", body("abc"), lacks=("expect",)
    ),
    "HTTP/1.0 kept alive": Taken(("GET" + OLD + "Connection: keep-alive\r\n\r\n") * 2, body("", "GET") * 2, (200, 200)),
    "HTTP/1.0 ends after one": Taken(("GET" + OLD + "\r\n") * 2),
    "HTTP/1.0 cannot upgrade": Taken(
        "GET" + OLD + "Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n", lacks=("upgrade",)
    ),
    # lengths
    "no length": Taken("POST" + TO + "\r\n", body(""), has={"content-length": "0"}),
    "length 0": Taken("POST" + TO + "Content-Length: 0\r\n\r\n", body(""), has={"content-length": "0"}),
    "leading zeros": Taken(
        "POST" + TO + "Content-Length: 000000000000003\r\n\r\nabc", body("abc"), has={"content-length": "3"}
    ),
    "white space around a length": Taken(
        "POST" + TO + "Content-Length:\t 3 \t\r\n\r\nabc", body("abc"), has={"content-length": "3"}
    ),
    "no white space": Taken("POST" + TO + "Content-Length:3\r\n\r\nabc", body("abc")),
    "a body that looks like a request": Taken("POST" + TO + f"Content-Length: {len(EVIL)}\r\n\r\n{EVIL}", body(EVIL)),
    "a body that looks like chunks": Taken("POST" + TO + "Content-Length: 5\r\n\r\n0\r\n\r\n", body("0\r\n\r\n")),
    # chunks
    "chunks": Taken(
        CHUNKED + "3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n",
        body("abcde"),
        has={"transfer-encoding": "chunked"},
        lacks=("content-length",),
    ),
    "no chunk": Taken(CHUNKED + "0\r\n\r\n", body("")),
    "the last chunk in many zeros": Taken(CHUNKED + "1\r\na\r\n000000000000000\r\n\r\n", body("a")),
    "sizes in any case": Taken(CHUNKED + f"a\r\n{'x' * 10}\r\nA\r\n{'y' * 10}\r\n0\r\n\r\n", body("x" * 10 + "y" * 10)),
    "sizes with leading zeros": Taken(CHUNKED + "0003\r\nabc\r\n0\r\n\r\n", body("abc")),
    "extensions go no further": Taken(CHUNKED + '3;a;b=c;d="e;\\"f"\r\nabc\r\n0;z\r\n\r\n', body("abc")),
    "trailers go no further": Taken(
        CHUNKED + "1\r\na\r\n0\r\nx-a: 1\r\nContent-Length: 9\r\nx-api-key: k\r\n\r\n", body("a"), lacks=("x-a",)
    ),
    "Trailer and TE are for one hop": Taken(
        "POST"
        + TO
        + "Trailer: x-a\r\nTE: trailers\r\nConnection: TE\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nx-a: 1\r\n\r\n",
        body(""),
        lacks=("te", "trailer", "connection"),
    ),
    "chunked in capitals": Taken("POST" + TO + "Transfer-Encoding:  CHUNKED \r\n\r\n1\r\na\r\n0\r\n\r\n", body("a")),
    "a chunk that looks like the end": Taken(
        CHUNKED + f"{len(EVIL) + 5:x}\r\n0\r\n\r\n{EVIL}\r\n0\r\n\r\n", body("0\r\n\r\n" + EVIL)
    ),
    "a chunked GET": Taken("GET" + TO + "Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n", body("a", "GET")),
    # fields
    "names in any case": Taken(
        "POST /v1/sketch/t HTTP/1.1\r\nhOST: localhost\r\nX-API-KEY: gd_k1_owner\r\ncONTENT-lENGTH: 1\r\n\r\na",
        body("a"),
    ),
    "a bearer": Taken(
        f"GET /v1/sketch/t HTTP/1.1\r\n{HOST}Authorization: bearer  gd_k1_owner\r\n\r\n", lacks=("authorization",)
    ),
    "fields that repeat": Taken(
        "GET" + TO + "Cookie: a\r\nCookie: b\r\nAccept: x\r\nAccept: y\r\n\r\n", has={"cookie": "a|b", "accept": "x|y"}
    ),
    "an empty value": Taken("GET" + TO + "x-a:\r\nx-b: \r\n\r\n", has={"x-a": "", "x-b": ""}),
    "a value in Latin-1": Taken("GET" + TO + "x-a: \xe4\xff\r\n\r\n", has={"x-a": "\xe4\xff"}),
    "a value with tabs and colons": Taken("GET" + TO + "x-a: a\tb:c: d\r\n\r\n", has={"x-a": "a\tb:c: d"}),
    "names with underscores are dropped": Taken(
        "GET" + TO + "x_forwarded_for: 1\r\ncontent_length: 5\r\ntransfer_encoding: chunked\r\n\r\n",
        lacks=("x_forwarded_for", "content_length", "transfer_encoding"),
    ),
    "who calls is for us to say": Taken(
        "GET"
        + TO
        + "X-Forwarded-For: 1.2.3.4\r\nX-Forwarded-For: 5.6.7.8\r\nX-Real-IP: 1.2.3.4\r\nForwarded: for=1\r\n\r\n",
        has={"x-forwarded-for": "127.0.0.1"},
        lacks=("x-real-ip", "forwarded"),
    ),
    "a request id is passed on": Taken("GET" + TO + "x-request-id: abc-1\r\n\r\n", has={"x-request-id": "abc-1"}),
    "traceparent is passed on": Taken(
        "GET" + TO + "traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\n\r\n",
        has={"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"},
    ),
    "100 fields": Taken("GET" + TO + "x-a: 1\r\n" * 98 + "\r\n"),
    "a head of 16 KiB": Taken("GET" + TO + "x-a: " + "a" * (16_384 - len("GET" + TO) - 7) + "\r\n\r\n"),
    "same-origin pages of ours": Taken(
        "GET" + TO + "Sec-Fetch-Site: same-origin\r\n\r\n", has={"sec-fetch-site": "same-origin"}
    ),
    # hop by hop
    "fields that Connection names": Taken(
        "GET" + TO + "Connection: x-a, x-b\r\nX-A: 1\r\nx-b: 2\r\nx-c: 3\r\n\r\n",
        has={"x-c": "3"},
        lacks=("x-a", "x-b", "connection"),
    ),
    "Connection cannot name our framing away": Taken(
        "POST" + TO + "Connection: content-length, host\r\nContent-Length: 3\r\n\r\nabc",
        body("abc"),
        has={"content-length": "3"},
    ),
    "nor that of chunks": Taken(
        "POST" + TO + "Connection: transfer-encoding\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n",
        body("a"),
    ),
    "several Connection lines": Taken(
        "GET" + TO + "Connection: keep-alive\r\nConnection: x-a\r\nx-a: 1\r\n\r\n", lacks=("x-a",)
    ),
    "Proxy-Connection and Keep-Alive": Taken(
        "GET" + TO + "Proxy-Connection: close\r\nKeep-Alive: timeout=9\r\n\r\n",
        lacks=("proxy-connection", "keep-alive"),
    ),
    "h2c is not taken up": Taken(
        "GET" + TO + "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: x\r\n\r\n",
        lacks=("upgrade", "http2-settings"),
    ),
    "Upgrade without Connection": Taken("GET" + TO + "Upgrade: websocket\r\n\r\n", lacks=("upgrade",)),
    "close": Taken(("GET" + TO + "Connection: close\r\n\r\n") * 2),
    "Close among others": Taken(("GET" + TO + "Connection: x, CLOSE\r\n\r\n") * 2),
    # one after the other
    "an empty line first": Taken("\r\nGET" + TO + "\r\n"),
    "an empty line between": Taken("GET" + TO + "\r\n\r\nGET" + TO + "\r\n", body("", "GET") * 2, (200, 200)),
    "pipelined": Taken(("GET" + TO + "\r\n") * 5, body("", "GET") * 5, (200,) * 5),
    "pipelined with bodies": Taken(
        "POST" + TO + "Content-Length: 1\r\n\r\na" + CHUNKED + "1\r\nb\r\n0\r\n\r\n" + "GET" + TO + "\r\n",
        (*body("a"), *body("b"), *body("", "GET")),
        (200,) * 3,
    ),
    "pipelined after trailers": Taken(
        CHUNKED + "0\r\nx-a: 1\r\n\r\nGET" + TO + "\r\n", (*body(""), *body("", "GET")), (200, 200)
    ),
    "pipelined after a body nobody wanted": Taken(
        f"POST /v1/none HTTP/1.1\r\n{HOST}{KEY}Content-Length: {len(EVIL)}\r\n\r\n{EVIL}GET{TO}\r\n",
        body("", "GET"),
        (404, 200),
    ),
    "pipelined after a probe with a body": Taken(
        f"GET /healthz HTTP/1.1\r\n{HOST}Content-Length: 3\r\n\r\nabcGET{TO}\r\n", body("", "GET"), (200, 200)
    ),
    "Expect, and the body at once": Taken(
        "POST" + TO + "Expect: 100-Continue\r\nContent-Length: 3\r\n\r\nabc", body("abc"), lacks=("expect",)
    ),
    "a second request that is none": Taken("GET" + TO + "\r\nGET / HTTP/1.1\r\nHost : x\r\n\r\n", statuses=(200, 400)),
}
