"""Bodies of requests that wait, on the disk: what is more than a little is read all the same, so that the client's end
is seen behind it whenever it leaves. A file without a name: nothing is left of it, however the process ends."""

from __future__ import annotations

import os
import tempfile
from typing import Final

READ_BYTES: Final = 64 * 1024


class Disk:
    """What all spools together may take: `left` bytes more. Files are made in `directory`, None for the system's."""

    def __init__(self, limit: int, directory: str | None) -> None:
        self.left = limit
        self.directory = directory


class Spool:
    """First in, first out. Raises OSError when the file cannot be made."""

    __slots__ = ("_disk", "_file", "_read", "_rest", "_written")

    def __init__(self, disk: Disk) -> None:
        self._disk = disk
        self._file = tempfile.TemporaryFile(dir=disk.directory)  # noqa: SIM115
        self._written = 0
        self._read = 0
        self._rest: list[bytes] = []
        """What came after the disk took no more: no more than one read of the client, which is held then."""

    @property
    def left(self) -> bool:
        """There is something to read."""
        return self._read < self._written or bool(self._rest)

    def append(self, data: bytes) -> bool:
        """Keep `data`; False when nothing more should come for now."""
        if self._rest or len(data) > self._disk.left:
            self._rest.append(data)
            return False
        try:
            done = os.pwrite(self._file.fileno(), data, self._written)
        except OSError:  # the disk is full: serving goes on, a little slower
            done = 0
        self._written += done
        self._disk.left -= done
        if done < len(data):
            self._rest.append(data[done:])
        return not self._rest

    def read(self) -> bytes:
        """The next bytes. Raises OSError, also for a file that is shorter than it was."""
        if self._read == self._written:
            return self._rest.pop(0)
        data = os.pread(self._file.fileno(), min(READ_BYTES, self._written - self._read), self._read)
        if not data:
            raise OSError("a spooled body is cut short")
        self._read += len(data)
        return data

    def close(self) -> None:
        self._file.close()
        self._disk.left += self._written
        self._written = 0
