"""Known secrets go through the whole system; afterwards they are looked for everywhere.

Where a secret is allowed to be is written here too, so that a change of that is noticed: the value of a secret variable
is in the environment of the workers that need it, for containers in a file that is mounted into them, and nowhere else.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import re
import secrets
import stat
import urllib.parse
from collections.abc import AsyncIterator, Iterator
from datetime import UTC
from pathlib import Path

import pytest

from app.app import GpudeckApp
from app.screens.dashboard import DashboardScreen
from app.screens.dialogs.edit import EditDialog
from orchestrator.contract.command import CreateEndpoint, Refused, Shutdown, UpdateEndpoint
from orchestrator.contract.endpoint import EndpointChanges, EndpointSpec
from orchestrator.contract.query import AskBackup, AskBill, AskJournal, AskLogs, AskQuote, AskStatement
from orchestrator.contract.secrets import MASK
from orchestrator.contract.snapshot import WorkerState
from tests.app.cli_runner import gpudeck
from tests.e2e.host import new_id
from tests.e2e.mailed import MailedHost, mailed_host
from tests.engine.docker_harness import client, missing
from tests.mail.smtp_host import MailHost, serving
from tests.waiting import until

LEDGERS = re.compile(r"data/(ledger\.db|backups/ledger-.*\.db)")
"""Files that hold secret variables, sealed: the ledger and its copies."""


class Canaries:
    """Secrets, each with the other ways in which it could be written."""

    def __init__(self) -> None:
        self.token = f"hf_canary_{secrets.token_hex(12)}"
        self.password = f"pw-canary-{secrets.token_hex(12)}"
        self.keys: list[str] = []
        self.seen: dict[str, str] = {}
        """Everything that came out of the system, by where it came from."""

    def saw(self, where: str, text: object) -> None:
        self.seen[f"{where} #{len(self.seen)}"] = str(text)

    def forms(self, secret: str) -> Iterator[bytes]:
        raw = secret.encode()
        yield from (raw, raw.hex().encode(), urllib.parse.quote(secret).encode(), raw[::-1])
        for shift in range(3):  # base64 of a text that holds it, at any alignment, without its ragged edges
            yield base64.b64encode(b"x" * shift + raw)[4:-4]

    def found_in(self, data: bytes) -> list[str]:
        """Which secrets `data` holds: token, password, key."""
        named = [("token", self.token), ("password", self.password), *(("key", key) for key in self.keys)]
        return [name for name, secret in named if any(form in data for form in self.forms(secret))]


@pytest.fixture
def canaries() -> Canaries:
    return Canaries()


@pytest.fixture(params=["process", pytest.param("docker", marks=pytest.mark.docker)])
async def host(
    request: pytest.FixtureRequest, tmp_path: Path, canaries: Canaries, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[MailedHost]:
    engine = str(request.param)
    if engine == "docker" and (problem := missing()) is not None:
        pytest.skip(problem)
    async with serving(MailHost(password=canaries.password), login=True) as smtp:
        running = mailed_host(tmp_path, smtp.port, SMTP_USER="ada", SMTP_PASSWORD=canaries.password, LOG_LEVEL="debug")
        running.engine = engine
        await running.start()
        for name, value in {**running.environ, "HF_TOKEN": canaries.token}.items():
            monkeypatch.setenv(name, value)  # for the command line, which runs in this process
        running.smtp = smtp  # type: ignore[attr-defined]
        yield running
        await running.stop()


async def test_secrets_stay_where_they_belong(host: MailedHost, canaries: Canaries) -> None:
    smtp: MailHost = host.smtp  # type: ignore[attr-defined]
    await _use(host, canaries)
    await until(lambda: smtp.received)
    assert smtp.logins >= 1, "the password was used"
    await host.kill()
    await host.start()
    await _until_rolled(host)
    await _look(host, canaries)
    workers = [w for w in (await host.endpoint()).workers if w.engine_ref is not None]
    assert workers
    _search_processes(canaries, host.home, {worker.id for worker in workers} if host.engine == "process" else set())
    if host.engine == "docker":
        for worker in workers:
            _inspect(canaries, str(worker.engine_ref))
        await _search_handover(canaries, host.home, {worker.id for worker in workers})
    await host.accept(Shutdown(id=new_id(), mode="drain"))
    assert host.process is not None
    await asyncio.to_thread(host.process.wait, 60)
    canaries.saw("output", host.output())
    await host.kill()  # it has ended: this closes what the test holds of it
    for message in smtp.received:
        canaries.saw("mail", message)
    found = {where: canaries.found_in(text.encode()) for where, text in canaries.seen.items()}
    assert {where: names for where, names in found.items() if names} == {}
    _search_files(canaries, host.home)


async def _until_rolled(host: MailedHost) -> None:
    """Wait until the change of the environment has reached its one worker: who looks earlier sees one that goes."""
    async with asyncio.timeout(90):
        while True:
            view = await host.endpoint()
            if [(w.state, w.generation) for w in view.workers] == [(WorkerState.READY, view.generation)]:
                return
            await asyncio.sleep(0.05)


async def _use(host: MailedHost, canaries: Canaries) -> None:
    """Create, call, be refused, fail: with every secret, in ways that produce errors."""
    env = {"HF_TOKEN": canaries.token, "REVISION": "main"}
    await host.create("1-2", policy={"kind": "request_count", "value": 1}, idle_timeout_s=1, env=env)
    canaries.keys.append(host.key)
    await host.until_ready(1)
    async with host.http() as http:
        for number in range(4):
            reply = await http.post("/v1/echo", json={"echo": number, "latency_s": 0.4})
            canaries.saw("reply", (reply.status_code, reply.headers, reply.text))
        for path in ("/v1/echo/health", "/v1/models", "/v1/get-user-credits", "/v1/nobody", "/nowhere"):
            reply = await http.get(path, headers={"authorization": f"Bearer {host.key}"})
            canaries.saw(path, (reply.status_code, reply.headers, reply.text))
        await asyncio.gather(*(http.post("/v1/echo", json={"latency_s": 1.5}) for _ in range(3)))
        wrong = host.key[:-1] + ("A" if host.key[-1] != "A" else "B")
        reply = await http.post("/v1/echo", headers={"x-api-key": wrong})
        assert reply.status_code == 401
        canaries.saw("401", (reply.headers, reply.text))
    spec = EndpointSpec(slug="other", model="echo", gpu_type="L40", baseline=4, maximum=4, env=env)
    for refused in (
        CreateEndpoint(id=new_id(), spec=spec),
        CreateEndpoint(id=new_id(), spec=spec.model_copy(update={"model": "nothing"})),
        UpdateEndpoint(id=new_id(), slug="echo", changes=EndpointChanges(maximum=9_999, env=env)),
        UpdateEndpoint(id=new_id(), slug="nobody", changes=EndpointChanges(env=env)),
    ):
        outcome = await host.send(refused)
        assert isinstance(outcome, Refused)
        canaries.saw("refusal", (outcome, repr(refused)))
    try:
        EndpointSpec.model_validate({**spec.model_dump(), "baseline": 5})
    except ValueError as error:
        canaries.saw("exception", f"{error} {error!r}")
    await host.accept(
        UpdateEndpoint(id=new_id(), slug="echo", changes=EndpointChanges(env={"HF_TOKEN": MASK, "REVISION": "dev"}))
    )
    assert host.client is not None
    canaries.saw("quote", await host.client.ask(AskQuote(spec=spec)))


async def _look(host: MailedHost, canaries: Canaries) -> None:
    """Everything that shows something."""
    assert host.client is not None
    snapshot = await host.snapshot()
    assert snapshot.endpoints[0].spec.env == {"HF_TOKEN": MASK, "REVISION": "dev"}
    canaries.saw("snapshot", snapshot.model_dump_json())
    for query in (
        AskBill(), AskStatement(), AskJournal(), AskLogs(slug="echo", tail=5_000), AskBackup(),
    ):  # fmt: skip
        canaries.saw(query.kind, (await host.client.ask(query)).model_dump_json())
    assert (await host.verify()).ok
    for words in (
        ("status", "-o", "json"), ("status",), ("endpoint", "show", "echo"), ("endpoint", "show", "echo", "-o", "json"),
        ("key", "ls", "--all", "-o", "json"), ("account", "ls"), ("logs", "echo"), ("bill", "-o", "json"),
        ("ledger", "verify", "-o", "json"), ("config", "show"), ("doctor",),
        ("endpoint", "create", "echo", "--model", "echo", "--gpu", "L40", "--workers", "1-1", "--env", "HF_TOKEN"),
    ):  # fmt: skip
        await _cli(canaries, *words)
    await _screens(host, canaries)


async def _cli(canaries: Canaries, *words: str) -> None:
    result = await gpudeck(*words)
    canaries.saw(" ".join(words), result.stdout + result.stderr)


async def _screens(host: MailedHost, canaries: Canaries) -> None:
    """The dashboard, and the form in which the environment is edited."""
    assert host.client is not None
    app = GpudeckApp(host.client, zone=UTC, tick_s=3_600)
    async with app.run_test(size=(160, 50)) as pilot:
        await until(lambda: isinstance(app.screen, DashboardScreen) and app.snapshot is not None)
        await pilot.pause()
        canaries.saw("dashboard", app.export_screenshot())
        assert app.snapshot is not None
        dialog = EditDialog(app.snapshot, "echo")
        await app.push_screen(dialog)
        await pilot.pause()
        canaries.saw("edit", (app.export_screenshot(), dialog.initial(), dialog.reading))


def _search_processes(canaries: Canaries, home: Path, workers: set[str]) -> None:
    """Command lines of every process; environments of the workers: the token is theirs, the rest is not."""
    seen = set()
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            command, environment = (entry / "cmdline").read_bytes(), (entry / "environ").read_bytes()
            ours = (entry / "cwd").readlink().is_relative_to(home)
        except OSError:
            continue  # it has ended, or is another user's
        assert canaries.found_in(command) == [], command
        for worker in workers:
            if ours and f"GPUDECK_WORKER={worker}\0".encode() in environment:
                seen.add(worker)
                assert canaries.found_in(environment) == ["token"]
    assert seen == workers


def _inspect(canaries: Canaries, container: str) -> None:
    """`docker inspect`, `docker top` and `docker ps` hold no secret, in whatever field."""
    with client() as api:
        shown = [api.inspect_container(container), api.top(container), api.containers(all=True)]
    assert "REVISION=dev" in shown[0]["Config"]["Env"], "what is no secret is there: the search is not blind"
    assert canaries.found_in(json.dumps(shown).encode()) == []


async def _search_handover(canaries: Canaries, home: Path, workers: set[str]) -> None:
    """One file per running worker, behind a door that only we can pass."""
    directory = home / "run" / "secrets"
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    # That of the worker before goes with its container, after the books know of its end.
    await until(lambda: {file.stem for file in directory.iterdir()} == workers, what="one file per running worker")
    assert all(canaries.found_in(file.read_bytes()) == ["token"] for file in directory.iterdir())


def _search_files(canaries: Canaries, home: Path) -> None:
    """Every file of the home, with the ledger's own pages and its backups. The workers and their files are gone."""
    sealed = set()
    for file in sorted(path for path in home.rglob("*") if path.is_file()):
        content = file.read_bytes()
        assert canaries.found_in(content) == [], f"{file} holds a secret"
        if LEDGERS.fullmatch(str(file.relative_to(home))):
            assert stat.S_IMODE(file.stat().st_mode) == 0o600
            if b"HF_TOKEN" in content:
                sealed.add(file.parent.name)
    assert sealed == {"data", "backups"}, "the variable is there, by name: the search is not blind"
    assert stat.S_IMODE((home / "data" / "secrets.key").stat().st_mode) == 0o600
