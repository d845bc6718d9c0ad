"""The ledger in SQLite: one named thread owns the one connection, jobs run in the order they were given."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import closing
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Final, TypeVar

from orchestrator.contract.accounting import Comparison, JournalPage, Statement
from orchestrator.contract.base import SECOND_NS
from orchestrator.contract.ended import EndedWorkers
from orchestrator.contract.history import SpentPoint
from orchestrator.contract.query import AskJournal, Bill, Verification
from orchestrator.core.pricing import PriceBook
from orchestrator.core.writes import Saved, Write
from orchestrator.ledger.apply import apply
from orchestrator.ledger.backups import backups_of, copy_in_steps, pack
from orchestrator.ledger.bill import make_bill
from orchestrator.ledger.charges import UnknownAccount
from orchestrator.ledger.comparison import make_comparison
from orchestrator.ledger.ended import read_ended
from orchestrator.ledger.load import load_saved
from orchestrator.ledger.opening import FAILURES, Opened, create_ledger, open_ledger, plain
from orchestrator.ledger.pages import read_page
from orchestrator.ledger.ports import CreditChanged, LedgerDamaged, LedgerError
from orchestrator.ledger.sealing import seal_write, sealer_of
from orchestrator.ledger.spending import read_spending
from orchestrator.ledger.statement import make_statement
from orchestrator.ledger.transactions import transaction
from orchestrator.ledger.verify import Books, make_verification

T = TypeVar("T")
BUSY_TIMEOUT_MS = 5_000
"""How long a write waits for a stranger's lock before it fails (reliability.md H3)."""
VERIFY_BYTES: Final = 16 * 1024 * 1024
"""A file up to this size is audited in place, in about two seconds at most."""


