"""Values of secret variables (contract/secrets.py), encrypted where they are stored: in the ledger and its backups.

The key is a file beside the ledger, made when the first secret is stored, and in no backup: a copy of the ledger gives
nothing away. Each value is a Fernet token of its own (AES-128-CBC and HMAC-SHA-256). A value that no key opens is read
as `contract.secrets.MASK`, which is how the rest of the program knows that it has to be set again, and stays in the
file as it is until then: when the right key comes back, so do the values.
"""

from __future__ import annotations

import json
import logging
import os
import sqlite3
import stat
from collections.abc import Mapping
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from orchestrator.contract.secrets import MASK, is_secret, still_masked
from orchestrator.core.writes import EndpointSaved, Write
from orchestrator.ledger.files import open_read_only, sync
from orchestrator.ledger.ports import LedgerError
from orchestrator.ledger.schema import APPLICATION_ID

if TYPE_CHECKING:
    from cryptography.fernet import MultiFernet

log = logging.getLogger(__name__)

KEY_NAME: Final = "secrets.key"
MARK: Final = "\n"
"""First character of a sealed value. No value that a user can set holds one (contract/limits.py), so neither a new idea
of what is secret nor a secret that looks like a token can be mistaken."""
KEY_BYTES_MAX: Final = 65_536
HEADER_BYTES: Final = 100


class KeyUnusable(LedgerError):
    """The file of the key is there and cannot be used."""


class Survey(NamedTuple):
    """What a ledger holds of secrets."""

    sealed: int
    lost: dict[str, list[str]]
    """Variables that no key opens, by endpoint."""
    clear: int
    """Values that are stored openly, as gpudeck did before schema 4."""


