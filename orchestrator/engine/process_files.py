"""The directory of records behind the process engine: reading, writing, the log. Blocking; called in a thread."""

from __future__ import annotations

import errno
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from orchestrator.contract.base import Received
from orchestrator.engine.log_text import clean_line
from orchestrator.engine.process_record import (
    WORKER_ID_PATTERN,
    ExitRecord,
    R,
    RecordInvalid,
    ShimRecord,
    SpecRecord,
    StopRecord,
    read_record,
)
from orchestrator.engine.shim import write_json

RECORD_BYTES_MAX: Final = 65_536
TAIL_BLOCK_BYTES: Final = 131_072
TAIL_LINES_MAX: Final = 10_000
REMOVED_SUFFIX: Final = ".removed"
"""Of a directory that is no record any more, or not yet."""


@dataclass(frozen=True, slots=True)
class Directory:
    """`root`/<worker_id>/ for each worker. Directories are 0700 and files 0600: a log may hold what users sent."""

    root: Path

    def prepare(self) -> None:
        """Create the root and clear away records whose making or removal was cut short. Raises OSError."""
        self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
        for entry in self.root.iterdir():
            if entry.name.startswith(".") and entry.name.endswith(REMOVED_SUFFIX):
                shutil.rmtree(entry, ignore_errors=True)

    def ids(self) -> list[str]:
        """Names of all records, sorted. Raises OSError."""
        if not self.root.exists():
            return []
        return sorted(e.name for e in self.root.iterdir() if WORKER_ID_PATTERN.fullmatch(e.name) and e.is_dir())

    def path(self, worker_id: str) -> Path:
        return self.root / worker_id

    def has(self, worker_id: str) -> bool:
        return WORKER_ID_PATTERN.fullmatch(worker_id) is not None and self.path(worker_id).is_dir()

    def create(self, spec: SpecRecord) -> Path:
        """There at once, and whole, for every reader: a directory without a specification, left by a process that was
        killed while it made one, could be anybody's and would stay for ever. Raises OSError: FileExistsError when there
        is such a record."""
        self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = self.path(spec.worker_id)
        if path.exists():
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path))
        fresh = self._beside(spec.worker_id)
        fresh.mkdir(mode=0o700)
        try:
            write_json(fresh / "spec.json", spec.model_dump(mode="json"))
            fresh.rename(path)
        except OSError:
            shutil.rmtree(fresh, ignore_errors=True)
            raise
        return path

    def spec(self, worker_id: str) -> SpecRecord | None:
        """None when there is none. Raises RecordInvalid; also for a record that names another worker."""
        record = self._read(worker_id, "spec.json", SpecRecord)
        if record is not None and record.worker_id != worker_id:
            raise RecordInvalid(f"SpecRecord worker_id: is {record.worker_id!a}, not that of its directory")
        return record

    def shim(self, worker_id: str) -> ShimRecord | None:
        """None when there is none. Raises RecordInvalid."""
        return self._read(worker_id, "shim.json", ShimRecord)

    def exit(self, worker_id: str) -> ExitRecord | None:
        """None when there is none. Raises RecordInvalid."""
        return self._read(worker_id, "exit.json", ExitRecord)

    def write_exit(self, worker_id: str, record: ExitRecord) -> None:
        """Keep this evidence unless there is some already: the first that can be read stands. Raises OSError."""
        path = self.path(worker_id) / "exit.json"
        fresh = f".exit.{os.urandom(4).hex()}"
        self._write(worker_id, fresh, record)
        try:
            path.hardlink_to(path.with_name(fresh))
        except FileExistsError:
            try:
                self.exit(worker_id)
            except RecordInvalid:
                path.with_name(fresh).replace(path)
        finally:
            path.with_name(fresh).unlink(missing_ok=True)

    def write_stop(self, worker_id: str, grace_s: float) -> None:
        self._write(worker_id, "stop.json", StopRecord(grace_s=grace_s))

    def tail(self, worker_id: str, lines: int) -> tuple[str, ...]:
        """The newest `lines` (at most TAIL_LINES_MAX) of the log, oldest first, made printable."""
        wanted = min(lines, TAIL_LINES_MAX)
        found: list[bytes] = []
        for name in ("log", "log.1"):
            if len(found) < wanted:
                found = _last_lines(self.path(worker_id) / name, wanted - len(found)) + found
        return tuple(clean_line(line) for line in found)

    def delete(self, worker_id: str) -> None:
        """Remove the record at once for every reader, then its files. Idempotent. Raises OSError."""
        gone = self._beside(worker_id)
        try:
            self.path(worker_id).rename(gone)
        except (FileNotFoundError, NotADirectoryError):
            return
        shutil.rmtree(gone, ignore_errors=True)

    def _beside(self, worker_id: str) -> Path:
        return self.root / f".{worker_id}.{os.urandom(4).hex()}{REMOVED_SUFFIX}"

    def _read(self, worker_id: str, name: str, kind: type[R]) -> R | None:
        try:
            with (self.path(worker_id) / name).open("rb") as file:
                text = file.read(RECORD_BYTES_MAX)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise RecordInvalid(f"{kind.__name__} document: cannot be read ({error.strerror})") from error
        return read_record(kind, text)

    def _write(self, worker_id: str, name: str, record: Received) -> None:
        write_json(self.path(worker_id) / name, record.model_dump(mode="json"))


def _last_lines(path: Path, count: int) -> list[bytes]:
    """The last `count` lines of a file without their ends; none when there is no file. Reads from the end."""
    if count <= 0:
        return []
    try:
        with path.open("rb") as file:
            at = file.seek(0, os.SEEK_END)
            data = b""
            while at > 0 and data.count(b"\n") <= count:
                size = min(at, TAIL_BLOCK_BYTES)
                at = file.seek(at - size)
                data = file.read(size) + data
    except OSError:
        return []
    lines = data.removesuffix(b"\n").split(b"\n") if data else []
    return lines[-count:]
