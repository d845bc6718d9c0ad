"""A receiver of webhooks: keeps what it gets, answers as it is told."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import ssl
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Got:
    """One notification as it came."""

    target: str
    fields: dict[str, str]
    body: bytes

    @property
    def json(self) -> dict[str, Any]:
        value = json.loads(self.body)
        assert isinstance(value, dict)
        return value

    def is_signed_with(self, secret: str) -> bool:
        """Verification as a receiver does it, written from the specification of Standard Webhooks alone."""
        key = base64.b64decode(secret.removeprefix("whsec_"))
        signed = f"{self.fields['webhook-id']}.{self.fields['webhook-timestamp']}.".encode() + self.body
        wanted = "v1," + base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
        return wanted in self.fields["webhook-signature"].split(" ")


@dataclass
class Receiver:
    """`answers` are used up one by one; the last one stays. None hangs up without an answer."""

    answers: list[bytes | None] = field(default_factory=lambda: [b"HTTP/1.1 204 No Content\r\n\r\n"])
    got: list[Got] = field(default_factory=list)
    port: int = 0

    async def start(self, tls: ssl.SSLContext | None = None) -> Receiver:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=tls)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def stop(self) -> None:
        self._server.close()
        await self._server.wait_closed()

    def url(self, path: str = "/hook?token=t") -> str:
        return f"http://127.0.0.1:{self.port}{path}"

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            lines = (await reader.readuntil(b"\r\n\r\n")).decode("ascii").split("\r\n")[:-2]
            fields = dict(line.split(": ", 1) for line in lines[1:])
            body = await reader.readexactly(int(fields["content-length"]))
            self.got.append(Got(lines[0].split(" ")[1], fields, body))
            answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
            if answer is not None:
                writer.write(answer)
                await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()
