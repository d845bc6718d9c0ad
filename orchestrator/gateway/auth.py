"""API keys: from the bytes a client sent to the grant they stand for."""

from __future__ import annotations

import hashlib
from typing import Final

from orchestrator.core.routing import KeyGrant, RoutingTable
from orchestrator.gateway.answers import Refusal

_CHALLENGE: Final = (("www-authenticate", 'Bearer realm="gpudeck"'),)


def authenticate(table: RoutingTable, key: bytes | None, now_ns: int) -> KeyGrant:
    """The grant of `key`. Raises Refusal 401 in the same words for a missing, unknown and expired key.

    The work is the same in every case: one digest, one lookup by that digest. Timing tells nothing about the bytes of
    any valid key, because its digest is not ordered like them.
    """
    grant = table.keys.get(hashlib.sha256(key or b"").digest())
    if grant is None or key is None or (grant.expires_ns is not None and now_ns >= grant.expires_ns):
        raise Refusal(
            401,
            "key_invalid",
            "Send a valid API key as `x-api-key: KEY` or `Authorization: Bearer KEY`.",
            fields=_CHALLENGE,
        )
    grant.used_ns = now_ns
    return grant
