"""A load test in a process of its own: a terminal that repaints must not make requests late, nor the other way round.

The parent writes one job as JSON to the child's stdin and reads replies as JSON lines, as they come.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import signal
import sys
from collections.abc import AsyncGenerator, Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any, Final

from app.loadtest.engine import Reply, Shot, run_load
from app.loadtest.outcome import Course
from orchestrator.contract.snapshot import EndpointView

LINE_BYTES_MAX: Final = 64 * 1024
STOP_S: Final = 2.0
BEGUN: Final = "begun"
ENDED: Final = "ended"
SAMPLE_S: Final = 0.25


class LoadFailed(Exception):
    """The child ended before the test did; the text holds the last it said."""


@dataclass(frozen=True, slots=True)
class Job:
    """What to send and when. `due` in seconds from the start, ascending."""

    url: str
    due: tuple[float, ...]
    body: bytes = b""
    content_type: str = "application/json"
    query: str = ""
    timeout_s: float = 600.0

    def dump(self, key: str) -> bytes:
        """One line. The key travels by stdin, so that it is in no list of processes."""
        fields = {**asdict(self), "body": base64.b64encode(self.body).decode(), "key": key}
        return json.dumps(fields).encode() + b"\n"

    def shots(self) -> list[Shot]:
        return [Shot(at, self.body, self.content_type, self.query) for at in self.due]


def read_job(line: bytes) -> tuple[Job, str]:
    """The job and its key."""
    fields: dict[str, Any] = json.loads(line)
    key = fields.pop("key")
    return Job(**{**fields, "body": base64.b64decode(fields["body"]), "due": tuple(fields["due"])}), key


async def send_all(job: Job, key: str, started: Callable[[], None]) -> AsyncGenerator[Reply, None]:
    """Run the job in a child and yield each reply as it comes. Raises LoadFailed.

    `started` is called when the child begins to count; starting a program takes a while. Closing the iterator ends the
    child, and with it what is in flight.
    """
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "app.loadtest",
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        limit=LINE_BYTES_MAX,
    )  # fmt: skip
    assert child.stdin is not None, "asked for"
    assert child.stdout is not None, "asked for"
    assert child.stderr is not None, "asked for"
    over = False
    try:
        child.stdin.write(job.dump(key))
        child.stdin.close()
        async for line in child.stdout:
            said = json.loads(line)
            if said == BEGUN:
                started()
            elif said == ENDED:
                over = True
            else:
                yield Reply(**said)
        if not over:
            last = _last_line((await child.stderr.read()).decode(errors="replace"))
            raise LoadFailed(last or f"the load generator ended with code {await child.wait()}")
    finally:
        await _ended(child, at_once=not over)


def _last_line(said: str) -> str:
    """The last line of a traceback that says something; those of an exception group are drawn with bars."""
    lines = (line.strip(" |+-") for line in said.splitlines())
    return next((line for line in reversed([*lines]) if line), "")


async def _ended(child: asyncio.subprocess.Process, *, at_once: bool) -> None:
    """Wait for the child, telling it to stop first when it is not wanted any more."""
    # os.kill, for Popen.send_signal reaps a child that has just ended, under the hands of asyncio's watcher.
    if at_once and child.returncode is None:
        with suppress(ProcessLookupError):
            os.kill(child.pid, signal.SIGTERM)
    try:
        await asyncio.wait_for(child.wait(), STOP_S)
    except TimeoutError:
        with suppress(ProcessLookupError):
            os.kill(child.pid, signal.SIGKILL)
        await child.wait()


async def conduct(
    job: Job,
    key: str,
    course: Course,
    endpoint: Callable[[], EndpointView | None],
    tick: Callable[[float], None],
) -> None:
    """Run the job to its end, gathering replies and, four times a second, the state of `endpoint` into `course`.

    `tick` is told the seconds since the start. Cancelling it stops the load. Raises LoadFailed.
    """
    loop = asyncio.get_running_loop()
    begun: asyncio.Future[float] = loop.create_future()

    async def watch() -> None:
        start = await begun
        while True:
            at_s = loop.time() - start
            seen = endpoint()
            if seen is not None:
                course.sample(at_s, seen)
            tick(at_s)
            await asyncio.sleep(SAMPLE_S)

    watching = asyncio.create_task(watch())
    replies = send_all(job, key, lambda: begun.set_result(loop.time()))
    try:
        async for reply in replies:
            course.take(reply)
    finally:
        watching.cancel()
        await replies.aclose()


def serve(line: bytes) -> None:
    """The child: run the job of `line`, write every reply to stdout, between BEGUN and ENDED."""
    job, key = read_job(line)

    def tell(said: object) -> None:
        sys.stdout.write(json.dumps(said) + "\n")
        sys.stdout.flush()

    tell(BEGUN)
    asyncio.run(run_load(job.url, key, job.shots(), timeout_s=job.timeout_s, on_reply=lambda r: tell(asdict(r))))
    tell(ENDED)
