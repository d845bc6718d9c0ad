"""`gpudeck why`: the decision journal of an endpoint."""

from __future__ import annotations

from typing import Any, Final

from app.cli.exits import CliError, Exit
from app.cli.ledger import DATE, parse_instant
from app.cli.options import Settings
from app.cli.output import Column, print_json, print_table, say
from app.cli.reports import run_program
from app.cli.session import Session, complete, here
from app.client import NotRunning, SocketClient
from app.present.amounts import instant
from app.present.decisions import sentence
from app.reporting import STUDY
from orchestrator.contract.decision import AskDecisions, DecisionLine, Decisions

READ_S: Final = 60.0
MILLISECOND_NS: Final = 1_000_000


def show_why(settings: Settings, slug: str, *, at: str | None, last: int, replay: bool) -> None:
    """Raises CliError for an unknown endpoint, a time that is none, or with `replay` a decision that is not the same
    again."""
    found = _ask(settings, slug, at=at, last=last, replay=replay)
    if settings.json:
        print_json(found)
    elif not found.lines:
        say(f"no decision about {slug} is recorded{' up to then' if at else ' yet'}")
    else:
        columns = [Column("TIME (UTC)"), Column("WANTS", right=True), Column("LIVE", right=True), Column("RULE")]
        columns += [Column("REPLAYED", state=True)] if replay else []
        print_table([*columns, Column("WHY")], [_row(line, replay=replay) for line in found.lines])
        if replay and any(line.same is None for line in found.lines):
            say("–: no policy decided it, its inputs are kept no longer, or the rules have changed since")
    differing = sum(line.same is False for line in found.lines)
    if differing:
        raise CliError(f"{differing} of {len(found.lines)} decisions are not the same when asked again")


def _ask(settings: Settings, slug: str, *, at: str | None, last: int, replay: bool) -> Decisions:
    """From the running orchestrator, else from its files."""

    async def running() -> Decisions | None:
        client = SocketClient(here().socket_file)
        try:
            await client.hello()
            session = Session(client, settings.account)
            now_ns = 0
            if at is not None and not DATE.fullmatch(at):
                now_ns = (await session.everything()).taken_at_ns
            until_ns = None if at is None else _up_to(at, now_ns)
            query = AskDecisions(slug=slug, until_ns=until_ns, last=last, replay=replay)
            found = await session.ask(query, Decisions)
            if settings.account is not None or not found.lines:
                await session.endpoint(slug)
            return found
        except NotRunning:
            return None
        finally:
            await client.aclose()

    found = complete(running)
    if found is not None:
        return found
    arguments = ["why", slug, f"--last={last}", *settings.account_argument, *(["--replay"] if replay else [])]
    if at is not None:
        if not DATE.fullmatch(at):
            raise CliError("--at: gpudeck is not running, so give a date: 2026-03-01T12:00 (UTC)", Exit.USAGE)
        arguments.append(f"--until-ns={_up_to(at, 0)}")
    document: dict[str, Any] = run_program(arguments, READ_S, STUDY)
    return Decisions.model_validate(document)


def _up_to(at: str, now_ns: int) -> int:
    """The end of that millisecond: a time that is copied from the table means the line that it stands in, too."""
    return parse_instant("--at", at, now_ns) + MILLISECOND_NS - 1


def _row(line: DecisionLine, *, replay: bool) -> list[str]:
    wants = f"{line.desired}" if line.before in (None, line.desired) else f"{line.before} → {line.desired}"
    rule = line.rule if line.obstacle in (None, line.rule) else f"{line.rule}, {line.obstacle}"
    same = {True: "same", False: "differs", None: "–"}[line.same]
    return [instant(line.at_ns), wants, str(line.live), rule, *([same] if replay else []), sentence(line)]
