"""Real SMTP servers (aiosmtpd) in the test's own event loop, with faults that can be switched on and off."""

from __future__ import annotations

import asyncio
import ssl
import warnings
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from email.message import EmailMessage
from typing import Any, Literal

from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session

Fault = Literal["", "451", "550", "stall", "drop_mid_data", "drop_after_data", "552_data", "mute", "550_from"]


@dataclass
class MailHost:
    """What a server has received, and how it behaves now."""

    fault: Fault = ""
    user: str = "ada"
    password: str = "correct horse"
    connections: int = 0
    attempts: int = 0
    logins: int = 0
    encrypted: list[bool] = field(default_factory=list)
    received: list[EmailMessage] = field(default_factory=list)
    """Everything that was taken over, copies included."""
    recipients: list[str] = field(default_factory=list)
    released: asyncio.Event = field(default_factory=asyncio.Event)
    port: int = 0

    async def handle_MAIL(self, server: SMTP, session: Session, envelope: Envelope, address: str, options: Any) -> str:
        if self.fault == "550_from":
            return "550 you may not send"
        envelope.mail_from = address
        return "250 OK"

    async def handle_RCPT(self, server: SMTP, session: Session, envelope: Envelope, address: str, options: Any) -> str:
        self.attempts += 1
        if self.fault == "451":
            return "451 mailbox is busy,\x1b[31m come back"
        if self.fault == "550":
            return "550 no such user here"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        if self.fault == "stall":
            await self.released.wait()
            return "451 too late"
        if self.fault == "552_data":
            return "552 mailbox is full"
        content = envelope.content
        assert isinstance(content, bytes)
        message = message_from_bytes(content, policy=policy.default)
        assert isinstance(message, EmailMessage)
        self.received.append(message)
        self.recipients += envelope.rcpt_tos
        self.encrypted.append(session.ssl is not None or server.transport.get_extra_info("ssl_object") is not None)
        if self.fault == "drop_after_data":
            server.transport.abort()
        return "250 taken"

    def authenticate(self, server: SMTP, session: Session, envelope: Envelope, mechanism: str, data: Any) -> AuthResult:
        assert isinstance(data, LoginPassword)
        right = (data.login, data.password) == (self.user.encode(), self.password.encode())
        self.logins += right
        return AuthResult(success=right, handled=False, message=None if right else f"535 {data.password!r} is wrong")


class Conversation(SMTP):
    """Faults below the level that aiosmtpd's handlers see."""

    def __init__(self, host: MailHost, **options: Any) -> None:
        super().__init__(host, hostname="mail.test", **options)
        self.host = host

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.host.connections += 1
        if self.host.fault == "mute":
            return  # accepted, and never a word
        super().connection_made(transport)

    def connection_lost(self, error: Exception | None) -> None:
        if self.session is not None:
            super().connection_lost(error)

    def data_received(self, data: bytes) -> None:
        if self.session is not None:
            super().data_received(data)

    def eof_received(self) -> bool | None:
        return super().eof_received() if self.session is not None else None

    async def smtp_DATA(self, arg: str) -> None:
        if self.host.fault == "drop_mid_data":
            await self.push("354 go on")
            await self._reader.readline()
            self.transport.abort()
            return
        await super().smtp_DATA(arg)


@asynccontextmanager
async def serving(
    host: MailHost, tls: ssl.SSLContext | None = None, *, implicit: bool = False, login: bool = False, port: int = 0
) -> AsyncIterator[MailHost]:
    """A server on 127.0.0.1; with `tls` it demands STARTTLS, or speaks TLS from the first byte (`implicit`)."""
    options: dict[str, Any] = {}
    if tls is not None and not implicit:
        options |= {"tls_context": tls, "require_starttls": True}
    if login:
        options |= {"authenticator": host.authenticate, "auth_required": True}
        options["auth_require_tls"] = tls is not None and not implicit

    def conversation() -> Conversation:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it warns of logins without STARTTLS, which is what is tested
            return Conversation(host, loop=loop, **options)

    loop = asyncio.get_running_loop()
    server = await loop.create_server(conversation, "127.0.0.1", port, ssl=tls if implicit else None)
    host.port = server.sockets[0].getsockname()[1]
    try:
        yield host
    finally:
        host.released.set()
        server.close()
