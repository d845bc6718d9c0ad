"""The durable queue in SQLite: one named thread owns the one connection and does what waits in one transaction.

A commit costs an fsync, so everything that came in while the last one was under way shares the next (group commit);
each job has a savepoint of its own, and one that fails fails alone. A future is resolved after the commit, never
before: what it promises is on the disk.
"""

from __future__ import annotations

import hashlib
import logging
import sqlite3
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, Final, Literal, TypeVar

from orchestrator.contract.deferred import RequestState
from orchestrator.deferred import records
from orchestrator.deferred.records import Ending, Kept, Order, Purged, Record, Started
from orchestrator.deferred.rules import Next, after
from orchestrator.deferred.schema import BODY, RESULT, open_file
from orchestrator.ledger.opening import FAILURES, plain

log = logging.getLogger(__name__)

T = TypeVar("T")
BATCH_MAX: Final = 256
"""Jobs in one transaction: the first of them must not wait for an endless stream of others."""
FREED_PAGES: Final = 2_000


class StoreError(Exception):
    """It could not be read or written: disk full, locked, closed. The message names the file."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """What an earlier orchestrator left: to be run, to be notified, and bytes held by endpoint."""

    queued: tuple[Record, ...]
    owed: tuple[Record, ...]
    held_bytes: dict[str, int]


@dataclass(frozen=True, slots=True)
class Taken:
    """What became of a call that was handed in: `new`, the `same` as one accepted before under its idempotency key, or
    `another` one than that key stands for, and then it was not accepted. `record` is the new or the earlier one."""

    record: Record
    was: Literal["new", "same", "another"]


@dataclass(frozen=True, slots=True)
class _Job:
    run: Callable[[sqlite3.Connection], Any]
    future: Future[Any]


class DeferredStore:
    """All methods return at once; a future raises StoreError when its job could not be done. The file is opened by the
    first job, and again after a failure, so a full disk or a wrong mode heals without a restart."""

    def __init__(self, path: Path, now: Callable[[], int]) -> None:
        self.path = path
        self._now = now
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._closing = threading.Lock()
        self._closed = False
        self._connection: sqlite3.Connection | None = None
        self._digests: dict[str, Any] = {}
        """SHA-256 of the bodies that are coming in. Only the thread touches it."""
        self._thread = threading.Thread(target=self._run, name="gpudeck-deferred", daemon=True)
        self._thread.start()

    def load(self) -> Future[Loaded]:
        """Settle what the last orchestrator was running when it ended, drop half uploads, and tell what there is."""
        return self._submit(self._load)

    def add_body(self, request_id: str, n: int, data: bytes) -> Future[None]:
        """Part `n` of a body that is coming in."""

        def run(db: sqlite3.Connection) -> None:
            records.add_part(db, request_id, BODY, n, data)
            self._digests.setdefault(request_id, hashlib.sha256()).update(data)

        return self._submit(run)

    def accept(self, order: Order, tail: bytes, tail_n: int, body_bytes: int) -> Future[Taken]:
        """The body is complete with `tail`: a new call is QUEUED once this is done."""
        return self._submit(lambda db: self._accept(db, order, tail, tail_n, body_bytes))

    def discard(self, request_id: str) -> Future[None]:
        """The upload was broken off."""

        def run(db: sqlite3.Connection) -> None:
            self._digests.pop(request_id, None)
            records.drop_parts(db, request_id, BODY)

        return self._submit(run)

    def start(self, request_id: str) -> Future[Started | None]:
        return self._submit(lambda db: records.start(db, request_id, self._now()))

    def body(self, request_id: str, n: int) -> Future[bytes | None]:
        return self._submit(lambda db: records.read_part(db, request_id, BODY, n))

    def add_result(self, request_id: str, n: int, data: bytes) -> Future[None]:
        return self._submit(lambda db: records.add_result(db, request_id, n, data))

    def requeue(self, request_id: str, reason: str, *, counts: bool) -> Future[bool]:
        return self._submit(lambda db: records.requeue(db, request_id, reason, counts=counts))

    def end(self, ending: Ending) -> Future[Record | None]:
        """None when it was over already (it was cancelled meanwhile)."""
        return self._submit(lambda db: records.end(db, ending, self._now()))

    def find(self, request_id: str) -> Future[Record | None]:
        """With its place in the queue, if it is QUEUED."""
        return self._submit(lambda db: records.placed(db, request_id))

    def kept(self, request_id: str) -> Future[Kept | None]:
        return self._submit(lambda db: records.kept(db, request_id))

    def result(self, request_id: str, n: int) -> Future[bytes | None]:
        return self._submit(lambda db: records.read_part(db, request_id, RESULT, n))

    def listed(
        self, account: str | None, slug: str | None, states: Iterable[RequestState], limit: int
    ) -> Future[tuple[list[Record], dict[RequestState, int]]]:
        wanted = tuple(states)
        return self._submit(lambda db: records.listed(db, account, slug, wanted, limit))

    def note_webhook(
        self, request_id: str, state: str, attempts: int, due_ns: int | None, problem: str | None
    ) -> Future[None]:
        return self._submit(lambda db: records.note_webhook(db, request_id, state, attempts, due_ns, problem))

    def purge(self) -> Future[Purged]:
        """Forget results that are too old, some at a time, and give pages back to the file system."""

        def run(db: sqlite3.Connection) -> Purged:
            gone = records.purge(db, self._now())
            if gone.bytes:
                db.execute(f"PRAGMA incremental_vacuum({FREED_PAGES})").fetchall()
            return gone

        return self._submit(run)

    def generation_of(self, account: str) -> Future[tuple[int, int]]:
        return self._submit(lambda db: records.generation_of(db, account))

    def rotate(self, account: str, command_id: str) -> Future[int]:
        return self._submit(lambda db: records.rotate(db, account, command_id, self._now()))

    def close(self) -> None:
        """Finish what was queued, close the file, join the thread. Idempotent; later calls fail with StoreError."""
        with self._closing:
            if not self._closed:
                self._closed = True
                self._jobs.put(None)
        self._thread.join()

    def _load(self, db: sqlite3.Connection) -> Loaded:
        self._digests.clear()
        records.drop_orphans(db)
        for record in records.interrupted(db):
            code, reason = "interrupted", "gpudeck ended while a worker was at it"
            if after(code, record.attempts, record.attempts_max) is Next.AGAIN:
                records.requeue(db, record.id, reason, counts=True)
            else:
                records.end(db, Ending(record.id, RequestState.FAILED, code=code, reason=reason), self._now())
        return Loaded(tuple(records.queued(db)), tuple(records.owed(db)), records.held(db))

    def _accept(self, db: sqlite3.Connection, order: Order, tail: bytes, tail_n: int, body_bytes: int) -> Taken:
        digest = self._digests.pop(order.id, None) or hashlib.sha256()
        if tail_n and records.count_parts(db, order.id, BODY) != tail_n:
            # Its failure is on its way to whoever sends the body, who may have come to the end of it meanwhile.
            raise LookupError("a part of the body could not be written")
        digest.update(tail)
        fingerprint = hashlib.sha256(b"\0".join((order.slug.encode(), order.target, digest.digest()))).digest()
        if order.idempotency_key is not None:
            before = records.find_idempotent(db, order.account, order.idempotency_key)
            if before is not None:
                records.drop_parts(db, order.id, BODY)
                same = before.fingerprint == fingerprint
                return Taken(records.placed(db, before.id) or before, "same" if same else "another")
        if tail:
            records.add_part(db, order.id, BODY, tail_n, tail)
        records.insert(db, order, fingerprint, body_bytes, self._now())
        record = records.find(db, order.id)
        assert record is not None, "it was inserted a line above"
        return Taken(record, "new")

    def _submit(self, run: Callable[[sqlite3.Connection], T]) -> Future[T]:
        future: Future[T] = Future()
        future.set_running_or_notify_cancel()  # cancelling whoever awaits it must not undo what was asked for
        with self._closing:
            if self._closed:
                future.set_exception(StoreError(f"{self.path}: it is closed"))
            else:
                self._jobs.put(_Job(run, future))
        return future

    def _run(self) -> None:
        while (first := self._jobs.get()) is not None:
            jobs = [first]
            ended = False
            while len(jobs) < BATCH_MAX and not ended:
                try:
                    job = self._jobs.get_nowait()
                except Empty:
                    break
                if job is None:
                    ended = True
                else:
                    jobs.append(job)
            self._work(jobs)
            del first, jobs  # else the bodies in them stay in memory until the next one comes
            if ended:
                break
        self._disconnect()

    def _work(self, jobs: list[_Job]) -> None:
        """All of `jobs` in one transaction, then their answers."""
        done: list[tuple[_Job, Any, BaseException | None]] = []
        try:
            if self._connection is None:
                self._connection = open_file(self.path, self._now())
            db = self._connection
            db.execute("BEGIN IMMEDIATE")
            for job in jobs:
                done.append((job, *_alone(db, job)))
            db.execute("COMMIT")
        except FAILURES as failure:
            self._disconnect()  # rolls back; a connection whose commit failed is not trusted again
            for job in jobs:
                job.future.set_exception(self._as_store_error(failure))
            return
        for job, result, failed in done:
            if failed is None:
                job.future.set_result(result)
            else:
                job.future.set_exception(self._as_store_error(failed))

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _as_store_error(self, failure: BaseException) -> StoreError:
        error = StoreError(plain(f"{self.path}: {failure}"))
        error.__cause__ = failure
        return error


def _alone(db: sqlite3.Connection, job: _Job) -> tuple[Any, BaseException | None]:
    """Result and failure of one job; what a failed one wrote is taken back. Raises only when the transaction itself is
    gone."""
    db.execute("SAVEPOINT job")
    try:
        result = job.run(db)
    except FAILURES as failure:
        if not db.in_transaction:
            raise  # SQLite has rolled everything back: the disk is full
        db.execute("ROLLBACK TO job")
        db.execute("RELEASE job")
        return None, failure
    db.execute("RELEASE job")
    return result, None
