"""Load on one endpoint in bursts, so that workers come and go; every request is followed to its one end."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections import Counter

REQUEST_LIMIT_S = 60.0


class Pressure:
    """`callers` connections call `/v1/{slug}` for a while, pause, and begin again. Each request ends as an answer with
    its own number in it, or as a closed connection; anything else is a problem."""

    def __init__(
        self, port: int, key: str, slug: str, *, callers: int = 6, on_s: float = 1.2, off_s: float = 1.4
    ) -> None:
        self.ends: Counter[str] = Counter()
        self.problems: list[str] = []
        self.sent = 0
        self._port, self._key, self._slug = port, key, slug
        self._callers, self._on_s, self._off_s = callers, on_s, off_s
        self._numbers = itertools.count(1)
        self._on = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        loop = asyncio.get_running_loop()
        self._tasks = [loop.create_task(self._pace())]
        self._tasks += [loop.create_task(self._call_for_ever()) for _ in range(self._callers)]

    async def stop(self) -> None:
        """No new requests; wait for those that are under way."""
        self._tasks[0].cancel()
        self._on.clear()
        for task in self._tasks[1:]:
            task.cancel("between requests only")
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _pace(self) -> None:
        while True:
            self._on.set()
            await asyncio.sleep(self._on_s)
            self._on.clear()
            await asyncio.sleep(self._off_s)

    async def _call_for_ever(self) -> None:
        while True:
            await self._on.wait()
            number = next(self._numbers)
            self.sent += 1
            request = asyncio.ensure_future(self._call(number))
            try:
                end = await asyncio.shield(request)
            except asyncio.CancelledError:
                self.ends[await request] += 1
                raise
            self.ends[end] += 1
            if end == "refused":
                await asyncio.sleep(0.05)  # nobody listens at the moment

    async def _call(self, number: int) -> str:
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        except OSError:
            return "refused"
        body = json.dumps({"latency_s": 0.05, "echo": number}).encode()
        head = (
            f"POST /v1/{self._slug} HTTP/1.1\r\nHost: 127.0.0.1\r\nx-api-key: {self._key}\r\nConnection: close\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        try:
            async with asyncio.timeout(REQUEST_LIMIT_S):
                writer.write(head.encode() + body)
                reply = await reader.read(-1)
        except ConnectionError:
            return "closed"
        except TimeoutError:
            self.problems.append(f"request {number} has had no end for {REQUEST_LIMIT_S:.0f} s")
            return "unanswered"
        finally:
            writer.transport.abort()
        return self._judge(number, reply)

    def _judge(self, number: int, reply: bytes) -> str:
        if not reply:
            return "closed"
        status = reply[9:12].decode("ascii", "replace")
        if reply.count(b"HTTP/1.1 ") != 1:
            self.problems.append(f"request {number} got {reply.count(b'HTTP/1.1 ')} answers")
        if status == "200":
            _, _, payload = reply.partition(b"\r\n\r\n")
            try:
                answered = json.loads(payload)["echo"]
            except ValueError:
                return "closed"  # cut off in the middle
            if answered != number:
                self.problems.append(f"request {number} got the answer to {answered}")
        return status
