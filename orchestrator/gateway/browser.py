"""Defence against web pages in the user's browser (DNS rebinding, cross-site requests): reliability.md 5.2."""

from __future__ import annotations

import re
from typing import Final

from orchestrator.gateway.answers import Refusal
from orchestrator.gateway.head import RequestHead
from orchestrator.gateway.limits import Access

_HOST: Final = re.compile(rb"(\[[0-9A-Fa-f:.]{2,45}\]|[A-Za-z0-9._-]{1,253})(?::([0-9]{1,5}))?").fullmatch
_LOOPBACK: Final = ("localhost", "127.0.0.1", "[::1]")
_SEEN_MAX: Final = 256


class Doorman:
    """Decides by Host, Origin and Sec-Fetch-Site whether a request may be looked at."""

    def __init__(self, access: Access) -> None:
        self._hosts = frozenset(
            name.lower().encode("idna" if not name.isascii() else "ascii") for name in (*_LOOPBACK, *access.hosts)
        )
        self._origins = frozenset(origin.lower().encode() for origin in access.origins)
        self._seen: set[bytes] = set()
        """Host values found good, so that the usual request costs one lookup. Bounded: the port is the client's."""

    def check(self, head: RequestHead) -> None:
        """Raises Refusal: 400 for a malformed Host, 421 for one that is not ours, 403 for a foreign page."""
        host = head.host
        if host is not None and host not in self._seen:
            self._check_host(host)
        if head.origin is not None:
            if head.origin.lower() not in self._origins:
                raise Refusal(403, "origin_refused", "Web pages of this origin may not call this gateway.")
        elif head.site is not None and head.site.lower() == b"cross-site":
            raise Refusal(403, "origin_refused", "Cross-site requests of web pages are refused.")

    def _check_host(self, host: bytes) -> None:
        match = _HOST(host)
        if host and match is None:
            raise Refusal(400, "bad_host", "Host is not a name or address with an optional port.", close=True)
        if match is None or match.group(1).lower() not in self._hosts or int(match.group(2) or 0) > 65_535:
            raise Refusal(
                421,
                "host_refused",
                "This gateway answers to localhost, 127.0.0.1, [::1] and the hosts in its settings only.",
            )
        if len(self._seen) < _SEEN_MAX:
            self._seen.add(host)
