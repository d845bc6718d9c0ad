"""Request targets: where a request wants to go. Pure; works on the raw target, which is never decoded, so nothing can
be decoded twice: a percent-encoded slug is simply no slug of ours."""

from __future__ import annotations

from functools import lru_cache
from typing import Final, NamedTuple
from urllib.parse import quote

from orchestrator.core.routing import Route, RoutingTable
from orchestrator.gateway.answers import Refusal
from orchestrator.gateway.head import RequestHead

HEALTH: Final = "health"
READY: Final = "ready"
SERVER: Final = "server"
"""`OPTIONS *`: the gateway as a whole (RFC 9110 9.3.7)."""
KEYLESS: Final = (HEALTH, READY, SERVER)
CREDITS: Final = "credits"
MODELS: Final = "models"
BY_MODEL: Final = "by_model"
DEFER: Final = "defer"
"""An asynchronous call of an endpoint,"""
DEFERRED: Final = "deferred"
"""and whatever is asked about one."""
_FIXED: Final[dict[bytes, tuple[str, tuple[bytes, ...]]]] = {
    b"/healthz": (HEALTH, (b"GET", b"HEAD")),
    b"/readyz": (READY, (b"GET", b"HEAD")),
    b"/v1/get-user-credits": (CREDITS, (b"GET", b"HEAD")),
    b"/v1/models": (MODELS, (b"GET", b"HEAD")),
    b"/v1/chat/completions": (BY_MODEL, (b"POST",)),
    b"/v1/embeddings": (BY_MODEL, (b"POST",)),
}


class Place(NamedTuple):
    """A target, taken apart. `rest` is None for the predict path; `query` includes its question mark."""

    own: str | None
    methods: tuple[bytes, ...]
    slug: str
    rest: bytes | None
    query: bytes


def resolve(table: RoutingTable, head: RequestHead) -> tuple[str | None, Route | None, bytes]:
    """Where `head` goes: `(own, route, target)`. `own` names a resource of the gateway; else the request is for
    `route`, and the worker is asked for `target`.

    Raises Refusal: 400, 404 or 405. A slug nobody has is not an error here but a route that is None: whether the
    caller may learn that depends on the key. An asynchronous call is ours (DEFER) and has a route.
    """
    own, _, slug, rest, query = head.place or _find(head)
    if own is not None and own is not DEFER:
        return own, None, head.target if head.target[:1] in (b"/", b"*") else _origin_form(head)
    route = table.routes.get(slug)
    if rest is None:
        rest = predict_target(route.predict_path) + query if route is not None else b""
    return own, route, rest


def _find(head: RequestHead) -> Place:
    target = head.target
    if target == b"*" and head.method == b"OPTIONS":
        return Place(SERVER, (), "", None, b"")
    if target[:1] != b"/":
        target = _origin_form(head)
    method = head.method
    if method == b"TRACE" or method == b"CONNECT":
        raise Refusal(405, "method_refused", "TRACE and CONNECT are not served here.", close=True)
    if b"#" in target:
        raise Refusal(400, "bad_target", "A request target has no fragment (#).", close=True)
    path, mark, query = target.partition(b"?")
    place = _place(path)
    if mark:
        own, methods, slug, rest, _ = place
        query = mark + query
        place = Place(own, methods, slug, None if rest is None else rest + query, query)
    if place.methods and method not in place.methods:
        raise _method_refused(b", ".join(place.methods))
    head.place = place
    return place


@lru_cache(maxsize=512)
def _place(path: bytes) -> Place:
    """Where a path leads, without a query, which hardly ever comes twice. Raises Refusal 404 (not remembered)."""
    fixed = _FIXED.get(path)
    if fixed is not None:
        return Place(*fixed, "", None, b"")
    if path[:13] == b"/v2/requests/" or path == b"/v2/requests":
        return Place(DEFERRED, (), "", None, b"")
    if path[:4] not in (b"/v1/", b"/v2/"):
        raise Refusal(404, "no_such_path", "Endpoints are at /v1/{slug}.")
    own = DEFER if path[:4] == b"/v2/" else None
    slug, slash, _ = path[4:].partition(b"/")
    if slash:
        methods = (b"POST",) if own else ()
        return Place(own, methods, slug.decode("ascii"), path[4 + len(slug) :], b"")
    return Place(own, (b"POST",), slug.decode("ascii"), None, b"")


@lru_cache(maxsize=256)
def predict_target(path: str) -> bytes:
    """A catalogue's predict path as a request target: whatever could break the request line is percent-encoded."""
    return quote(path, safe="/%?=&:@!$'()*+,;~-._").encode("ascii")


def _origin_form(head: RequestHead) -> bytes:
    """The path of an absolute-form target (RFC 9112 3.2.2). Its authority and the Host field must be one: a proxy that
    believes the one and a worker that believes the other can be played against each other."""
    scheme, _, rest = head.target.partition(b"://")
    if scheme.lower() != b"http":
        if head.method == b"CONNECT":
            raise Refusal(405, "method_refused", "TRACE and CONNECT are not served here.", close=True)
        raise Refusal(400, "bad_target", "The target must be a path, or an absolute http:// URL.", close=True)
    end = min((i for i in (rest.find(b"/"), rest.find(b"?")) if i >= 0), default=len(rest))
    authority = rest[:end]
    if not authority or (head.host is not None and head.host.lower() != authority.lower()):
        raise Refusal(400, "bad_target", "The target's authority and the Host field differ.", close=True)
    path = rest[end:]
    return path if path[:1] == b"/" else b"/" + path


def _method_refused(allow: bytes) -> Refusal:
    text = allow.decode("ascii")
    return Refusal(405, "method_refused", f"This path is served for {text} only.", fields=(("allow", text),))
