"""Delivers webhooks at least once: each owed one in a task of its own, with growing pauses, until the receiver takes
it, refuses for good (410), or the attempts are used up.

What an attempt brought is written before the next one, so a restart goes on where this process was; a crash between the
receiver's 2xx and our row sends it once more, under the same `webhook-id`.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Final
from weakref import WeakValueDictionary

from orchestrator.contract.base import SECOND_NS
from orchestrator.deferred.records import Record
from orchestrator.deferred.signing import KeyUnusable, read_or_make
from orchestrator.deferred.store import DeferredStore, StoreError
from orchestrator.deferred.telling import notification
from orchestrator.deferred.webhook import (
    GONE,
    OVERLAP_NS,
    Allowance,
    Undelivered,
    deliver,
    derive,
    pause_after,
    read_url,
    sign,
    spell,
)

log = logging.getLogger(__name__)

AT_ONCE: Final = 32
AT_ONCE_PER_ORIGIN: Final = 4
"""A receiver that takes ten seconds for each must not hold up the others'."""


class Courier:
    """`owe` is called in the event loop for every webhook that is owed, at start and as calls end."""

    def __init__(
        self,
        store: DeferredStore,
        now: Callable[[], int],
        key_file: Path,
        allowance: Allowance,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        """`tls` is for https; without one, the system's certificates are trusted."""
        self._store = store
        self._now = now
        self._key_file = key_file
        self._allowance = allowance
        self._tls = tls
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._turn = asyncio.Semaphore(AT_ONCE)
        self._turns: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()
        """By origin, as long as somebody waits for it or has it: callers choose the origins."""

    @property
    def owed(self) -> int:
        """Webhooks that have been neither delivered nor given up."""
        return len(self._tasks)

    def owe(self, record: Record) -> None:
        if record.id in self._tasks:
            return
        task = asyncio.get_running_loop().create_task(self._deliver(record), name=f"webhook {record.id}")
        self._tasks[record.id] = task
        task.add_done_callback(lambda done: self._finished(record.id, done))

    async def close(self) -> None:
        """Stop trying. What is owed is tried again by the next orchestrator."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def rotate(self, account: str, command_id: str) -> str:
        """The account's new secret, spelt out. Raises StoreError, KeyUnusable."""
        master = await asyncio.to_thread(read_or_make, self._key_file)
        generation = await asyncio.wrap_future(self._store.rotate(account, command_id))
        return spell(derive(master, account, generation))

    async def _deliver(self, record: Record) -> None:
        attempts, due_ns = record.hook_attempts, record.hook_due_ns or 0
        while True:
            await asyncio.sleep(max(0, due_ns - self._now()) / SECOND_NS)
            attempts += 1
            gone, problem = await self._try(record)
            pause_ns = None if gone else pause_after(attempts, record.id)
            if problem is None:
                await self._note(record, "delivered", attempts, None, None)
                return
            if pause_ns is None:
                log.warning("webhook of %s given up after %d attempts: %s", record.id, attempts, problem)
                await self._note(record, "given_up", attempts, None, problem)
                return
            due_ns = self._now() + pause_ns
            log.info("webhook of %s: %s; next try in %d s", record.id, problem, pause_ns // SECOND_NS)
            await self._note(record, "owed", attempts, due_ns, problem)

    async def _try(self, record: Record) -> tuple[bool, str | None]:
        """Whether it never makes sense to try again, and the problem; None when it was taken."""
        assert record.hook_url is not None, "owed without a URL"
        try:
            address = read_url(record.hook_url, self._allowance)
        except ValueError as error:
            return True, str(error)  # the operator has taken back what was allowed when it was accepted
        body = notification(record)
        try:
            turn = self._turns.setdefault(address.origin, asyncio.Semaphore(AT_ONCE_PER_ORIGIN))
            async with turn, self._turn:
                fields = await self._fields(record, body)  # in here: a signature must not age while it waits
                status = await deliver(address, fields, body, self._allowance, self._trusted())
        except (Undelivered, KeyUnusable, StoreError) as error:
            return False, str(error)
        return status == GONE, None if 200 <= status < 300 else f"{address.origin} answered {status}"

    async def _fields(self, record: Record, body: bytes) -> dict[str, str]:
        master = await asyncio.to_thread(read_or_make, self._key_file)
        generation, rotated_ns = await asyncio.wrap_future(self._store.generation_of(record.account))
        now_ns = self._now()
        signers = [derive(master, record.account, generation)]
        if generation > 1 and now_ns - rotated_ns < OVERLAP_NS:
            signers.append(derive(master, record.account, generation - 1))
        message_id, timestamp_s = f"msg_{record.id}", now_ns // SECOND_NS
        return {
            "content-type": "application/json",
            "user-agent": "gpudeck",
            "webhook-id": message_id,
            "webhook-timestamp": str(timestamp_s),
            "webhook-signature": sign(signers, message_id, timestamp_s, body),
        }

    def _trusted(self) -> ssl.SSLContext:
        if self._tls is None:  # made at first need: reading the system's certificates takes 20 ms
            self._tls = ssl.create_default_context()
        return self._tls

    async def _note(self, record: Record, state: str, attempts: int, due_ns: int | None, problem: str | None) -> None:
        try:
            await asyncio.wrap_future(self._store.note_webhook(record.id, state, attempts, due_ns, problem))
        except StoreError as error:
            log.warning("what became of the webhook of %s could not be written: %s", record.id, error)

    def _finished(self, request_id: str, task: asyncio.Task[None]) -> None:
        self._tasks.pop(request_id, None)
        if not task.cancelled() and task.exception() is not None:
            log.error("delivering a webhook failed", exc_info=task.exception())
