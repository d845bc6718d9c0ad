"""Asynchronous calls as HTTP: `POST /v2/{slug}` hands one in, `/v2/requests/{id}` tells about it.

The gateway only speaks: whatever keeps and runs the calls stands behind the port `Deferrals`. Everything that answers
does so later, in the event loop, through a callback that gets the answer or the Refusal.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

from orchestrator.core.routing import KeyGrant, Route
from orchestrator.gateway.answers import CONTINUE, TITLES, Refusal
from orchestrator.gateway.auth import demand_access
from orchestrator.gateway.head import RequestHead
from orchestrator.gateway.routes import DEFER

if TYPE_CHECKING:
    from orchestrator.gateway.inbound import ClientConnection

_PATH: Final = re.compile(rb"/v2/requests/([0-9a-f]{32})(/result|/cancel)?").fullmatch
_METHODS: Final = {b"": b"GET, HEAD, DELETE", b"/result": b"GET, HEAD", b"/cancel": b"POST"}


class Answer(NamedTuple):
    """A reply of the gateway's own."""

    status: int
    fields: list[tuple[str, str]]
    body: bytes


class Result(NamedTuple):
    """A worker's reply as it was kept: `lines` are its fields, `parts` of its body are fetched one after the other."""

    request_id: str
    status: int
    lines: list[bytes]
    size_bytes: int
    parts: int


class Handed(NamedTuple):
    """A call as it came in. `lines` are its fields without key and framing, `query` includes its question mark."""

    route: Route
    grant: KeyGrant
    target: bytes
    lines: list[bytes]
    base: str
    """Scheme and authority it was sent to."""
    announced_bytes: int
    """Of its body; 0 when that is not known beforehand."""


class Upload(Protocol):
    """A body on its way in. Exactly one of `commit` and `discard` is called, once, after the last `add`."""

    request_id: str

    def add(self, span: bytes) -> None: ...
    def commit(self, done: Callable[[Answer | Refusal], None]) -> None: ...
    def discard(self) -> None: ...


class Deferrals(Protocol):
    """Keeps and runs asynchronous calls. Every callback comes later, at most once."""

    def begin(self, handed: Handed, hold: Callable[[bool], None], broken: Callable[[Refusal], None]) -> Upload:
        """Take a call in. `hold` asks for a pause of the body, `broken` reports that it cannot be kept. Raises Refusal:
        400 for a wish that cannot be granted, 503 when there is no room."""

    def look(self, request_id: str, grant: KeyGrant, base: str, done: Callable[[Answer | Refusal], None]) -> None:
        """Its state. 404 for one that is not there, or not this key's."""

    def cancel(self, request_id: str, grant: KeyGrant, base: str, done: Callable[[Answer | Refusal], None]) -> None:
        """End it. 409 when it is over already."""

    def fetch(self, request_id: str, grant: KeyGrant, done: Callable[[Result | Refusal], None]) -> None:
        """Its result. 409 while there is none yet, 410 when there will be none."""

    def part(self, request_id: str, n: int, done: Callable[[bytes | Refusal], None]) -> None:
        """Part `n` of its result."""


def serve(
    client: ClientConnection,
    head: RequestHead,
    own: str,
    route: Route | None,
    target: bytes,
    grant: KeyGrant,
    request_id: bytes,
) -> None:
    """Whatever is under /v2: a call of an endpoint, or a question about one. Raises Refusal."""
    if own == DEFER:
        _hand_in(client, head, route, target, grant)
    else:
        _ask(client, head, target, grant, request_id)


def _ask(client: ClientConnection, head: RequestHead, target: bytes, grant: KeyGrant, request_id: bytes) -> None:
    """Raises Refusal 404, 405 or 501."""
    deferrals = _port(client)
    match = _PATH(target.partition(b"?")[0])
    if match is None:
        raise Refusal(404, "no_such_request", "Asynchronous calls are at /v2/requests/{request_id}.")
    deferred_id, verb = match[1].decode("ascii"), match[2] or b""
    method = head.method
    if method not in _METHODS[verb].split(b", "):
        allow = _METHODS[verb].decode("ascii")
        raise Refusal(405, "method_refused", f"This path is served for {allow} only.", fields=(("allow", allow),))
    if verb == b"/result":
        sending = Sending(client, deferrals, head, request_id)
        client.request = sending
        deferrals.fetch(deferred_id, grant, sending.begin)
        return
    waiting = Waiting(client, request_id)
    client.request = waiting
    if verb == b"/cancel" or method == b"DELETE":
        deferrals.cancel(deferred_id, grant, base_of(head), waiting.answer)
    else:
        deferrals.look(deferred_id, grant, base_of(head), waiting.answer)


def _hand_in(client: ClientConnection, head: RequestHead, route: Route | None, target: bytes, grant: KeyGrant) -> None:
    """Take in an asynchronous call; the same rules say who may as for a live one. Raises Refusal: 400, 402, 403, 404,
    501, 503."""
    deferrals = _port(client)
    open_route = demand_access(route, grant)
    closed = open_route.lane.closed
    if closed is not None:
        raise Refusal(closed.status, closed.code, closed.message, retry_after_s=closed.retry_after_s)
    if head.upgrade is not None:
        raise Refusal(501, "upgrade_unsupported", "An asynchronous call cannot switch protocols.", close=True)
    waiting = Waiting(client, head.request_id or b"")
    handed = Handed(open_route, grant, target, head.kept, base_of(head), max(0, head.content_length))
    upload = deferrals.begin(handed, client.hold_for_buffer, waiting.broken)
    waiting.upload = upload
    waiting.request_id = head.request_id or upload.request_id.encode("ascii")
    client.request = waiting
    if not head.has_body:
        waiting.body_end()
    elif head.expects:
        client.write(CONTINUE)


