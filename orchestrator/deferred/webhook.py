"""Webhooks: which addresses may be notified, how a notification is signed, and one attempt to deliver it.

Whoever may call an endpoint can name a URL that this host will then send a request to. So a webhook reaches public
addresses only, unless the operator allows more (`webhook_allow` in the settings); a name is resolved at each attempt
and the connection goes to the very address that was checked, so a name cannot answer differently the second time (DNS
rebinding); redirects are not followed. Nothing of the answer but its status is used.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import re
import socket
import ssl
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final
from urllib.parse import SplitResult, urlsplit

from orchestrator.contract.base import SECOND_NS

URL_BYTES_MAX: Final = 2_048
ATTEMPT_S: Final = 10.0
"""For one attempt as a whole, from resolving the name to the status of the answer."""
ANSWER_BYTES_MAX: Final = 16 * 1024
PAUSES_S: Final = (5, 30, 120, 300, 600, 1_200)
"""After each failed attempt; the last one is made some 38 minutes after the first, while the result is still there."""
OVERLAP_NS: Final = 24 * 3_600 * SECOND_NS
"""How long the secret before the newest still signs beside it."""
SECRET_PREFIX: Final = "whsec_"  # noqa: S105 - the prefix of Standard Webhooks, no secret
GONE: Final = 410
"""The receiver's way of saying: never again."""

_NAME: Final = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9._-]{0,251}[A-Za-z0-9_])?\.?").fullmatch
_TARGET: Final = re.compile(r"[\x21\x23-\x3b\x3d\x3f-\x5b\x5d\x5f\x61-\x7a\x7e]*").fullmatch
_STATUS: Final = re.compile(rb"HTTP/1\.[01] ([1-5][0-9]{2})(?: [^\r\n]*)?\r\n").match
_NAT64: Final = ip_network("64:ff9b::/96")
_NOT_PUBLIC: Final = tuple(
    ip_network(text) for text in ("fec0::/10", "3fff::/20", "192.0.0.0/24", "192.88.99.0/24", "168.63.129.16/32")
)
"""What `ipaddress` takes for public and is not: old site-local addresses, those of documentation, of protocols and of
6to4 relays, and the one at which Azure's host answers its own machines."""


class Undelivered(Exception):
    """It did not work this time. The message is fit to be shown; it holds nothing the receiver said."""


@dataclass(frozen=True, slots=True)
class Allowance:
    """What the operator allows beyond public addresses: names as they stand in URLs, and networks."""

    names: frozenset[str] = frozenset()
    networks: tuple[IPv4Network | IPv6Network, ...] = ()

    def permits(self, host: str, address: IPv4Address | IPv6Address) -> bool:
        return is_public(address) or host.lower() in self.names or any(address in network for network in self.networks)


@dataclass(frozen=True, slots=True)
class Address:
    """A URL that was found good, taken apart. `host` is a name, or an IP address without brackets."""

    url: str
    tls: bool
    host: str
    port: int
    authority: str
    target: str

    @property
    def origin(self) -> str:
        return f"{'https' if self.tls else 'http'}://{self.authority}"


def read_allowance(entries: Iterable[str]) -> Allowance:
    """From the setting: names such as hooks.lan, addresses and networks such as 10.0.0.0/8. Raises ValueError naming
    the entry."""
    names: set[str] = set()
    networks: list[IPv4Network | IPv6Network] = []
    for entry in entries:
        try:
            networks.append(ip_network(entry))
        except ValueError:
            if "/" in entry or not _NAME(entry):
                raise ValueError(f"{entry!a} is neither a host name nor a network such as 10.0.0.0/8") from None
            names.add(entry.lower())
    return Allowance(frozenset(names), tuple(networks))


