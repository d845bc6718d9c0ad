"""From a request's head to what happens with it: an answer of our own, or an exchange on an endpoint's lane."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from orchestrator.contract.endpoint import may_call
from orchestrator.core.routing import KeyGrant, Route, RoutingTable
from orchestrator.gateway import deferral, routes, websocket
from orchestrator.gateway.answers import CONTINUE, Refusal, credits_body, json_body
from orchestrator.gateway.auth import authenticate, demand_access
from orchestrator.gateway.early import Early
from orchestrator.gateway.exchange import Exchange
from orchestrator.gateway.head import RequestHead

if TYPE_CHECKING:
    from orchestrator.gateway.inbound import ClientConnection

_JSON = [("content-type", "application/json")]


def admit(client: ClientConnection, head: RequestHead) -> None:
    """Serve `head`. Raises Refusal with the answer when it cannot be served."""
    hub = client.hub
    if head.place is None:  # else it is known that it may be looked at, and where it wants to go
        hub.doorman.check(head)
    if head.upgrade is not None:
        websocket.read_offer(head)
    own, route, target = routes.resolve(hub.table, head)
    request_id = head.request_id or hub.next_id()
    if own is not None and own in routes.KEYLESS:
        _answer_probe(client, own, request_id)
        return
    if hub.table.restoring:
        client.request = Early(client, head, request_id, admit)
        return
    now_ns = hub.now()
    try:
        grant = authenticate(hub.table, head, now_ns)
    except Refusal as refusal:
        raise hub.failures.count(client.peer, head.key, now_ns) or refusal from None
    if own is None:
        forward(client, head, route, target, grant, request_id, now_ns)
    elif own in (routes.DEFER, routes.DEFERRED):
        deferral.serve(client, head, own, route, target, grant, request_id)
    else:
        _serve_own(client, head, own, target, grant, request_id, now_ns)


def _serve_own(
    client: ClientConnection,
    head: RequestHead,
    own: str,
    target: bytes,
    grant: KeyGrant,
    request_id: bytes,
    now_ns: int,
) -> None:
    """What we answer ourselves, and calls whose endpoint is named in their body. Raises Refusal 400."""
    hub = client.hub
    if own == routes.CREDITS:
        balance_u = hub.table.balances_u.get(grant.account, 0)
        client.answer(200, _JSON, credits_body(grant.account, balance_u), request_id)
    elif own == routes.MODELS:
        client.answer(200, _JSON, _models(hub.table, grant), request_id)
    elif not head.has_body:
        raise Refusal(400, "body_missing", "Send a JSON object with a `model` field.")
    else:
        client.request = ModelCall(client, head, grant, target, request_id, now_ns)
        if head.expects:
            client.write(CONTINUE)


def _answer_probe(client: ClientConnection, own: str, request_id: bytes) -> None:
    """/healthz says that this process lives, /readyz that it is worth sending requests to, `OPTIONS *` what can be
    asked at all."""
    if own == routes.HEALTH:
        client.answer(200, _JSON, b'{"status": "ok"}', request_id)
    elif own == routes.SERVER:
        client.answer(200, [("allow", "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS")], b"", request_id)
    elif client.hub.table.ready and not client.hub.draining:
        client.answer(200, _JSON, b'{"status": "ready"}', request_id)
    else:
        raise Refusal(503, "not_ready", "The orchestrator is starting or stopping.", retry_after_s=1)


def forward(
    client: ClientConnection,
    head: RequestHead,
    route: Route | None,
    target: bytes,
    grant: KeyGrant,
    request_id: bytes,
    now_ns: int,
    body: bytes | None = None,
) -> None:
    """Put the request on its endpoint's lane. Raises Refusal: 404, 403, 503, or what the closed lane says."""
    route = demand_access(route, grant)
    closed = route.lane.closed
    if closed is not None:
        if closed.status >= 500:
            route.meter.record(now_ns, total_ns=0, queue_ns=0, failed=True, status=closed.status)
        raise Refusal(closed.status, closed.code, closed.message, retry_after_s=closed.retry_after_s)
    if client.hub.observer is not None:
        head = client.hub.observer.admitted(head)
    exchange = Exchange(client, head, route, target, grant.account, request_id, now_ns, grant.key_id)
    if body is not None:
        exchange.preload(body)
    client.request = exchange
    try:
        exchange.start()
    except Refusal:
        client.request = None
        raise


def _models(table: RoutingTable, grant: KeyGrant) -> bytes:
    """The list of the OpenAI API: the slugs this key may call, in order of their names."""
    mine = [
        route
        for slug, route in sorted(table.routes.items())
        if may_call(grant.account, route) and (not grant.endpoints or slug in grant.endpoints)
    ]
    data = [{"id": route.slug, "object": "model", "created": 0, "owned_by": route.account} for route in mine]
    return json_body({"object": "list", "data": data})


class ModelCall:
    """A request whose JSON body names its endpoint: read whole, then forwarded as it came."""

    __slots__ = ("_arrived_ns", "_body", "_client", "_grant", "_head", "_request_id", "_target")

    def __init__(
        self,
        client: ClientConnection,
        head: RequestHead,
        grant: KeyGrant,
        target: bytes,
        request_id: bytes,
        arrived_ns: int,
    ) -> None:
        if head.content_length > client.hub.limits.collect_bytes:
            raise self._too_large(client)
        self._client = client
        self._head = head
        self._grant = grant
        self._target = target
        self._request_id = request_id
        self._arrived_ns = arrived_ns
        self._body = bytearray()  # not a list of spans: those may be tiny

    def body(self, span: bytes) -> None:
        self._body += span
        if len(self._body) > self._client.hub.limits.collect_bytes:
            self._client.refuse(self._too_large(self._client), self._request_id)

    def body_end(self) -> None:
        body = bytes(self._body)
        try:
            slug = _model_of(body)
            route = self._client.hub.table.routes.get(slug)
            forward(
                self._client, self._head, route, self._target, self._grant, self._request_id, self._arrived_ns, body
            )
        except Refusal as error:
            self._client.refuse(error, self._request_id)

    def client_full(self, full: bool) -> None:
        """Nothing is being written yet."""

    def client_gone(self) -> None:
        """Nothing was claimed yet."""

    def cut(self, refusal: Refusal, *, failed: bool) -> None:
        self._client.refuse(refusal, self._request_id)

    def sweep(self, now_ns: int) -> None:
        """The connection watches the body's progress; there is no other deadline yet."""

    @staticmethod
    def _too_large(client: ClientConnection) -> Refusal:
        limit = client.hub.limits.collect_bytes
        return Refusal(413, "body_too_large", f"A body with a `model` field may have {limit} bytes here.", close=True)


def _model_of(body: bytes) -> str:
    try:
        document = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise Refusal(400, "bad_json", "The body is not valid JSON.") from error
    model = document.get("model") if isinstance(document, dict) else None
    if not isinstance(model, str):
        raise Refusal(400, "model_missing", "The body must be a JSON object with `model`: the slug of an endpoint.")
    return model
