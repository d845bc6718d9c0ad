"""What this host offers and what is missing, checked for real, with what to do about it."""

from __future__ import annotations

import asyncio
import platform
import shutil
import socket
import sqlite3
import stat
import sys
import threading
import uuid
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from orchestrator.assets import AssetError, load_models, load_price_schedule
from orchestrator.clock import system_now
from orchestrator.contract.base import Frozen
from orchestrator.contract.limits import MailAddress
from orchestrator.contract.places import Places
from orchestrator.core.writes import MailKey, MailQueued
from orchestrator.engine.docker_engine import DockerEngine
from orchestrator.gpu.nvml import NvmlProbe
from orchestrator.gpu.ports import GpuSample
from orchestrator.ledger.backups import backups_of, list_backups, way_back
from orchestrator.ledger.files import open_read_only
from orchestrator.ledger.journal import head_of
from orchestrator.ledger.ports import LedgerError
from orchestrator.ledger.schema import check_version
from orchestrator.ledger.sealing import is_ledger, sealer_of, survey
from orchestrator.mail.letter import compose
from orchestrator.mail.server import Undeliverable, Unreachable, server_of
from orchestrator.settings import Settings

FREE_BYTES_MIN = 500 * 1024 * 1024
MAIL_TIMEOUT_S = 10.0
ADDRESS: TypeAdapter[str] = TypeAdapter(MailAddress)


class Check(Frozen):
    """One line of the report. `warn` means that something optional is missing."""

    name: str
    state: str
    detail: str


async def examine(settings: Settings, places: Places) -> list[Check]:
    """Every check, in the order of a start."""
    return [
        Check(name="python", state="ok", detail=f"{platform.python_version()} at {sys.executable}"),
        _sqlite(),
        _disk(places),
        await asyncio.to_thread(_ledger, places.ledger_file),
        await asyncio.to_thread(_secrets, places.ledger_file),
        _calls(places),
        _assets(settings, places),
        _port(settings),
        await _docker(settings, places),
        await asyncio.to_thread(_gpus),
        await asyncio.to_thread(_mail, settings),
    ]


def _mail(settings: Settings) -> Check:
    """Connects, encrypts and logs in; sends nothing."""
    server = server_of(settings)
    if server is None:
        text = "not configured: warnings show on the screen only; smtp_host, mail_from and mail_to in the settings"
        return Check(name="mail", state="warn", detail=text)
    try:
        how = replace(server, timeout_s=MAIL_TIMEOUT_S).attempt().check()
    except Unreachable as error:
        return Check(name="mail", state="fail", detail=str(error))
    to = settings.mail_to or "accounts that have an address; mail_to is not set"
    return Check(name="mail", state="ok", detail=f"{how}; to {to}")


def send_test_mail(settings: Settings, to: str) -> list[Check]:
    """Send one mail, to `to` or the operator. Blocking."""
    server = server_of(settings)
    recipient = to or settings.mail_to
    if server is None or settings.mail_from is None:
        return [Check(name="mail", state="fail", detail="not configured: smtp_host and mail_from in the settings")]
    if not recipient:
        return [Check(name="mail", state="fail", detail="no address: give one, or set mail_to in the settings")]
    text = f"The test that was asked for on {platform.node()}. Warnings about credit come this way.\n"
    mail = MailQueued(MailKey("test", "warning", 1), "gpudeck: test mail", text, system_now()())
    try:
        address = ADDRESS.validate_python(recipient)
        message = compose(mail, sender=settings.mail_from, recipient=address, instance=uuid.uuid4().hex)
        replace(server, timeout_s=MAIL_TIMEOUT_S).attempt().deliver(message, settings.mail_from, address)
    except ValidationError as error:
        return [Check(name="mail", state="fail", detail=f"address: {error.errors()[0]['msg']}")]
    except (Unreachable, Undeliverable) as error:
        return [Check(name="mail", state="fail", detail=str(error))]
    return [Check(name="mail", state="ok", detail=f"{server.host}:{server.port} took it for {address}")]


def _sqlite() -> Check:
    wal = sqlite3.sqlite_version_info >= (3, 51, 3)
    mode = "write-ahead log" if wal else "rollback journal, since WAL of this version can lose commits"
    return Check(name="sqlite", state="ok", detail=f"{sqlite3.sqlite_version}, {mode}")


def _disk(places: Places) -> Check:
    existing = next(p for p in (places.data, *places.data.parents) if p.exists())
    free = shutil.disk_usage(existing).free
    state = "ok" if free >= FREE_BYTES_MIN else "fail"
    hint = "" if state == "ok" else f"; at least {FREE_BYTES_MIN // 1024**2} MiB are needed"
    return Check(name="data directory", state=state, detail=f"{places.data}, {free // 1024**2} MiB free{hint}")


