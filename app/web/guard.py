"""Who may talk to the web server: whoever holds the token, from a page of ours, by a name that cannot be rebound."""

from __future__ import annotations

import hmac
import secrets
from dataclasses import dataclass, field
from ipaddress import ip_address
from urllib.parse import urlsplit

SECRET_BYTES = 32


def is_loopback(host: str) -> bool:
    """Whether `host` names this machine and nothing else. Names other than localhost are not looked up."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


@dataclass(frozen=True, slots=True)
class Guard:
    """What one run of the server accepts. `remote`: it listens beyond this host, so callers use another address."""

    port: int
    remote: bool = False
    token: str = field(default_factory=lambda: secrets.token_urlsafe(SECRET_BYTES), repr=False)
    """In the address that is printed. Good until the server ends."""
    ticket: str = field(default_factory=lambda: secrets.token_urlsafe(SECRET_BYTES), repr=False)
    """What the cookie holds: another secret, so that a token in a shell's history is not the cookie of a browser."""

    @property
    def cookie(self) -> str:
        """Name of the cookie. Cookies do not know ports: two servers on one host would overwrite each other's."""
        return f"gpudeck-{self.port}"

    def knows_host(self, host: str | None) -> bool:
        """Whether a request's Host may be meant for us. A page elsewhere can make its own name lead here (DNS
        rebinding), but not an address: so addresses and `localhost` pass, other names never do."""
        try:
            name = urlsplit(f"//{host or ''}").hostname or ""
        except ValueError:  # brackets that hold no address
            return False
        return is_loopback(name) or (self.remote and _is_address(name))

    def knows_token(self, text: str) -> bool:
        """Takes the same time for every wrong token."""
        return hmac.compare_digest(text.encode(), self.token.encode())

    def knows_ticket(self, text: str | None) -> bool:
        """Takes the same time for every wrong ticket; None is a request without the cookie."""
        return text is not None and hmac.compare_digest(text.encode(), self.ticket.encode())

    def knows_origin(self, origin: str | None, host: str | None) -> bool:
        """Whether a WebSocket was opened by a page that we served. Browsers send cookies along with those that any
        page opens, and only the Origin tells them apart; a missing one is refused."""
        return origin is not None and host is not None and origin in (f"http://{host}", f"https://{host}")