class SqliteLedger:
    """`orchestrator.ledger.ports.Ledger` in the file `path`, created with its directory when there is none.

    Raises LedgerError when the file cannot be opened: damaged, locked, newer than this program, not a ledger. Once
    open, a failed job fails alone: the next one may succeed when there is space again.
    """

    def __init__(self, path: Path, now: Callable[[], int], *, busy_timeout_ms: int = BUSY_TIMEOUT_MS) -> None:
        self.path = path
        self._now = now
        self._sealer = sealer_of(path)
        self._busy_timeout_ms = busy_timeout_ms
        self._jobs: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._closing = threading.Lock()
        """Held to queue a job or the end: no job can slip in behind the end and wait for ever."""
        self._closed = False
        self._opened: Opened | None = None
        self._identity: tuple[int, int] | None = None
        """Device and inode of the file as first opened: from then on no other file will do, and none is created."""
        self._copying = False
        self._thread = threading.Thread(target=self._run, name="gpudeck-ledger", daemon=True)
        self._thread.start()
        opening = self._submit(lambda _: None)
        failure = opening.exception()
        if failure is not None:
            self.close()
            raise failure

    def load(self) -> Future[Saved]:
        """Everything the core needs to go on after a restart."""
        return self._ask(lambda connection: load_saved(connection, self._now(), self._sealer))

    def write(self, writes: Sequence[Write]) -> Future[None]:
        """All of `writes` in one BEGIN IMMEDIATE transaction, or nothing and LedgerError (CreditChanged when a
        CreditRequired does not hold). The future cannot be cancelled: money that was handed over is written."""
        batch = tuple(writes)
        return self._submit(lambda connection: self._apply(connection, batch))

    def bill(self, account: str, month: str | None, now_ns: int) -> Future[Bill]:
        """The future raises KeyError for an unknown account."""
        return self._ask(lambda connection: make_bill(connection, account, month, now_ns))

    def statement(
        self, account: str, month: str | None, now_ns: int, after: int = 0, limit: int = 2_000
    ) -> Future[Statement]:
        """One page of the account's statement. The future raises KeyError for an unknown account."""

        def make(connection: sqlite3.Connection) -> Statement:
            return make_statement(connection, account, month, now_ns, after=after, limit=limit)

        return self._ask(make)

    def comparison(self, account: str, month: str | None, now_ns: int, other: PriceBook) -> Future[Comparison]:
        """The account's intervals under another book. The future raises KeyError for an unknown account."""
        return self._ask(lambda connection: make_comparison(connection, account, month, now_ns, other))

    def spending(
        self, slug: str, account: str, since_ns: int, until_ns: int, step_s: int, now_ns: int
    ) -> Future[tuple[SpentPoint, ...]]:
        """What the endpoint cost its account in each step of the window."""
        window = (since_ns, until_ns, step_s * SECOND_NS)
        return self._ask(lambda connection: read_spending(connection, slug, account, *window, now_ns))

    def ended(self, slug: str, account: str, limit: int, now_ns: int) -> Future[EndedWorkers]:
        """The newest workers of the endpoint that are over, without the requests that they served."""
        return self._ask(lambda connection: read_ended(connection, slug, account, limit, now_ns))

    def journal(self, query: AskJournal) -> Future[JournalPage]:
        """One page of the journal; reads a bounded number of rows."""
        return self._ask(lambda connection: read_page(connection, query))

    def verify(self, books: Books | None = None) -> Future[Verification]:
        """Recompute everything as of now, and with `books` compare every rate with its price book.

        Some 40,000 postings a second: above VERIFY_BYTES a copy is audited in another thread, so that writes go on.
        """
        done: Future[Verification] = _running()

        def begin(connection: sqlite3.Connection) -> Path | None:
            if self.path.stat().st_size > VERIFY_BYTES:
                return self._copy(connection)
            done.set_result(_read(connection, lambda: make_verification(connection, self._now(), books)))
            return None

        def audit(copy: Path) -> Verification:
            try:
                with closing(sqlite3.connect(copy, isolation_level=None)) as connection:
                    return make_verification(connection, self._now(), books)
            finally:
                copy.unlink(missing_ok=True)

        self._afterwards(self._submit(begin), audit, done)
        return done

    def back_up(self) -> Future[Path]:
        """A checked copy in the directory `backups` beside the file; writes go on between its steps. While one is being
        copied, a second call is refused. The future raises LedgerError, also when the ledger is damaged."""
        done: Future[Path] = _running()
        self._afterwards(self._submit(self._copy), lambda copy: pack(copy, backups_of(self.path), self._now()), done)
        return done

    def close(self) -> None:
        """Finish what was queued, close the file, join the thread. Idempotent; later calls fail with LedgerError."""
        with self._closing:
            if not self._closed:
                self._closed = True
                self._jobs.put(None)
        self._thread.join()

    def _ask(self, query: Callable[[sqlite3.Connection], T]) -> Future[T]:
        """Run `query` in one snapshot of the file."""
        return self._submit(lambda connection: _read(connection, lambda: query(connection)))

    def _copy(self, connection: sqlite3.Connection) -> Path | None:
        """In the thread of the ledger. Between two steps of the copy it does the jobs that wait."""
        if self._copying:
            raise LedgerError("a backup is being made already")
        directory = backups_of(self.path)
        draft = directory / f".copy-{self._now()}.db"
        self._copying = True
        try:
            copy_in_steps(connection, draft, lambda: self._work_between(connection))
        except BaseException:
            draft.unlink(missing_ok=True)
            raise
        finally:
            self._copying = False
        return draft

    def _work_between(self, connection: sqlite3.Connection) -> None:
        for _ in range(self._jobs.qsize()):
            job = self._jobs.get()
            if job is None:
                self._jobs.put(None)
                break
            job()
        if self._closed:
            raise LedgerError("it was closed before its backup was complete")
        if self._opened is None or self._opened.connection is not connection:
            raise LedgerError("its connection was lost during the backup")

    def _afterwards(self, copied: Future[Path | None], work: Callable[[Path], T], done: Future[T]) -> None:
        """Once the copy is there, do `work` on it in a thread of its own: reading it takes as long as making it did."""

        def run(copy: Path) -> None:
            try:
                result = work(copy)
            except (*FAILURES, LedgerError) as error:
                done.set_exception(self._as_ledger_error(error))
            else:
                done.set_result(result)

        def begin(ended: Future[Path | None]) -> None:
            failure = ended.exception()
            if failure is not None:
                done.set_exception(failure)
            elif (copy := ended.result()) is not None:
                threading.Thread(target=run, args=(copy,), name="gpudeck-ledger-copy", daemon=True).start()

        copied.add_done_callback(begin)

    def _submit(self, job: Callable[[sqlite3.Connection], T]) -> Future[T]:
        future: Future[T] = _running()

        def run() -> None:
            try:
                result = job(self._connection())
            except (*FAILURES, LedgerError) as failure:
                self._drop_broken_connection()
                error = self._as_ledger_error(failure)
                if error is not failure:
                    error.__cause__ = failure
                future.set_exception(error)
            else:
                future.set_result(result)

        with self._closing:
            if self._closed:
                future.set_exception(LedgerError(f"ledger {self.path}: it is closed"))
            else:
                self._jobs.put(run)
        return future

    def _run(self) -> None:
        try:
            while (job := self._jobs.get()) is not None:
                job()
                del job  # else the last job, with its writes, stays in memory until the next one
        finally:
            if self._opened is not None:
                self._opened.connection.close()

    def _connection(self) -> sqlite3.Connection:
        """The open connection; opens the file first when it is not (at start, or after a failed rollback)."""
        if self._opened is None:
            if self._identity is None:
                create_ledger(self.path, self._now, self._busy_timeout_ms)
            else:
                self._require_same_file()
            self._opened = open_ledger(self.path, self._busy_timeout_ms)
            self._identity = (self._opened.device, self._opened.inode)
        return self._opened.connection

    def _apply(self, connection: sqlite3.Connection, writes: tuple[Write, ...]) -> None:
        self._require_same_file()
        with transaction(connection, "IMMEDIATE"):
            for write in writes:
                apply(connection, seal_write(connection, write, self._sealer))

    def _require_same_file(self) -> None:
        """A deleted or replaced file would take writes that nobody ever reads again (reliability.md H5)."""
        try:
            found = self.path.stat()
        except OSError as failure:
            raise LedgerError(
                f"the file was removed while it was in use ({failure.strerror}); put it back"
            ) from failure
        if (found.st_dev, found.st_ino) != self._identity:
            raise LedgerError("the file was replaced by another one while it was in use; restart to use that one")

    def _drop_broken_connection(self) -> None:
        """A connection whose rollback failed is not trusted again: the next job opens the file anew."""
        if self._opened is not None and self._opened.connection.in_transaction:
            self._opened.connection.close()
            self._opened = None

    def _as_ledger_error(self, failure: BaseException) -> BaseException:
        if isinstance(failure, (CreditChanged, UnknownAccount)):
            return failure
        text = str(failure)
        kind = LedgerDamaged if isinstance(failure, LedgerDamaged) else LedgerError
        if isinstance(failure, sqlite3.Error):
            code = getattr(failure, "sqlite_errorname", None)
            text += f" ({code})" if code else ""
            if (code or "").startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB")):
                kind = LedgerDamaged
        elif not isinstance(failure, LedgerError):
            text = f"{type(failure).__name__}: {text}"
        prefix = f"ledger {self.path}: "
        return kind(plain(text if text.startswith(prefix) else prefix + text))


def _running() -> Future[Any]:
    """Running from the start: cancelling an awaiting task must not silently drop a write that is still queued."""
    future: Future[Any] = Future()
    future.set_running_or_notify_cancel()
    return future


def _read(connection: sqlite3.Connection, query: Callable[[], T]) -> T:
    """Run `query` in one snapshot of the file."""
    with transaction(connection, "DEFERRED"):
        return query()