class Sealer:
    """Seals and opens values with the key in `file`: one key a line, the first seals and all of them open, so that a
    key can be replaced by putting a new one above it. The file is read anew each time: secrets are few, and a key that
    was put back works at once."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def sealed(self, env: Mapping[str, str], before: Mapping[str, str]) -> dict[str, str]:
        """`env` as it is stored. A masked secret keeps the stored form that it has in `before`: its value is not known.
        Raises KeyUnusable, OSError."""
        stored = dict(env)
        for name, value in env.items():
            if not is_secret(name) or not value or value.startswith(MARK):
                continue
            kept = before.get(name, MASK)
            if value != MASK:
                # A token tells when it was made; that is nobody's business, and time comes from outside (clock.py).
                stored[name] = MARK + self._key(create=True).encrypt_at_time(value.encode(), 0).decode()
            elif kept.startswith(MARK):
                stored[name] = kept
        return stored

    def opened(self, stored: Mapping[str, str]) -> dict[str, str]:
        """`stored` with its values; MASK for one that cannot be opened."""
        if not any(value.startswith(MARK) for value in stored.values()):
            return dict(stored)
        # Imported here: half of all commands of the program need no cryptography.
        from cryptography.fernet import InvalidToken

        env = dict(stored)
        try:
            key = self._key(create=False)
        except (KeyUnusable, OSError) as problem:
            log.error("secrets cannot be opened: %s", problem)
            return {name: MASK if value.startswith(MARK) else value for name, value in env.items()}
        for name, value in stored.items():
            if value.startswith(MARK):
                try:
                    env[name] = key.decrypt(value.removeprefix(MARK)).decode()
                except InvalidToken:
                    log.error("the value of %s is of another key than those in %s", name, self.file)
                    env[name] = MASK
        return env

    def _key(self, *, create: bool) -> MultiFernet:
        from cryptography.fernet import Fernet, MultiFernet

        try:
            with self.file.open("rb") as file:
                lines = file.read(KEY_BYTES_MAX).split()
                if stat.S_IMODE(os.fstat(file.fileno()).st_mode) & 0o077:
                    self.file.chmod(0o600)
        except FileNotFoundError:
            if not create:
                raise KeyUnusable(f"{self.file} does not exist") from None
            self._create(Fernet.generate_key())
            return self._key(create=False)
        try:
            keys = [Fernet(line) for line in lines]
        except ValueError:
            keys = []
        if not keys:
            # Never made anew over what is there: a key that was damaged by an editor can be mended, a lost one cannot.
            raise KeyUnusable(
                f"{self.file} holds no key; put the right one back, or move the file away and set the secrets again"
            )
        return MultiFernet(keys)

    def _create(self, key: bytes) -> None:
        """Put the key on disk, whole, before anything that it seals; one that is there already stands."""
        draft = self.file.with_name(f".{self.file.name}.{os.urandom(4).hex()}")
        try:
            with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                file.write(key + b"\n")
                file.flush()
                os.fsync(file.fileno())
            try:
                self.file.hardlink_to(draft)
            except FileExistsError:
                return
        finally:
            draft.unlink(missing_ok=True)
        sync(self.file.parent)


def sealer_of(ledger: Path) -> Sealer:
    """The sealer of the ledger at this path."""
    return Sealer(ledger.with_name(KEY_NAME))


def seal_write(connection: sqlite3.Connection, write: Write, sealer: Sealer) -> Write:
    """`write` as it goes into the file. Raises KeyUnusable, OSError."""
    if not isinstance(write, EndpointSaved) or not any(map(is_secret, write.spec.env)):
        return write
    before: dict[str, str] = {}
    if still_masked(write.spec.env):
        row = connection.execute(
            "SELECT json_extract(spec, '$.env') FROM endpoint WHERE slug = ? AND removed_ns IS NULL", (write.spec.slug,)
        ).fetchone()
        before = json.loads(row[0]) if row is not None else {}
    env = sealer.sealed(write.spec.env, before)
    return replace(write, spec=write.spec.model_copy(update={"env": env}))


def seal_spec(spec: str, sealer: Sealer) -> str:
    """A stored specification (JSON) from before schema 4, sealed. Raises KeyUnusable, OSError."""
    document: dict[str, Any] = json.loads(spec)
    env = document.get("env") or {}
    sealed = sealer.sealed(env, {})
    return spec if sealed == env else json.dumps({**document, "env": sealed}, ensure_ascii=False)


def open_spec(spec: str, sealer: Sealer) -> str:
    """A stored specification (JSON) with its values; MASK for what cannot be opened."""
    document: dict[str, Any] = json.loads(spec)
    env = document.get("env") or {}
    opened = sealer.opened(env)
    return spec if opened == env else json.dumps({**document, "env": opened})


def survey(ledger: Path, sealer: Sealer) -> Survey:
    """Look at the endpoints of a ledger file, of any schema, in use or not, without changing it. Raises LedgerError."""
    sealed, clear, lost = 0, 0, {}
    try:
        with closing(open_read_only(ledger)) as connection:
            rows = connection.execute(
                "SELECT slug, spec FROM endpoint WHERE removed_ns IS NULL ORDER BY slug"
            ).fetchall()
    except sqlite3.Error as failure:
        raise LedgerError(f"{ledger} cannot be read: {failure}") from failure
    for slug, spec in rows:
        env: dict[str, str] = json.loads(spec).get("env") or {}
        sealed += sum(value.startswith(MARK) for value in env.values())
        clear += sum(is_secret(name) and value not in ("", MASK) and value[0] != MARK for name, value in env.items())
        missing = still_masked(sealer.opened(env))
        if missing:
            lost[slug] = missing
    return Survey(sealed, lost, clear)


def is_ledger(file: Path) -> bool:
    """Whether a file is an SQLite file of ours, by its header."""
    try:
        with file.open("rb") as opened:
            head = opened.read(HEADER_BYTES)
    except (IsADirectoryError, FileNotFoundError):
        return False
    return head.startswith(b"SQLite format 3\0") and head[68:72] == APPLICATION_ID.to_bytes(4, "big")
