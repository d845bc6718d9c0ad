"""`gpudeck loadtest`: the same engine as the screen, with a line of progress on stderr and the result on stdout."""

from __future__ import annotations

import asyncio
import sys
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from app.cli.exits import CliError, Exit
from app.cli.options import Settings
from app.cli.output import print_json, print_lines, say
from app.cli.session import Session, find_endpoint, here, talk
from app.client import command_id
from app.format import count, money
from app.loadtest import shapes
from app.loadtest.job import Job, LoadFailed, conduct
from app.loadtest.outcome import Archive, Course, Outcome, concluded
from app.loadtest.sample import job_of, sample_call
from app.loadtest.shapes import BadShape, Shape
from app.present import loadtest as rows
from app.present.playground import Unsendable
from app.present.text import text
from orchestrator.contract.command import CreateKey, RevokeKey
from orchestrator.contract.endpoint import notation
from orchestrator.contract.snapshot import EndpointView

KEY_SPARE_S: Final = 3_600
ROOM: Final = 100


@dataclass(frozen=True, slots=True)
class Wanted:
    """The options as given."""

    slug: str
    shape: str
    rpm: float
    to: float | None
    seconds: float
    file: str | None
    body: str | None
    keep: bool


def run_test(settings: Settings, wanted: Wanted) -> None:
    """Raises CliError for options that make no test, and with 1 when a request failed."""
    try:
        shape = _shape(wanted)
    except BadShape as error:
        raise CliError(f"--{error.field}: {error}", Exit.USAGE) from error
    archive = Archive(here().loadtests_dir / wanted.slug)
    outcome = talk(lambda session: _conduct(session, wanted, shape))
    earlier = archive.load()
    if wanted.keep:
        try:
            archive.save(outcome)
        except OSError as error:
            raise CliError(f"the result cannot be saved in {archive.directory}: {error.strerror}") from error
    _report(settings, outcome, earlier)
    if outcome.failed:
        raise CliError(f"{count(outcome.failed)} of {count(outcome.sent)} requests failed")


def show_tests(settings: Settings, slug: str) -> None:
    """The saved tests of an endpoint, newest first."""
    found = Archive(here().loadtests_dir / slug).load()
    if settings.json:
        print_json([asdict(outcome) for outcome in found])
    elif not found:
        say(f"no load test of '{slug}' has been saved")
    else:
        print_lines(text(line) for line in rows.earlier_rows(found, -1, ROOM))


def _shape(wanted: Wanted) -> Shape:
    instants: list[float] = []
    if wanted.file is not None:
        try:
            instants = shapes.read_instants(wanted.file, Path(wanted.file).read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError) as error:
            raise CliError(f"--file: cannot read {wanted.file}: {error}", Exit.USAGE) from error
    to_rpm = wanted.rpm if wanted.to is None else wanted.to
    return shapes.checked(wanted.shape, wanted.rpm, to_rpm, wanted.seconds, instants)


async def _conduct(session: Session, wanted: Wanted, shape: Shape) -> Outcome:
    view, state = await session.endpoint(wanted.slug)
    kind = next((model.kind for model in state.models if model.name == view.spec.model), "service")
    try:
        job = job_of(sample_call(kind, wanted.body, view, state.gateway_url), shape)
    except Unsendable as error:
        raise CliError(f"--body: {error}", Exit.USAGE) from error
    ttl_s = int(shape.seconds) + KEY_SPARE_S
    made = await session.send(
        CreateKey(id=command_id(), account=view.spec.account, name="load test", ttl_s=ttl_s, endpoints=(wanted.slug,))
    )
    if made.secret is None or made.key_id is None:
        raise CliError("the answer with the key was lost; try again")
    say(f"{shape.words}: {count(len(job.due))} requests to {view.url}")
    try:
        return await _watched(session, view, job, made.secret, shape, state.taken_at_ns)
    finally:
        await session.send(RevokeKey(id=command_id(), key_id=made.key_id))


async def _watched(session: Session, view: EndpointView, job: Job, key: str, shape: Shape, started_ns: int) -> Outcome:
    course = Course(shape)
    newest = view
    live = sys.stderr.isatty()

    async def follow() -> None:
        nonlocal newest
        async for snapshot in session.client.snapshots():
            newest = find_endpoint(snapshot, view.spec.slug)

    def tick(at_s: float) -> None:
        if live:
            good = sum(reply.ok for reply in course.replies)
            parts = f"{at_s:5.0f} s  {good} served  {len(course.replies) - good} failed  {money(course.cost_u)}"
            sys.stderr.write(f"\r{parts}\x1b[K")
            sys.stderr.flush()

    following = asyncio.create_task(follow())
    try:
        await conduct(job, key, course, lambda: newest, tick)
    except LoadFailed as failure:
        raise CliError(f"the load generator failed: {failure}") from failure
    finally:
        following.cancel()
        with suppress(asyncio.CancelledError):
            await following
        if live:
            sys.stderr.write("\r\x1b[K")
    return concluded(course, newest, notation(newest.spec.policy), started_ns)


def _report(settings: Settings, outcome: Outcome, earlier: list[Outcome]) -> None:
    before = next((each for each in earlier if each.shape == outcome.shape), None)
    if settings.json:
        print_json({**asdict(outcome), "before": asdict(before) if before else None})
        return
    lines = rows.outcome_rows(outcome, outcome.setup, ROOM)
    if before is not None:
        lines += [(), *rows.comparison_rows(before, outcome, ROOM)]
    print_lines(text(line) for line in lines)
