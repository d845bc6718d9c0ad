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
CREDITS: Final = "credits"
MODELS: Final = "models"
BY_MODEL: Final = "by_model"
_FIXED: Final[dict[bytes, tuple[str, tuple[bytes, ...]]]] = {
    b"/healthz": (HEALTH, (b"GET", b"HEAD")),
    b"/readyz": (READY, (b"GET", b"HEAD")),
    b"/v1/get-user-credits": (CREDITS, (b"GET", b"HEAD")),
    b"/v1/models": (MODELS, (b"GET", b"HEAD")),
    b"/v1/chat/completions": (BY_MODEL, (b"POST",)),
    b"/v1/embeddings": (BY_MODEL, (b"POST",)),
}


class Destination(NamedTuple):
    """`own` names a resource of the gateway; else the request is for `route`, None when no endpoint has that slug.
    `target` is what the worker is asked for."""

    own: str | None
    route: Route | None
    target: bytes


def resolve(table: RoutingTable, head: RequestHead) -> Destination:
    """Where `head` goes. Raises Refusal: 400, 404, 405 or 501. An unknown slug is not an error here: whether the caller
    may learn that depends on the key."""
    target = head.target
    if target[:1] != b"/":
        target = _origin_form(head)
    if head.method in (b"TRACE", b"CONNECT"):
        raise Refusal(405, "method_refused", "TRACE and CONNECT are not served here.", close=True)
    if b"#" in target:
        raise Refusal(400, "bad_target", "A request target has no fragment (#).", close=True)
    path, mark, query = target.partition(b"?")
    fixed = _FIXED.get(path)
    if fixed is not None:
        own, methods = fixed
        if head.method not in methods:
            raise _method_refused(b", ".join(methods))
        return Destination(own, None, target)
    if path[:4] == b"/v2/":
        raise Refusal(501, "async_unsupported", "Asynchronous requests (/v2) are not served by this version.")
    if path[:4] != b"/v1/":
        raise Refusal(404, "no_such_path", "Endpoints are at /v1/{slug}.")
    slug, slash, _ = path[4:].partition(b"/")
    route = table.routes.get(slug.decode("ascii"))
    if slash:
        return Destination(None, route, target[4 + len(slug) :])
    if head.method != b"POST":
        raise _method_refused(b"POST")
    return Destination(None, route, predict_target(route.predict_path) + mark + query if route else b"")


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
