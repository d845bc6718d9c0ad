"""Delivers queued mails at least once: each in a task of its own, again and again, with pauses up to ten minutes.

The core is told after every attempt, and the ledger through it. A crash between the server's "taken" and the row that
says so sends the mail once more, under the same Message-ID.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable
from typing import Final, TypeVar

from orchestrator.core.effects import SendMail
from orchestrator.core.events import MailAttempted
from orchestrator.core.writes import MailKey, MailQueued
from orchestrator.mail.letter import compose
from orchestrator.mail.server import SmtpServer, Undeliverable, Unreachable

log = logging.getLogger(__name__)

FIRST_PAUSE_S: Final = 5.0
PAUSE_MAX_S: Final = 600.0
MAIL_TIMEOUT_S: Final = 120.0
"""For one attempt as a whole: a server that sends a byte now and then never runs into a time-out of its own."""
NOBODY: Final = "no address: set mail_to in the settings, or `gpudeck account mail NAME ADDRESS`"

Result = TypeVar("Result")


class Postman:
    """`report` is called in the event loop after every attempt. `operator` is for accounts without an address."""

    def __init__(
        self,
        server: SmtpServer,
        report: Callable[[MailAttempted], None],
        *,
        sender: str,
        operator: str | None,
        instance: str,
        first_pause_s: float = FIRST_PAUSE_S,
        timeout_s: float = MAIL_TIMEOUT_S,
    ) -> None:
        self._server = server
        self._report = report
        self._sender = sender
        self._operator = operator
        self._instance = instance
        self._first_pause_s = first_pause_s
        self._timeout_s = timeout_s
        self._tasks: dict[MailKey, asyncio.Task[None]] = {}
        self._turn = asyncio.Semaphore(1)
        """One conversation at a time: mail servers refuse those who come in crowds."""

    def post(self, effect: SendMail) -> None:
        """Deliver it. One that is being delivered begins anew, with the address given now."""
        key = effect.mail.key
        before = self._tasks.get(key)
        if before is not None:
            before.cancel()
        task = asyncio.get_running_loop().create_task(self._deliver(effect), name=f"mail {key.kind}")
        self._tasks[key] = task
        task.add_done_callback(lambda done: self._finished(key, done))

    async def close(self) -> None:
        """Stop trying. What is not delivered is tried again by the next orchestrator."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _deliver(self, effect: SendMail) -> None:
        mail = effect.mail
        recipient = effect.to or self._operator
        if recipient is None:
            self._report(MailAttempted(mail.key, "queued", 0, NOBODY))
            return
        attempts = 0
        pause_s = self._first_pause_s
        while True:
            attempts += 1
            try:
                async with self._turn:
                    await self._try(mail, recipient)
            except Unreachable as error:
                log.warning("%s mail %d: %s; next try in %g s", mail.key.kind, mail.key.crossing_no, error, pause_s)
                self._report(MailAttempted(mail.key, "queued", attempts, str(error)))
            except Undeliverable as error:
                log.error("%s mail %d is undeliverable: %s", mail.key.kind, mail.key.crossing_no, error)
                self._report(MailAttempted(mail.key, "failed", attempts, str(error)))
                return
            else:
                self._report(MailAttempted(mail.key, "sent", attempts, None))
                return
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 2, PAUSE_MAX_S)

    async def _try(self, mail: MailQueued, recipient: str) -> None:
        message = compose(mail, sender=self._sender, recipient=recipient, instance=self._instance)
        attempt = self._server.attempt()
        try:
            async with asyncio.timeout(self._timeout_s):
                await in_thread(lambda: attempt.deliver(message, self._sender, recipient))
        except TimeoutError:
            raise Unreachable(f"it took longer than {self._timeout_s:g} s") from None
        finally:
            attempt.cut()

    def _finished(self, key: MailKey, task: asyncio.Task[None]) -> None:
        if self._tasks.get(key) is task:
            del self._tasks[key]
        if not task.cancelled() and task.exception() is not None:
            log.error("delivering a mail failed", exc_info=task.exception())


async def in_thread(work: Callable[[], Result]) -> Result:
    """`work` in a daemon thread of its own. Those of the loop's executor are waited for at exit: a stalled server would
    hold up the end of the program."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[Result] = loop.create_future()

    def settle(result: Result | None, error: BaseException | None) -> None:
        if future.done():
            return
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(result)  # type: ignore[arg-type]  # the result of work, which may be None

    def run() -> None:
        result: Result | None = None
        failure: BaseException | None = None
        try:
            result = work()
        except BaseException as error:  # noqa: BLE001 - handed to whoever waits
            failure = error
        try:
            loop.call_soon_threadsafe(settle, result, failure)
        except RuntimeError:
            log.debug("the loop ended before a mail did")

    threading.Thread(target=run, name="gpudeck-mail", daemon=True).start()
    return await future
