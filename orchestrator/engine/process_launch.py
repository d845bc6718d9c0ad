"""Starting a supervisor and, through it, a model: the engine's side of the conversation in shim.py. Blocking."""

from __future__ import annotations

import json
import os
import select
import socket
import subprocess
from collections.abc import Callable, Collection
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Final

import orchestrator
from orchestrator.engine.log_text import clean_line
from orchestrator.engine.process_record import HOST

SHIM: Final = Path(__file__).with_name("shim.py")
PACKAGE_ROOT: Final = str(Path(orchestrator.__file__).parents[1])
ANSWER_TIMEOUT_S: Final = 30.0
"""For each of the two answers. They take milliseconds; a host that swaps may take seconds."""
ANSWER_BYTES_MAX: Final = 65_536
PORT_DRAWS: Final = 100


class LaunchFailed(Exception):
    """No model was started and none will be; the message says why."""


class LaunchUnknown(Exception):
    """The supervisor has the plan and did not answer: the model may run or not."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What a shim needs to know. It travels through a pipe: `env` may hold secrets, and neither the disk nor the list
    of processes must show them."""

    argv: list[str]
    env: dict[str, str]
    memory_bytes: int
    stop_grace_s: float
    lease: str
    lease_grace_s: float
    now_ns: int = 0


def launch(python: str, directory: Path, plan: Plan, now: Callable[[], int]) -> None:
    """Return when the model runs and shim.json in `directory` is complete. Raises LaunchFailed, LaunchUnknown, OSError.

    The shim gets an environment of its own with nothing in it that the model must not see.
    """
    descriptor = os.open(directory / "shim.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        process = subprocess.Popen(
            [python, "-I", "-S", str(SHIM), str(directory)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=descriptor,
            cwd=directory,
            env={"PATH": os.defpath},
            start_new_session=True,
        )
    finally:
        os.close(descriptor)
    with process:  # the first process leaves at once: the supervisor is its child, and init's from then on
        assert process.stdin is not None
        assert process.stdout is not None
        if "pid" not in _answer(process.stdout):
            raise LaunchFailed(f"its supervisor did not start{_last_words(directory)}")
        text = json.dumps(asdict(plan) | {"now_ns": now()}).encode() + b"\n"
        try:
            process.stdin.write(text)
            process.stdin.close()
        except BrokenPipeError:
            raise LaunchFailed(f"its supervisor ended early{_last_words(directory)}") from None
        answer = _answer(process.stdout)
    if "error" in answer:
        raise LaunchFailed(f"cannot execute {plan.argv[0]!a}: {clean_line(str(answer['error']))}")
    if "started_ns" not in answer:
        raise LaunchUnknown(f"its supervisor did not say whether the model was started{_last_words(directory)}")


def free_port(avoid: Collection[int]) -> int:
    """A TCP port of this host that nothing listens on now and none of our other workers was given. Raises OSError."""
    for _ in range(PORT_DRAWS):
        with socket.socket() as probe:
            probe.bind((HOST, 0))
            port = int(probe.getsockname()[1])
        if port not in avoid:
            return port
    raise OSError(f"no free port on {HOST} in {PORT_DRAWS} draws")


def _answer(stream: IO[bytes]) -> dict[str, object]:
    """One line of JSON; an empty dict when the supervisor ended or said nothing in time."""
    descriptor = stream.fileno()
    poller = select.poll()
    poller.register(descriptor, select.POLLIN)
    data = b""
    while not data.endswith(b"\n") and len(data) < ANSWER_BYTES_MAX:
        if not poller.poll(ANSWER_TIMEOUT_S * 1000):
            return {}
        part = os.read(descriptor, 4_096)
        if not part:
            return {}
        data += part
    value = json.loads(data)
    return value if isinstance(value, dict) else {}


def _last_words(directory: Path) -> str:
    """The last line of the supervisor's own errors, to end a sentence with."""
    try:
        lines = (directory / "shim.log").read_bytes()[-4_096:].splitlines()
    except OSError:
        return ""
    return f": {clean_line(lines[-1])}" if lines else ""
