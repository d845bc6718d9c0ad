"""API keys: from the bytes a client sent to the grant they stand for."""

from __future__ import annotations

import hashlib
from typing import Final

from orchestrator.contract.endpoint import may_call
from orchestrator.core.routing import KeyGrant, Route, RoutingTable
from orchestrator.gateway.answers import Refusal
from orchestrator.gateway.head import RequestHead

_CHALLENGE: Final = (("www-authenticate", 'Bearer realm="gpudeck"'),)


def authenticate(table: RoutingTable, head: RequestHead, now_ns: int) -> KeyGrant:
    """The grant of the key in `head`. Raises Refusal 401 in the same words for a missing, unknown and expired key.

    The work is the same in every case: one digest, one lookup by that digest. Timing tells nothing about the bytes of
    any valid key, because its digest is not ordered like them.
    """
    digest = head.digest
    if digest is None:
        digest = head.digest = hashlib.sha256(head.key or b"").digest()
    grant = table.keys.get(digest)
    if grant is None or head.key is None or (grant.expires_ns is not None and now_ns >= grant.expires_ns):
        raise Refusal(
            401,
            "key_invalid",
            "Send a valid API key as `x-api-key: KEY` or `Authorization: Bearer KEY`.",
            fields=_CHALLENGE,
        )
    grant.used_ns = now_ns
    return grant


def demand_access(route: Route | None, grant: KeyGrant) -> Route:
    """The route, if the key may call it. Raises Refusal: 404 for none, 403 for one of another account or scope."""
    if route is None:
        raise Refusal(404, "no_such_endpoint", "There is no endpoint of that name.")
    if not may_call(grant.account, route):
        raise Refusal(403, "endpoint_private", "This endpoint belongs to another account.")
    if grant.endpoints and route.slug not in grant.endpoints:
        raise Refusal(403, "key_scope", "This key may not call this endpoint.")
    return route
