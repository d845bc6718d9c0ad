"""Asynchronous calls: hand one in, list, show, fetch, cancel; the secret of webhooks."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Final

import click
import httpx

from app.calling import PROBLEM_TYPE, CallFailed, Outgoing, calling
from app.cli.exits import CliError, Exit
from app.cli.options import Settings
from app.cli.output import Column, print_fields, print_json, print_table, say
from app.cli.requests import FAILURE_EXITS, Call, prepare, raise_problem, short_lived_key, show_reply
from app.cli.session import Session, talk
from app.client import command_id
from app.format import age, clock, duration, plain
from orchestrator.contract.deferred import (
    REQUEST_ID_PATTERN,
    AskRequest,
    AskRequests,
    CancelRequest,
    RequestList,
    RequestShown,
    RequestState,
    RequestView,
    RotateWebhookSecret,
)

RESULT_TIMEOUT_S: Final = 1_200.0
_DASH: Final = "–"


def submit_request(settings: Settings, call: Call, webhook: str | None, attempts: int | None) -> None:
    """`gpudeck call --async`: the id alone on stdout. Raises CliError as a live call does."""
    request = prepare(call)
    if call.out:
        raise CliError("--out: an asynchronous call has no reply yet; `gpudeck requests result ID --out`", Exit.USAGE)
    if request.method != "POST":
        raise CliError(f"--method: an asynchronous call is a POST, not {request.method}", Exit.USAGE)
    if call.path and not call.path.startswith("/"):
        raise CliError(f"--path: '{call.path}' must start with /", Exit.USAGE)
    headers = dict(request.headers)
    if webhook is not None:
        if not (webhook.isascii() and webhook.isprintable()):
            raise CliError(f"--webhook: '{plain(webhook)}' is no URL", Exit.USAGE)
        headers["x-webhook-url"] = webhook
    if attempts is not None:
        headers["x-max-attempts"] = str(attempts)

    async def work(session: Session) -> None:
        view, _ = await session.endpoint(call.slug)
        key = call.key or await short_lived_key(session, view.spec.account)
        url = view.url.replace("/v1/", "/v2/", 1) + call.path
        async with _reply(replace(request, url=url, headers=headers), key, call.timeout) as (response, _started):
            if response.status_code != 202:
                await raise_problem(settings, response)
            told = json.loads(await response.aread())
        if settings.json:
            print_json(told)
        else:
            say(plain(f"{told['state']} · position {told.get('position', _DASH)} · {told['poll_url']}"))
            click.echo(told["request_id"])

    talk(work)


def list_requests(settings: Settings, slug: str | None, states: tuple[str, ...], limit: int) -> None:
    """`gpudeck requests ls`."""
    wanted = tuple(RequestState(state.upper()) for state in states)

    async def work(session: Session) -> tuple[RequestList, int]:
        if slug is not None:
            await session.endpoint(slug)  # a misspelt slug is an error, not an empty list
        state = await session.everything()
        query = AskRequests(account=session.account, slug=slug, states=wanted, limit=limit)
        return await session.ask(query, RequestList), state.taken_at_ns

    found, now_ns = talk(work)
    if settings.json:
        print_json(found)
        return
    if not found.requests:
        narrowed = " in that state" if states else f" of {slug}" if slug else ""
        say(f"no asynchronous calls{narrowed}: `gpudeck call {slug or 'SLUG'} --async` makes one")
        return
    columns = (
        Column("ID"), Column("ENDPOINT"), Column("STATE"), Column("ACCEPTED"), Column("QUEUED", right=True),
        Column("RAN", right=True), Column("TRIES", right=True), Column("NOTE"),
    )  # fmt: skip
    print_table(columns, [_row(view, now_ns) for view in found.requests])
    say(" · ".join(f"{count} {state.lower()}" for state, count in found.counts.items()))


def show_request(settings: Settings, request_id: str) -> None:
    """`gpudeck requests show`."""
    view = talk(lambda session: _find(session, request_id))
    if settings.json:
        print_json(view)
        return
    fields = {
        "id": view.request_id,
        "endpoint": f"{view.endpoint} (account {view.account}, key {view.key_id})",
        "state": view.state.value + (f", position {view.position}" if view.position else ""),
        "why": view.reason,
        "accepted": clock(view.accepted_ns),
        "queued": _span(view.accepted_ns, view.started_ns),
        "ran": _span(view.started_ns, view.ended_ns),
        "attempts": f"{view.attempts} of {view.attempts_max}",
        "worker": view.worker_id and f"{view.worker_id}, HTTP {view.worker_status}",
        "bytes": f"{view.body_bytes:,} in, {view.result_bytes:,} out",
        "kept until": view.purged_ns and clock(view.purged_ns),
        "webhook": view.webhook and _hook(view),
    }
    print_fields({name: str(value) for name, value in fields.items() if value})


def fetch_result(settings: Settings, request_id: str, out: str | None, key: str | None) -> None:
    """`gpudeck requests result`: the reply on stdout or in a file, as of a live call."""

    async def work(session: Session) -> None:
        view = await _find(session, request_id)
        secret = key or await short_lived_key(session, view.account)
        url = f"{(await session.everything()).gateway_url}/v2/requests/{view.request_id}/result"
        async with _reply(Outgoing("GET", url), secret, RESULT_TIMEOUT_S) as (response, started):
            kind = response.headers.get("content-type", "").partition(";")[0].strip().lower()
            if kind == PROBLEM_TYPE and response.headers.get("x-request-state") is None:
                await raise_problem(settings, response)
            await show_reply(settings, Call(view.endpoint, out=out), response, started)

    talk(work)


def cancel_request(settings: Settings, request_id: str) -> None:
    """`gpudeck requests cancel`."""

    async def work(session: Session) -> str:
        command = CancelRequest(id=command_id(), request_id=_checked(request_id), account=session.account)
        return (await session.send(command)).message

    message = talk(work)
    if settings.json:
        print_json({"request_id": request_id, "message": message})
    else:
        say(plain(message))


def make_secret(settings: Settings) -> None:
    """`gpudeck requests secret`: the secret alone on stdout."""
    account = settings.owner

    async def work(session: Session) -> tuple[str, str]:
        made = await session.send(RotateWebhookSecret(id=command_id(), account=account))
        return made.message, made.secret or ""

    message, secret = talk(work)
    if settings.json:
        print_json({"account": account, "secret": secret})
    else:
        say(plain(f"{message}; this is the only time it is shown"))
        click.echo(secret)


async def _find(session: Session, request_id: str) -> RequestView:
    query = AskRequest(request_id=_checked(request_id), account=session.account)
    return (await session.ask(query, RequestShown)).request


def _checked(request_id: str) -> str:
    if not re.fullmatch(REQUEST_ID_PATTERN, request_id):
        raise CliError(f"ID: '{plain(request_id)}' is no id: 32 characters of 0-9 and a-f", Exit.USAGE)
    return request_id


@asynccontextmanager
async def _reply(outgoing: Outgoing, key: str, timeout_s: float) -> AsyncIterator[tuple[httpx.Response, float]]:
    """`calling`, with its failures as CliErrors."""
    try:
        async with calling(outgoing, key, timeout_s) as answered:
            yield answered
    except CallFailed as failure:
        raise CliError(str(failure), FAILURE_EXITS[failure.reason]) from failure


def _row(view: RequestView, now_ns: int) -> tuple[str, ...]:
    note = view.reason or (f"position {view.position}" if view.position else "")
    if not note and view.worker_status is not None:
        note = f"HTTP {view.worker_status}, {view.result_bytes:,} bytes"
    return (
        view.request_id,
        view.endpoint,
        view.state.value.lower(),
        age(view.accepted_ns, now_ns),
        _span(view.accepted_ns, view.started_ns) or _DASH,
        _span(view.started_ns, view.ended_ns) or _DASH,
        str(view.attempts),
        note,
    )


def _span(since_ns: int | None, until_ns: int | None) -> str | None:
    return None if since_ns is None or until_ns is None else duration(until_ns - since_ns)


def _hook(view: RequestView) -> str:
    hook = view.webhook
    assert hook is not None, "asked for without one"
    problem = f": {hook.problem}" if hook.problem else ""
    return f"{hook.origin}, {hook.state.replace('_', ' ')} after {hook.attempts} attempts{problem}"
