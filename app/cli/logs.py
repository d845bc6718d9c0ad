"""`gpudeck logs`."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Final

import click

from app.cli.options import Settings
from app.cli.output import print_json, say
from app.cli.session import Session, talk
from app.format import plain
from orchestrator.contract.query import AskLogs, LogLines, Logs

POLL_S: Final = 0.5
FOLLOW_TAIL: Final = 1_000
"""Lines asked for while following; a worker that writes more than this in half a second is shown with a gap."""


def show_logs(settings: Settings, slug: str, worker: str | None, *, follow: bool, tail: int) -> None:
    """Print log lines; with `follow` until interrupted or the endpoint is gone, as JSON one object a line."""

    async def work(session: Session) -> None:
        found = await session.ask(AskLogs(slug=slug, worker=worker, tail=tail), Logs)
        if settings.json and not follow:
            print_json(list(found.workers))
            return
        if not found.workers:
            say(f"{slug} has no workers with logs")
        several = worker is None
        seen: dict[str, Sequence[str]] = {}
        show = _as_json if settings.json else _as_text if several else _bare
        _print_new(found, seen, show)
        while follow:
            await asyncio.sleep(POLL_S)
            _print_new(await session.ask(AskLogs(slug=slug, worker=worker, tail=FOLLOW_TAIL), Logs), seen, show)

    talk(work)


def _as_json(entry: LogLines, line: str) -> str:
    return json.dumps({"worker_id": entry.worker_id, "label": entry.label, "line": line}, ensure_ascii=False)


def _as_text(entry: LogLines, line: str) -> str:
    return f"{entry.label} | {plain(line)}"


def _bare(_: LogLines, line: str) -> str:
    return plain(line)


def _print_new(found: Logs, seen: dict[str, Sequence[str]], show: Callable[[LogLines, str], str]) -> None:
    for entry in found.workers:
        for line in new_lines(seen.get(entry.worker_id, ()), entry.lines):
            click.echo(show(entry, line))
        seen[entry.worker_id] = entry.lines
    forget_absent(seen, {entry.worker_id: entry.lines for entry in found.workers})


def forget_absent(seen: dict[str, Sequence[str]], present: Mapping[str, object]) -> None:
    """Drop workers that are gone, so that following a busy endpoint for days does not grow without end."""
    for worker_id in [each for each in seen if each not in present]:
        del seen[worker_id]


def new_lines(old: Sequence[str], new: Sequence[str]) -> Sequence[str]:
    """The lines of `new` that follow the last ones of `old`: `old` ends with the longest beginning of `new`.

    Both are tails of one growing log, `new` the later one. Without an overlap all of `new` is new.
    """
    if not old:
        return new
    if len(new) >= len(old) and tuple(new[: len(old)]) == tuple(old):
        return new[len(old) :]
    # `new` may reach further back than `old` (a longer tail) or less far (the tail moved on): look for the place in
    # `new` where `old` ends, the latest first.
    for end in range(len(new), 0, -1):
        size = min(end, len(old))
        if tuple(new[end - size : end]) == tuple(old[len(old) - size :]):
            return new[end:]
    return new
