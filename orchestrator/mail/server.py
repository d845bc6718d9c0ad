"""One SMTP server: what is said to it, and what its failures mean. Blocking; runs in a thread of its own.

The certificate is always verified, the password is read anew at each attempt (so it can be rotated) and never sent
unencrypted except to this host, and no failure is described in words that could hold it.
"""

from __future__ import annotations

import smtplib
import socket
import ssl
from dataclasses import dataclass, field
from email.message import EmailMessage
from pathlib import Path
from typing import Final

from pydantic import SecretStr

from orchestrator.settings import Settings, SmtpSecurity

OPERATION_TIMEOUT_S: Final = 30.0
"""For connecting and for each answer of the server."""
PASSWORD_BYTES_MAX: Final = 4_096
DETAIL_MAX: Final = 200
NOT_THE_MAIL_S_FAULT: Final = frozenset({530, 534, 535, 538})
"""Answers about how we log in: they are 5xx, but mending the settings makes the same mail deliverable."""


class Undeliverable(Exception):
    """The server will never take this mail (5xx)."""


class Unreachable(Exception):
    """It did not work this time: later it may."""


@dataclass(frozen=True, slots=True)
class SmtpServer:
    """Where mails are handed over. `security` none is for servers on this host alone (the settings see to that)."""

    host: str
    port: int
    security: SmtpSecurity
    user: str | None = None
    password: SecretStr | None = None
    password_file: Path | None = None
    ca_file: Path | None = None
    timeout_s: float = OPERATION_TIMEOUT_S

    def attempt(self) -> Attempt:
        return Attempt(self)

    def read_password(self) -> str:
        """Raises Unreachable, naming the file."""
        if self.password is not None:
            return self.password.get_secret_value()
        assert self.password_file is not None, "the settings demand a password with smtp_user"
        try:
            with self.password_file.open("rb") as opened:
                return opened.read(PASSWORD_BYTES_MAX).decode().strip("\r\n")
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
            raise Unreachable(f"smtp_password_file {self.password_file}: {reason}") from None


def server_of(settings: Settings) -> SmtpServer | None:
    """The server of the settings; None when mail is not configured."""
    if settings.smtp_host is None:
        return None
    return SmtpServer(
        host=settings.smtp_host,
        port=settings.smtp_port or {"starttls": 587, "tls": 465, "none": 25}[settings.smtp_security],
        security=settings.smtp_security,
        user=settings.smtp_user,
        password=settings.smtp_password,
        password_file=settings.smtp_password_file,
        ca_file=settings.smtp_ca_file,
    )


@dataclass
class Attempt:
    """One conversation with the server, which another thread may cut off."""

    server: SmtpServer
    _smtp: smtplib.SMTP | None = field(default=None, repr=False)

    def deliver(self, message: EmailMessage, sender: str, recipient: str) -> None:
        """Return when the server has taken the mail. Raises Undeliverable, Unreachable."""
        try:
            smtp = self._log_in()
            smtp.send_message(message, sender, [recipient])
        except smtplib.SMTPRecipientsRefused as error:
            code, text = next(iter(error.recipients.values()))
            raise _refusal(code, text) from None
        except (smtplib.SMTPSenderRefused, smtplib.SMTPDataError) as error:
            raise _refusal(error.smtp_code, error.smtp_error) from None
        except (OSError, ValueError) as error:  # smtplib's and ssl's errors are OSErrors
            raise Unreachable(describe(error, self.server)) from None
        finally:
            self.cut()

    def check(self) -> str:
        """Connect, encrypt and log in, without a mail; says how. Raises Unreachable."""
        try:
            smtp = self._log_in()
            smtp.noop()
        except (OSError, ValueError) as error:
            raise Unreachable(describe(error, self.server)) from None
        finally:
            self.cut()
        how = {"starttls": "STARTTLS", "tls": "TLS", "none": "not encrypted, on this host"}[self.server.security]
        return f"{self.server.host}:{self.server.port}, {how}" + (", logged in" if self.server.user else "")

    def cut(self) -> None:
        """End the conversation at once; one that waits for the server fails. No QUIT: a server that took the mail must
        not be able to make it fail afterwards."""
        smtp, self._smtp = self._smtp, None
        if smtp is None or smtp.sock is None:
            return
        try:
            smtp.sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            return  # it has ended already
        finally:
            smtp.close()

    def _log_in(self) -> smtplib.SMTP:
        server = self.server
        try:
            context = ssl.create_default_context(cafile=server.ca_file)
        except OSError as error:
            raise Unreachable(f"smtp_ca_file {server.ca_file}: {_plain(error.strerror or str(error))}") from None
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        smtp: smtplib.SMTP
        if server.security == "tls":
            smtp = smtplib.SMTP_SSL(server.host, server.port, timeout=server.timeout_s, context=context)
        else:
            smtp = smtplib.SMTP(server.host, server.port, timeout=server.timeout_s)
        self._smtp = smtp
        if server.security == "starttls":
            smtp.starttls(context=context)
        if server.user is not None:
            smtp.login(server.user, server.read_password())
        return smtp


def _refusal(code: int, text: bytes | str) -> Exception:
    permanent = 500 <= code <= 599 and code not in NOT_THE_MAIL_S_FAULT
    return (Undeliverable if permanent else Unreachable)(f"the server answered {code} {_plain(text)}".rstrip())


def describe(error: OSError | ValueError, server: SmtpServer) -> str:
    """What went wrong, in one line, with the server's name and without anything secret."""
    where = f"{server.host}:{server.port}"
    match error:
        case smtplib.SMTPAuthenticationError():
            return f"{where} refused user and password ({error.smtp_code})"  # its text may quote what was sent
        case smtplib.SMTPResponseException():
            return f"{where} answered {error.smtp_code} {_plain(error.smtp_error)}".rstrip()
        case smtplib.SMTPNotSupportedError():
            return f"{where} does not offer what smtp_security and smtp_user ask for"
        case smtplib.SMTPServerDisconnected():
            return f"{where} closed the connection, or did not answer within {server.timeout_s:g} s"
        case ssl.SSLCertVerificationError():
            return f"the certificate of {where} is not trusted: {_plain(error.verify_message)}"
        case ssl.SSLError():
            return f"TLS with {where} failed: {_plain(error.reason or 'no reason given')}"
        case TimeoutError():
            return f"{where} did not answer within {server.timeout_s:g} s"
        case OSError():
            return f"{where}: {_plain(error.strerror or type(error).__name__)}"
    return f"{where}: it is no usable address, or the password is not ASCII"


def _plain(text: bytes | str) -> str:
    """The server's own words in one printable line."""
    if isinstance(text, bytes):
        text = text.decode("ascii", "replace")
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return line if len(line) <= DETAIL_MAX else line[: DETAIL_MAX - 1] + "…"
