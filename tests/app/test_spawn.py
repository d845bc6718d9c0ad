"""Starting an orchestrator: real child processes, some of which misbehave on purpose."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.client import ProtocolMismatch
from app.spawn import SpawnError, attach, captured_output, child_environ, ensure_orchestrator, serve_command
from orchestrator.contract.places import HOME_VARIABLE, Places, places
from tests.app.fake_orchestrator import FakeOrchestrator
from tests.waiting import until

ROOT = Path(__file__).parents[2]

SERVER = """
    import asyncio, os, sys
    from orchestrator.contract.places import places
    from tests.app.fake_orchestrator import FakeOrchestrator
    async def main():
        async with FakeOrchestrator(places().socket_file):
            print("listening", os.getsid(0) == os.getpid(), sys.stdin.read() == "", flush=True)
            await asyncio.sleep(300)
    asyncio.run(main())
"""


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), HOME_VARIABLE: str(tmp_path / "h")}


@pytest.fixture
def home(environ: dict[str, str]) -> Iterator[Places]:
    found = places(environ)
    yield found
    pid_file = found.state / "pid"
    if pid_file.exists():
        os.kill(int(pid_file.read_text()), signal.SIGKILL)


def script(code: str) -> list[str]:
    return [sys.executable, "-c", textwrap.dedent(code)]


def shell(line: str) -> list[str]:
    """What must come within a time-out: a shell is there in no time, an interpreter on a loaded machine is not."""
    return ["/bin/sh", "-c", line]


async def test_it_starts_one_and_attaches_to_it(home: Places, environ: dict[str, str]) -> None:
    client = await ensure_orchestrator(home, environ=environ, command=script(SERVER), timeout_s=90)
    pid = (await client.hello()).pid
    (home.state / "pid").write_text(str(pid))
    assert pid != os.getpid()
    await until(lambda: "listening True True" in captured_output(home).read_text(), what="own session, empty stdin")

    again = await ensure_orchestrator(home, environ=environ, command=script("raise SystemExit('not started')"))
    assert (await again.hello()).pid == pid, "the second call attached"
    await client.aclose()
    await again.aclose()


@pytest.mark.parametrize("code", [75, 78, 1])
async def test_an_early_end_carries_status_and_last_words(home: Places, environ: dict[str, str], code: int) -> None:
    command = shell(f"echo noise; printf 'held by pid 12\\033[31m\\n' >&2; exit {code}")
    with pytest.raises(SpawnError, match=r"held by pid 12") as caught:
        await ensure_orchestrator(home, environ=environ, command=command, timeout_s=60 if code != 75 else 3)
    assert caught.value.exit_code == code
    assert caught.value.lines[-1] == "held by pid 12", "control characters never reach the terminal"


async def test_only_this_starts_output_is_quoted(home: Places, environ: dict[str, str]) -> None:
    for text in ("first", "second"):
        with pytest.raises(SpawnError) as caught:
            await ensure_orchestrator(home, environ=environ, command=shell(f"echo {text} >&2; exit 1"))
        assert caught.value.lines == (text,)


async def test_one_that_never_answers_is_stopped(home: Places, environ: dict[str, str], tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    command = shell(f"echo $$ > {pid_file}; exec sleep 300")
    with pytest.raises(SpawnError, match=r"within 2 s") as caught:
        await ensure_orchestrator(home, environ=environ, command=command, timeout_s=2)
    assert caught.value.exit_code is None
    pid = int(pid_file.read_text())
    await until(lambda: not Path(f"/proc/{pid}").exists(), what="the child to be gone and reaped")


async def test_one_that_nobody_waits_for_any_more_is_stopped(
    home: Places, environ: dict[str, str], tmp_path: Path
) -> None:
    pid_file = tmp_path / "pid"
    command = shell(f"echo $$ > {pid_file}; exec sleep 300")
    waiting = asyncio.create_task(ensure_orchestrator(home, environ=environ, command=command, timeout_s=90))
    await until(lambda: pid_file.exists() and pid_file.read_text().strip(), what="the child")
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert not Path(f"/proc/{int(pid_file.read_text())}").exists(), "gone and reaped"


async def test_the_loser_of_a_race_attaches_to_the_winner(home: Places, environ: dict[str, str]) -> None:
    # This child behaves like the loser (75 at once); the winner, started by somebody else, listens a moment later.
    loser = script("import sys; sys.exit(75)")
    winner = FakeOrchestrator(home.socket_file)

    async def listen_later() -> None:
        await until(lambda: captured_output(home).exists())
        await winner.__aenter__()

    listening = asyncio.create_task(listen_later())
    client = await ensure_orchestrator(home, environ=environ, command=loser, timeout_s=90)
    assert (await client.hello()).pid == os.getpid()
    await client.aclose()
    await listening
    await winner.close()


async def test_another_version_is_not_replaced(home: Places, environ: dict[str, str]) -> None:
    async with FakeOrchestrator(home.socket_file, protocol=99):
        with pytest.raises(ProtocolMismatch):
            await ensure_orchestrator(home, environ=environ, command=script("raise SystemExit(3)"))


async def test_attach_is_none_when_nothing_runs(home: Places) -> None:
    assert await attach(home) is None


def test_the_child_uses_the_same_home(home: Places, environ: dict[str, str], tmp_path: Path) -> None:
    assert places(child_environ(home, {"PATH": "x"})) == home
    relative = {**environ, HOME_VARIABLE: os.path.relpath(tmp_path / "h")}
    assert Path(child_environ(home, relative)[HOME_VARIABLE]).is_absolute(), "the child has another directory"
    plain = {"HOME": str(tmp_path)}
    assert child_environ(places(plain), plain) == plain, "no GPUDECK_HOME is invented where none is needed"
    with pytest.raises(ValueError, match=HOME_VARIABLE):
        child_environ(Places(Path("/a"), Path("/b"), Path("/c"), Path("/d")), plain)


def test_the_command_line_of_serve() -> None:
    assert serve_command("process", "L40:2", 8080)[1:] == [
        "-m", "orchestrator", "serve", "--engine", "process", "--gpus", "L40:2", "--port", "8080",
    ]  # fmt: skip
    assert serve_command(None, None, None)[1:] == ["-m", "orchestrator", "serve"]
