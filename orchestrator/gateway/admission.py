"""From a request's head to what happens with it: an answer of our own, or an exchange on an endpoint's lane."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from orchestrator.contract.endpoint import Visibility
from orchestrator.core.routing import KeyGrant, Route, RoutingTable
from orchestrator.gateway import routes
from orchestrator.gateway.answers import CONTINUE, Refusal, credits_body, json_body
from orchestrator.gateway.auth import authenticate
from orchestrator.gateway.exchange import Exchange
from orchestrator.gateway.head import RequestHead

if TYPE_CHECKING:
    from orchestrator.gateway.inbound import ClientConnection

_JSON = [("content-type", "application/json")]


def admit(client: ClientConnection, head: RequestHead) -> None:
    """Serve `head`. Raises Refusal with the answer when it cannot be served."""
    hub = client.hub
    hub.doorman.check(head)
    if head.upgrade is not None and head.upgrade.lower() != b"h2c":  # h2c is an offer that may be ignored
        raise Refusal(501, "upgrade_unsupported", "WebSocket and other upgrades are not served.", close=True)
    own, route, target = routes.resolve(hub.table, head)
    request_id = head.request_id or hub.next_id()
    if own in (routes.HEALTH, routes.READY):
        _answer_probe(client, own, request_id)
        return
    if hub.table.restoring:
        # Neither keys nor endpoints are known yet: a caller must not be told that it has none.
        raise Refusal(503, "starting", "The orchestrator is starting.", retry_after_s=1)
    now_ns = hub.now()
    grant = authenticate(hub.table, head.key, now_ns)
    if own is None:
        forward(client, head, route, target, grant, request_id, now_ns)
    elif own == routes.CREDITS:
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


def _answer_probe(client: ClientConnection, own: str | None, request_id: bytes) -> None:
    """/healthz says that this process lives, /readyz that it is worth sending requests to."""
    if own == routes.HEALTH:
        client.answer(200, _JSON, b'{"status": "ok"}', request_id)
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
    if route is None:
        raise Refusal(404, "no_such_endpoint", "There is no endpoint of that name.")
    if not _may_call(route, grant):
        raise Refusal(403, "endpoint_private", "This endpoint belongs to another account.")
    if grant.endpoints and route.slug not in grant.endpoints:
        raise Refusal(403, "key_scope", "This key may not call this endpoint.")
    closed = route.lane.closed
    if closed is not None:
        if closed.status >= 500:
            route.meter.record(now_ns, total_ns=0, queue_ns=0, failed=True)
        raise Refusal(closed.status, closed.code, closed.message, retry_after_s=closed.retry_after_s)
    exchange = Exchange(client, head, route, target, grant.account, request_id, now_ns)
    if body is not None:
        exchange.preload(body)
    client.request = exchange
    try:
        exchange.start()
    except Refusal:
        client.request = None
        raise


def _may_call(route: Route, grant: KeyGrant) -> bool:
    return route.account == grant.account or route.visibility is Visibility.PUBLIC


def _models(table: RoutingTable, grant: KeyGrant) -> bytes:
    """The list of the OpenAI API: the slugs this key may call, in order of their names."""
    mine = [
        route
        for slug, route in sorted(table.routes.items())
        if _may_call(route, grant) and (not grant.endpoints or slug in grant.endpoints)
    ]
    data = [{"id": route.slug, "object": "model", "created": 0, "owned_by": route.account} for route in mine]
    return json_body({"object": "list", "data": data})


class ModelCall:
    """A request whose JSON body names its endpoint: read whole, then forwarded as it came."""

    __slots__ = ("_arrived_ns", "_client", "_grant", "_head", "_request_id", "_size", "_spans", "_target")

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
        self._spans: list[bytes] = []
        self._size = 0

    def body(self, span: bytes) -> None:
        self._spans.append(span)
        self._size += len(span)
        if self._size > self._client.hub.limits.collect_bytes:
            self._client.refuse(self._too_large(self._client), self._request_id)

    def body_end(self) -> None:
        body = b"".join(self._spans)
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
