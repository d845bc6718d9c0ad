"""What surrounds the commands: help, start-up, completion, tables."""

from __future__ import annotations

import asyncio
import json
import os
import resource
import statistics
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from app.cli.logs import new_lines
from app.cli.output import Column, render_table
from app.cli.reports import flatten
from app.cli.root import cli
from app.present.settings import scalar
from orchestrator.contract.places import HOME_VARIABLE, places
from tests.app.cli_runner import gpudeck_sync
from tests.app.fake_orchestrator import FakeOrchestrator

ROOT = Path(__file__).parents[2]
HEAVY = ("pydantic", "httpx", "textual", "rich", "docker", "aiohttp", "asyncio", "orchestrator.contract.base")
START_UP_S = 0.2
SLOW_MACHINE_FACTOR = 5
"""A slow machine may take this much longer; the list of modules is what really guards the start-up."""


def commands(command: click.Command, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    yield path, command
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            child = command.get_command(context, name)
            assert child is not None
            yield from commands(child, (*path, name))


EVERY = list(commands(cli))


@pytest.mark.parametrize("path", [path for path, _ in EVERY], ids=[" ".join(path) or "gpudeck" for path, _ in EVERY])
def test_every_help_fits_and_has_an_example(path: tuple[str, ...]) -> None:
    result = gpudeck_sync(*path, "--help")
    assert result.exit_code == 0
    assert "Example" in result.stdout
    assert "gpudeck " + " ".join(path) in result.stdout
    assert max(len(line) for line in result.stdout.splitlines()) <= 80


@pytest.mark.parametrize("path", [path for path, command in EVERY if not isinstance(command, click.Group)])
def test_every_command_takes_the_common_options(path: tuple[str, ...]) -> None:
    help_text = gpudeck_sync(*path, "--help").stdout
    assert all(option in help_text for option in ("--output", "--no-color", "--yes"))


@pytest.mark.parametrize("arguments", [["--help"], ["endpoint", "create", "--help"], ["call", "--help"]])
def test_help_imports_nothing_heavy(arguments: list[str]) -> None:
    code = (
        "import sys, json\n"
        f"sys.argv = ['gpudeck', *{arguments!r}]\n"
        "from app.cli import main\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "sys.stderr.write(json.dumps(sorted(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, check=True)
    loaded = set(json.loads(done.stderr))
    assert not loaded.intersection(HEAVY)


def test_help_is_quick() -> None:
    times = []
    for _ in range(5):
        begin = children_cpu_s()
        subprocess.run([sys.executable, "-m", "app", "--help"], cwd=ROOT, capture_output=True, check=True)
        times.append(children_cpu_s() - begin)
    assert statistics.median(times) < START_UP_S * SLOW_MACHINE_FACTOR


def children_cpu_s() -> float:
    """CPU seconds of the children that have ended: the clock on the wall also counts what others did meanwhile."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts(shell: str) -> None:
    result = gpudeck_sync("completion", shell)
    assert result.exit_code == 0
    assert "_GPUDECK_COMPLETE" in result.stdout


async def complete(words: str, home: Path) -> list[str]:
    environ = {
        **os.environ,
        HOME_VARIABLE: str(home),
        "_GPUDECK_COMPLETE": "bash_complete",
        "COMP_WORDS": words,
        "COMP_CWORD": str(len(words.split(" ")) - 1),
    }
    # `-m app` would complete for another program name; this is what the installed script runs.
    program = [sys.executable, "-c", "from app.cli import main; main()"]
    child = await asyncio.create_subprocess_exec(*program, env=environ, cwd=ROOT, stdout=subprocess.PIPE)
    output, _ = await child.communicate()
    return [line.split(",", 1)[1] for line in output.decode().splitlines() if line]


async def test_slugs_complete_from_the_running_orchestrator(tmp_path: Path) -> None:
    async with FakeOrchestrator(places({HOME_VARIABLE: str(tmp_path)}).socket_file):
        assert await complete("gpudeck call sk", tmp_path) == ["sketch"]
        assert await complete("gpudeck endpoint show ", tmp_path) == ["sketch"]
        assert await complete("gpudeck endpoint sh", tmp_path) == ["show"]


async def test_completion_without_an_orchestrator_is_empty(tmp_path: Path) -> None:
    assert await complete("gpudeck call ", tmp_path) == []


async def test_a_broken_pipe_is_quiet(tmp_path: Path) -> None:
    done = subprocess.run(
        f"{sys.executable} -m app --help | true", shell=True, cwd=ROOT, capture_output=True, check=False
    )
    assert done.stderr == b""


def test_a_full_disk_is_a_sentence() -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "app", "--help"],
            cwd=ROOT,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert (done.returncode, done.stderr) == (1, "gpudeck: [Errno 28] No space left on device\n")


async def test_a_narrow_locale_is_no_error(tmp_path: Path) -> None:
    environ = {**os.environ, HOME_VARIABLE: str(tmp_path), "PYTHONIOENCODING": "ascii"}
    async with FakeOrchestrator(places({HOME_VARIABLE: str(tmp_path)}).socket_file):
        child = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "app", "endpoint", "ls", cwd=ROOT, env=environ,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        output, said = await child.communicate()
    assert (child.returncode, said) == (0, b"")
    assert output.startswith(b"ENDPOINT")


def test_tables_align_and_carry_no_escapes() -> None:
    columns = (Column("NAME"), Column("N", right=True), Column("STATE", state=True))
    text = render_table(columns, [("a", "1", "ready"), ("bb日", "100", "fai\x1b[31mled")])
    assert text.splitlines() == ["NAME    N  STATE", "a       1  ready", "bb日  100  failed"]
    painted = render_table(columns, [("a", "1", "ready")], paint=True)
    assert painted.endswith("\x1b[32mready\x1b[0m")


@pytest.mark.parametrize(
    ("old", "new", "added"),
    [
        ((), ("a", "b"), ("a", "b")),
        (("a", "b"), ("a", "b"), ()),
        (("a", "b"), ("a", "b", "c"), ("c",)),
        (("a", "b"), ("b", "c"), ("c",)),  # the tail moved on
        (("y", "z"), ("x", "y", "z", "a"), ("a",)),  # the later tail reaches further back
        (("a", "a"), ("a", "a", "a"), ("a",)),
        (("a",), ("x", "y"), ("x", "y")),  # a gap: everything is new
    ],
)
def test_lines_that_are_new(old: tuple[str, ...], new: tuple[str, ...], added: tuple[str, ...]) -> None:
    assert tuple(new_lines(old, new)) == added


def test_documents_become_names_and_values() -> None:
    assert flatten({"a": {"b": 1, "c": None}, "d": [True, "x"], "e": {}}) == [
        ("a.b", "1"), ("a.c", "–"), ("d", "yes, x"), ("e", "{}"),
    ]  # fmt: skip
    assert scalar([]) == "–"
