"""`gpudeck fault`: break a worker on purpose, and tell what the orchestrator makes of it."""

from __future__ import annotations

import asyncio
from typing import Any, Final

from app.cli.exits import CliError, Exit
from app.cli.options import Settings
from app.cli.output import print_json, print_lines, say
from app.cli.session import Session, talk
from app.client import command_id
from app.format import duration
from app.present.faults import account
from app.present.recovery import Recovery, Step, follow
from orchestrator.contract.faults import FaultKind, InjectFault

LOOK_S: Final = 0.1


def inject_fault(settings: Settings, slug: str, fault: str, *, worker: str | None, wait_s: float) -> None:
    """Return when the endpoint has recovered. Raises CliError: refused, not done, or not healed in `wait_s` seconds."""

    async def work(session: Session) -> None:
        await session.endpoint(slug)
        await session.demand_own(slug)
        before = max((event.seq for event in (await session.everything()).events), default=0)
        command = InjectFault(id=command_id(), slug=slug, fault=FaultKind(fault), worker=worker)
        accepted = await session.send(command)
        say(accepted.message)
        if wait_s <= 0:
            if settings.json:
                print_json(accepted)
            return
        _show(settings, await _watch(session, slug, before, wait_s, aloud=not settings.json))

    talk(work)


async def _watch(session: Session, slug: str, since_seq: int, wait_s: float, *, aloud: bool) -> Recovery:
    """The recovery, when it is over; with `aloud` each step is said as it is seen."""
    said: set[str] = set()
    told: tuple[Recovery, ...] = ()
    try:
        async with asyncio.timeout(wait_s):
            while not told or not told[0].over:
                told = follow(told, await session.everything(), slug, since_seq)
                for step in told[0].steps if told and aloud else ():
                    if step.at_ns is not None and step.name not in said:
                        said.add(step.name)
                        print_lines([_line(step, told[0].at_ns)])
                await asyncio.sleep(LOOK_S)
    except TimeoutError:
        raise CliError(
            f"{slug} has not recovered within {wait_s:g} s; `gpudeck why {slug}` may say why", Exit.TIMEOUT
        ) from None
    return told[0]


def _show(settings: Settings, told: Recovery) -> None:
    if told.failure is not None:
        raise CliError(f"the fault was not done: {told.failure}")
    if settings.json:
        print_json(_document(told))
        return
    assert told.ready_ns is not None
    say(f"healed in {duration(told.ready_ns - told.at_ns)}; {account(told)}")


def _line(step: Step, since_ns: int) -> str:
    return f"{'+' + duration(step.at_ns - since_ns):>10}  {step.name:<16}{step.note}" if step.at_ns is not None else ""


def _document(told: Recovery) -> dict[str, Any]:
    return {
        "fault": told.fault,
        "worker": told.worker_id,
        "at_ns": told.at_ns,
        "steps": [{"name": step.name, "at_ns": step.at_ns, "note": step.note} for step in told.steps],
        "billed_u": told.billed_u,
        "absorbed_u": told.absorbed_u,
        "served": told.served,
        "failed": told.failed,
    }