def _ledger(ledger: Path) -> Check:
    """Whether this program can read it, in use or not. Its amounts are for `gpudeck ledger verify`."""
    if not ledger.exists():
        return Check(name="ledger", state="ok", detail="none yet")
    try:
        with closing(open_read_only(ledger)) as connection:
            check_version(connection)
            head, _ = head_of(connection)
    except sqlite3.OperationalError as error:  # such as the traces of a crash, which the next start tidies up
        return Check(name="ledger", state="warn", detail=f"cannot be looked at now: {error}")
    except (sqlite3.Error, LedgerError) as error:
        return Check(name="ledger", state="fail", detail=f"{ledger}: {error}. {way_back(ledger)}")
    return Check(name="ledger", state="ok", detail=f"{head:,} journal rows; `gpudeck ledger verify` recomputes them")


def _secrets(ledger: Path) -> Check:
    """Whether the stored secrets can be opened, and whether copies from before schema 4 still hold some openly."""
    sealer = sealer_of(ledger)
    if not ledger.exists():
        return Check(name="secrets", state="ok", detail="none stored yet")
    try:
        found = survey(ledger, sealer)
        copies = [*ledger.parent.glob(f"{ledger.name}.*"), *list_backups(backups_of(ledger))]
        # A file that is no ledger, such as a journal, is none of these copies.
        open_ones = [copy for copy in copies if is_ledger(copy) and survey(copy, sealer).clear]
    except (LedgerError, OSError) as error:
        return Check(name="secrets", state="warn", detail=f"cannot be looked at: {error}")
    if found.lost:
        lost = "; ".join(f"{slug}: {', '.join(names)}" for slug, names in found.lost.items())
        text = f"{sealer.file} does not open {lost}; put the right key back, or set them again"
        return Check(name="secrets", state="fail", detail=text)
    if open_ones:
        names = ", ".join(str(copy) for copy in open_ones)
        text = f"older copies hold some in clear; delete them when you need them no more: {names}"
        return Check(name="secrets", state="warn", detail=text)
    if not found.sealed:
        return Check(name="secrets", state="ok", detail="none stored")
    text = f"{found.sealed} sealed with {sealer.file}, which is in no backup: keep a copy of it elsewhere"
    return Check(name="secrets", state="ok", detail=text)


def _calls(places: Places) -> Check:
    """Asynchronous calls: who may read them, and that no backup holds them."""
    kept = [file for file in (places.deferred_file, places.webhook_key_file) if file.exists()]
    if not kept:
        return Check(name="async calls", state="ok", detail="none yet")
    readable = [str(file) for file in kept if stat.S_IMODE(file.stat().st_mode) & 0o077]
    if readable:
        text = f"others may read {', '.join(readable)}: chmod 600"
        return Check(name="async calls", state="fail", detail=text)
    names = " and ".join(file.name for file in kept)
    text = (
        f"{names}: readable by you alone, in no backup (a restored queue would run calls again); keep a copy of "
        f"{places.webhook_key_file.name} elsewhere"
    )
    return Check(name="async calls", state="ok", detail=text)


def _assets(settings: Settings, places: Places) -> Check:
    try:
        models = load_models(places.models_dir)
        prices = load_price_schedule([(p.book, p.start_ns) for p in settings.price_book], places.prices_dir)
    except AssetError as error:
        return Check(name="catalogue", state="fail", detail=str(error))
    names = [book.name for book in prices.books]
    return Check(name="catalogue", state="ok", detail=f"{len(models)} models, price book {', then '.join(names)}")


def _port(settings: Settings) -> Check:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((settings.host, settings.port))
        except OSError as error:
            text = f"{settings.host}:{settings.port}: {error.strerror}; set another with --port (a running gpudeck?)"
            return Check(name="gateway port", state="warn", detail=text)
    return Check(name="gateway port", state="ok", detail=f"{settings.host}:{settings.port} is free")


async def _docker(settings: Settings, places: Places) -> Check:
    engine = DockerEngine("doctor", system_now(), settings.docker_host, secrets=places.secrets_dir)
    view = await engine.probe()
    await engine.close()
    hint = "" if view.ok else "; models run as processes instead"
    return Check(name="docker", state="ok" if view.ok else "warn", detail=view.detail + hint)


def _gpus() -> Check:
    probe = NvmlProbe(system_now())
    seen: list[tuple[GpuSample, ...]] = []
    first = threading.Event()

    def on_sample(samples: tuple[GpuSample, ...]) -> None:
        seen.append(samples)
        first.set()

    probe.start(on_sample)
    for _ in range(600):  # as long as a start waits (wiring.FIRST_SAMPLE_TIMEOUT_S)
        if first.wait(0.05) or probe.problem() is not None:
            break
    problem = probe.problem()
    probe.close()
    if seen and seen[-1]:
        names = ", ".join(f"{s.index}: {s.name}" for s in seen[-1])
        return Check(name="gpus", state="ok", detail=names)
    return Check(name="gpus", state="warn", detail=f"{problem or 'none found'}; declared GPUs are used, SIMULATED")