def base_of(head: RequestHead) -> str:
    """Scheme and authority of the URLs we give out: the Host that was asked for (it has been checked)."""
    return f"http://{(head.host or b'localhost').decode('ascii')}"


def _port(client: ClientConnection) -> Deferrals:
    deferrals = client.hub.deferrals
    if deferrals is None:
        raise Refusal(501, "async_unsupported", "Asynchronous requests (/v2) are not served here.")
    return deferrals


class Waiting:
    """A request whose answer comes later. With an upload, its body goes there first."""

    __slots__ = ("_client", "_over", "request_id", "upload")

    def __init__(self, client: ClientConnection, request_id: bytes) -> None:
        self._client = client
        self._over = False
        """Answered, or nobody is there to be answered."""
        self.request_id = request_id
        self.upload: Upload | None = None
        """The body so far; None once it was committed or discarded."""

    def answer(self, outcome: Answer | Refusal) -> None:
        if self._over:
            return
        self._over = True
        if isinstance(outcome, Refusal):
            self._client.refuse(outcome, self.request_id)
        else:
            self._client.answer(*outcome, self.request_id)

    def broken(self, refusal: Refusal) -> None:
        """The body cannot be kept: there is no need for the rest of it."""
        self._discard()
        self.answer(refusal)

    def body(self, span: bytes) -> None:
        if self.upload is not None:
            self.upload.add(span)

    def body_end(self) -> None:
        upload, self.upload = self.upload, None
        if upload is not None:
            upload.commit(self.answer)

    def client_full(self, full: bool) -> None:
        """Its answer is short."""

    def client_gone(self) -> None:
        """What was not complete is forgotten; what was is accepted, though nobody hears of it (Idempotency-Key)."""
        self._discard()
        self._over = True

    def cut(self, refusal: Refusal, *, failed: bool) -> None:
        self._discard()
        self.answer(refusal)

    def sweep(self, now_ns: int) -> None:
        """The connection watches the body's progress; the store answers or fails."""

    def _discard(self) -> None:
        upload, self.upload = self.upload, None
        if upload is not None:
            upload.discard()


class Sending:
    """A result on its way out, part by part, as fast as the client takes it."""

    __slots__ = ("_client", "_deferrals", "_fetching", "_head", "_n", "_over", "_request_id", "_result")

    def __init__(self, client: ClientConnection, deferrals: Deferrals, head: RequestHead, request_id: bytes) -> None:
        self._client = client
        self._deferrals = deferrals
        self._request_id = request_id
        self._head = head
        self._result: Result | None = None
        self._n = 0
        self._fetching = False
        self._over = False

    def begin(self, outcome: Result | Refusal) -> None:
        if self._over:
            return
        if isinstance(outcome, Refusal):
            self._over = True
            self._client.refuse(outcome, self._request_id)
            return
        self._result = outcome
        bodiless = outcome.status in (204, 304)
        self._client.write(
            b"".join((
                b"HTTP/1.1 %d %b\r\n" % (outcome.status, TITLES.get(outcome.status, "Unknown").encode("ascii")),
                *(line + b"\r\n" for line in outcome.lines),
                b"" if bodiless else b"content-length: %d\r\n" % outcome.size_bytes,
                self._client.connection_line(),
                b"x-request-id: %b\r\n\r\n" % self._request_id,
            ))
        )  # fmt: skip
        if self._head.method == b"HEAD" or bodiless:
            self._end(outcome.status, 0)
        else:
            self._go_on()

    def part(self, outcome: bytes | Refusal) -> None:
        self._fetching = False
        if self._over:
            return
        if isinstance(outcome, Refusal):  # it was purged meanwhile: half a result must not look whole
            self.cut(outcome, failed=True)
            return
        self._n += 1
        self._client.write(outcome)
        self._go_on()

    def _go_on(self) -> None:
        result = self._result
        if result is None or self._over or self._fetching:
            return
        if self._n == result.parts:
            self._end(result.status, result.size_bytes)
        elif not self._client.full:
            self._fetching = True
            self._deferrals.part(result.request_id, self._n, self.part)

    def _end(self, status: int, bytes_out: int) -> None:
        self._over = True
        hub = self._client.hub
        hub.tell(self._head, self._request_id, status, bytes_out)
        self._client.over(hub.now())

    def body(self, span: bytes) -> None:
        """A body of a GET means nothing."""

    def body_end(self) -> None:
        """See `body`."""

    def client_full(self, full: bool) -> None:
        if not full:
            self._go_on()

    def client_gone(self) -> None:
        self._over = True

    def cut(self, refusal: Refusal, *, failed: bool) -> None:
        begun, self._over = self._result is not None, True
        if begun:
            self._client.hub.tell(self._head, self._request_id, refusal.status, 0)
            self._client.abort()
        else:
            self._client.refuse(refusal, self._request_id)

    def sweep(self, now_ns: int) -> None:
        """A client that takes nothing is cut off by its connection."""