def is_public(address: IPv4Address | IPv6Address) -> bool:
    """Whether the address is one of the public internet, also behind what wraps IPv4 in IPv6."""
    if isinstance(address, IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour or (address.teredo[1] if address.teredo else None)
        if inner is None and address in _NAT64:
            inner = IPv4Address(int(address) & 0xFFFFFFFF)
        if inner is not None:
            return is_public(inner)
    odd = address.is_multicast or address.is_reserved or address.is_unspecified or address.is_link_local
    return address.is_global and not odd and not any(address in network for network in _NOT_PUBLIC)


def read_url(text: str, allowance: Allowance) -> Address:
    """The URL taken apart. Raises ValueError, a sentence that says what it must be, without quoting it."""
    if len(text) > URL_BYTES_MAX:
        raise ValueError(f"the webhook URL has more than {URL_BYTES_MAX} characters")
    try:
        parts = urlsplit(text)
        port = parts.port
        host = parts.hostname or ""
    except ValueError:
        raise ValueError("the webhook URL is not valid") from None
    if parts.scheme not in ("http", "https"):
        raise ValueError("the webhook URL must begin with https:// or http://")
    if "@" in parts.netloc or parts.fragment:
        raise ValueError("the webhook URL must have neither user and password nor a fragment (#)")
    if not _TARGET(parts.path) or not _TARGET(parts.query) or "\\" in text:
        raise ValueError("the webhook URL holds characters that must be percent-encoded")
    if port == 0:
        raise ValueError("the webhook URL names port 0")
    _check_host(host, allowance)
    tls = parts.scheme == "https"
    return Address(text, tls, host, port or (443 if tls else 80), _authority(host, port), _target(parts))


def _check_host(host: str, allowance: Allowance) -> None:
    try:
        address = ip_address(host)
    except ValueError:
        if not _NAME(host):
            raise ValueError("the webhook URL names no host (other scripts go as xn--)") from None
        local = host.lower().rstrip(".") == "localhost" or host.lower().rstrip(".").endswith(".localhost")
        loops: tuple[IPv4Address | IPv6Address, ...] = (IPv4Address("127.0.0.1"), IPv6Address("::1"))
        if local and not any(allowance.permits(host, address) for address in loops):
            raise ValueError(
                "the webhook URL leads to this host; the operator can allow it with webhook_allow"
            ) from None
        return
    if not allowance.permits(host, address):
        raise ValueError("the webhook URL leads to a private address; the operator can allow it with webhook_allow")


def _authority(host: str, port: int | None) -> str:
    shown = f"[{host}]" if ":" in host else host
    return shown if port is None else f"{shown}:{port}"


def _target(parts: SplitResult) -> str:
    return (parts.path or "/") + (f"?{parts.query}" if parts.query else "")


def derive(master: bytes, account: str, generation: int) -> bytes:
    """An account's secret: 32 bytes that tell nothing about the master or another account's."""
    return hmac.digest(master, b"\0".join((b"webhook", account.encode(), b"%d" % generation)), "sha256")


def spell(secret: bytes) -> str:
    """A secret as the libraries of Standard Webhooks take it."""
    return SECRET_PREFIX + base64.b64encode(secret).decode("ascii")


def sign(secrets: Iterable[bytes], message_id: str, timestamp_s: int, body: bytes) -> str:
    """The value of `webhook-signature`: one signature for each secret."""
    signed = b"%b.%d.%b" % (message_id.encode("ascii"), timestamp_s, body)
    return " ".join(
        f"v1,{base64.b64encode(hmac.digest(secret, signed, hashlib.sha256)).decode('ascii')}" for secret in secrets
    )


def pause_after(attempts: int, request_id: str) -> int | None:
    """Nanoseconds to wait after `attempts` failed ones, up to a quarter longer for some than for others so that they do
    not all come back at once; None when that was the last."""
    if attempts > len(PAUSES_S):
        return None
    pause_ns = PAUSES_S[attempts - 1] * SECOND_NS
    return pause_ns + pause_ns * int(request_id[:2], 16) // 1_024


async def deliver(
    address: Address, fields: dict[str, str], body: bytes, allowance: Allowance, tls: ssl.SSLContext
) -> int:
    """POST the notification; the status of the answer. Raises Undelivered."""
    try:
        async with asyncio.timeout(ATTEMPT_S):
            ip = await _resolve(address, allowance)
            return await _post(address, ip, fields, body, tls if address.tls else None)
    except TimeoutError:
        raise Undelivered(f"{address.origin} did not answer within {ATTEMPT_S:g} s") from None
    except ssl.SSLCertVerificationError:
        raise Undelivered(f"the certificate of {address.origin} is not trusted") from None
    except ssl.SSLError:
        raise Undelivered(f"TLS with {address.origin} failed") from None
    except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError) as error:
        reason = (
            error.strerror if isinstance(error, OSError) else None
        ) or "it closed the connection, or spoke no HTTP"
        raise Undelivered(f"{address.origin}: {reason}") from None


async def _resolve(address: Address, allowance: Allowance) -> str:
    """An address of the host that may be connected to."""
    try:
        found = await asyncio.get_running_loop().getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)
    except (socket.gaierror, UnicodeError):
        raise Undelivered(f"the name of {address.origin} cannot be resolved") from None
    for *_, place in found:
        ip = str(place[0]).partition("%")[0]
        if allowance.permits(address.host, ip_address(ip)):
            return ip
    raise Undelivered(f"{address.origin} leads to private addresses only; the operator can allow it with webhook_allow")


async def _post(address: Address, ip: str, fields: dict[str, str], body: bytes, tls: ssl.SSLContext | None) -> int:
    reader, writer = await asyncio.open_connection(
        ip, address.port, ssl=tls, server_hostname=address.host if tls else None, limit=ANSWER_BYTES_MAX
    )
    try:
        lines = [
            f"POST {address.target} HTTP/1.1",
            f"host: {address.authority}",
            *(f"{name}: {value}" for name, value in fields.items()),
            f"content-length: {len(body)}",
            "connection: close",
        ]
        writer.write("\r\n".join(lines).encode("ascii") + b"\r\n\r\n" + body)
        await writer.drain()
        status = 100
        while status < 200:
            match = _STATUS(await reader.readuntil(b"\r\n\r\n"))
            if match is None:
                raise Undelivered(f"{address.origin} does not speak HTTP/1")
            status = int(match[1])
        return status
    finally:
        writer.transport.abort()
