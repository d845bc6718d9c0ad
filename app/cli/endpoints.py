"""Creating, changing and removing endpoints."""

from __future__ import annotations

import asyncio
import os
import re
import sys
from collections.abc import Mapping
from typing import Any, Final

import click
from pydantic import ValidationError

from app.cli.exits import CliError, Exit
from app.cli.options import Settings
from app.cli.output import print_fields, print_json, say
from app.cli.question import agreed
from app.cli.session import Session, find_endpoint, talk
from app.client import command_id
from app.format import NOTHING, money, plain, rate_per_hour
from orchestrator.contract.command import (
    Accepted,
    CreateEndpoint,
    DeleteEndpoint,
    DisableEndpoint,
    EnableEndpoint,
    UpdateEndpoint,
)
from orchestrator.contract.endpoint import EndpointChanges, EndpointSpec, ScalingPolicy, Visibility, policy_of
from orchestrator.contract.presets import PRESETS
from orchestrator.contract.query import AskQuote, Quote
from orchestrator.contract.secrets import masked
from orchestrator.contract.snapshot import EndpointState, EndpointView

SETUP: Final = re.compile(r"([0-9]{1,4})-([0-9]{1,4})")
PLAIN_FIELDS: Final = (
    "slug", "model", "gpu_type", "concurrency", "idle_timeout_s", "execution_timeout_s", "queue_timeout_s",
    "queue_limit",
)  # fmt: skip


def create_endpoint(settings: Settings, given: Mapping[str, Any], *, dry_run: bool, wait: bool, wait_s: float) -> None:
    """`gpudeck endpoint create`; `given` are its options by field name, None where absent."""

    async def work(session: Session) -> None:
        # The session comes first: without an orchestrator there is nothing to validate prices against.
        spec = EndpointSpec.model_validate({**spec_fields(given, complete=True), "account": settings.owner})
        offer = await session.ask(AskQuote(spec=spec), Quote)
        if dry_run:
            _print_quote(settings, spec, offer)
            return
        if _priced(offer):
            say(
                f"{spec.slug}: {rate_per_hour(offer.baseline_per_hour_u)} always, at most "
                f"{rate_per_hour(offer.worst_case_per_hour_u)}; balance {money(offer.balance_u)}"
            )
        if offer.refusal is None:
            confirm(settings, f"create {spec.slug} ({spec.setup} × {spec.gpu_type})?")
        accepted = await session.send(CreateEndpoint(id=command_id(), spec=spec))
        await _finish(settings, session, spec.slug, accepted, wait, wait_s)

    talk(work)


def update_endpoint(settings: Settings, slug: str, given: Mapping[str, Any]) -> None:
    """`gpudeck endpoint update`."""
    changed = spec_fields(given, complete=False)
    if not changed:
        raise CliError("nothing to change: give at least one option (`gpudeck endpoint update --help`)", Exit.USAGE)

    async def work(session: Session) -> None:
        view, _ = await session.endpoint(slug)
        await session.demand_own(slug)
        changes = EndpointChanges.model_validate(changed)
        changes.apply(view.spec)  # raises the field and the limit before anything is sent
        accepted = await session.send(UpdateEndpoint(id=command_id(), slug=slug, changes=changes))
        await _finish(settings, session, slug, accepted, False, 0)

    talk(work)


def enable_endpoint(settings: Settings, slug: str, *, wait: bool, wait_s: float) -> None:
    """`gpudeck endpoint enable`."""

    async def work(session: Session) -> None:
        await session.demand_own(slug)
        accepted = await session.send(EnableEndpoint(id=command_id(), slug=slug))
        await _finish(settings, session, slug, accepted, wait, wait_s)

    talk(work)


def disable_endpoint(settings: Settings, slug: str) -> None:
    """`gpudeck endpoint disable`."""

    async def work(session: Session) -> None:
        await session.demand_own(slug)
        accepted = await session.send(DisableEndpoint(id=command_id(), slug=slug))
        await _finish(settings, session, slug, accepted, False, 0)

    talk(work)


def delete_endpoint(settings: Settings, slug: str) -> None:
    """`gpudeck endpoint rm`."""

    async def work(session: Session) -> None:
        await session.endpoint(slug)
        await session.demand_own(slug)
        demand_consent(settings, f"drain and remove {slug}?")
        accepted = await session.send(DeleteEndpoint(id=command_id(), slug=slug))
        if settings.json:
            print_json(accepted)
        else:
            say(accepted.message)

    talk(work)


def confirm(settings: Settings, question: str) -> None:
    """Ask on a terminal; a script that says `create` means it."""
    if settings.yes or not sys.stdin.isatty():
        return
    if not agreed(question, default=True):
        raise CliError("nothing was changed", Exit.FAILURE)


def demand_consent(settings: Settings, question: str) -> None:
    """Ask on a terminal; without one, --yes is the only way."""
    if settings.yes:
        return
    if not sys.stdin.isatty():
        raise CliError("--yes is needed to do this without a terminal", Exit.USAGE)
    if not agreed(question, default=False):
        raise CliError("nothing was changed", Exit.FAILURE)


def spec_fields(given: Mapping[str, Any], *, complete: bool) -> dict[str, Any]:
    """Fields of EndpointSpec or EndpointChanges from options; `complete` demands a setup (baseline and maximum).

    Raises CliError for what the options alone get wrong; values are checked by the contract's models.
    """
    fields: dict[str, Any] = {name: given[name] for name in PLAIN_FIELDS if given.get(name) is not None}
    if complete and fields.get("concurrency") == "default":
        del fields["concurrency"]  # a new endpoint has nothing to go back from
    fields |= _setup(given)
    if complete and not {"baseline", "maximum"} <= fields.keys():
        raise CliError("a setup is needed: --workers 1-2, or --baseline and --max, or --preset", Exit.USAGE)
    if given.get("policy") is not None:
        fields["policy"] = parse_policy(given["policy"])
    if given.get("public") is not None:
        fields["visibility"] = Visibility.PUBLIC if given["public"] else Visibility.PRIVATE
    if given.get("env"):
        fields["env"] = parse_env(given["env"])
    return fields


def _setup(given: Mapping[str, Any]) -> dict[str, int]:
    """Baseline and maximum: --baseline and --max override a preset; --workers stands alone."""
    own = {name: given[name] for name in ("baseline", "maximum") if given.get(name) is not None}
    workers, preset = given.get("workers"), given.get("preset")
    if workers is not None:
        if own or preset:
            raise CliError("--workers already says baseline and maximum: leave out the other options", Exit.USAGE)
        match = SETUP.fullmatch(workers)
        if match is None:
            raise CliError(
                f"--workers: '{workers}' is no setup; write baseline-maximum, such as 1-2 (1 always on, 2 in all)",
                Exit.USAGE,
            )
        return {"baseline": int(match[1]), "maximum": int(match[2])}
    found = {p.name: {"baseline": p.baseline, "maximum": p.maximum} for p in PRESETS}
    return {**(found[preset] if preset else {}), **own}


def parse_policy(text: str) -> ScalingPolicy:
    """Raises CliError for what is no policy, ValidationError for a number beyond its limits."""
    try:
        return policy_of(text)
    except ValidationError:
        raise  # names the limit, in the words of the contract
    except ValueError as error:
        raise CliError(f"--policy: {error}", Exit.USAGE) from error


def parse_env(pairs: tuple[str, ...]) -> dict[str, str]:
    """K=V pairs; the value of a bare K comes from this process's environment. Raises CliError when it is not there, and
    for a name that comes twice."""
    env: dict[str, str] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals:
            if name not in os.environ:
                raise CliError(f"--env: '{pair}' is not K=V, and there is no variable of that name", Exit.USAGE)
            value = os.environ[name]
        if name in env:
            raise CliError(f"--env: {plain(name)} is given twice", Exit.USAGE)
        env[name] = value
    return env


def _priced(offer: Quote) -> bool:
    """Whether its rates are prices: of a GPU type that the book does not know they are zero, and no gift."""
    return offer.refusal_field != "gpu_type" or offer.autoscale_per_hour_each_u > 0


def _print_quote(settings: Settings, spec: EndpointSpec, offer: Quote) -> None:
    if settings.json:
        print_json({"spec": spec.model_copy(update={"env": masked(spec.env)}), "quote": offer})
    else:
        priced = _priced(offer)
        print_fields(
            {
                "endpoint": f"{spec.slug} ({spec.setup} × {spec.gpu_type}, model {spec.model})",
                "baseline": rate_per_hour(offer.baseline_per_hour_u) if priced else NOTHING,
                "each extra worker": rate_per_hour(offer.autoscale_per_hour_each_u) if priced else NOTHING,
                "worst case": rate_per_hour(offer.worst_case_per_hour_u) if priced else NOTHING,
                "balance needed": money(offer.gate_u),
                "balance": money(offer.balance_u),
                "warning below": money(offer.warning_at_u),
                "GPUs": f"{offer.gpus_free} of {offer.gpus_total} free for baselines",
                "admission": "would be accepted" if offer.refusal is None else f"would be refused: {offer.refusal}",
            }
        )
    if offer.refusal is not None:
        raise CliError(offer.refusal, Exit.REFUSED)


async def _finish(
    settings: Settings, session: Session, slug: str, accepted: Accepted, wait: bool, wait_s: float
) -> None:
    say(accepted.message)
    view = await wait_ready(session, slug, wait_s) if wait else (await session.endpoint(slug))[0]
    if settings.json:
        print_json(view)
    elif wait:
        say(f"{slug} is ready")
        click.echo(view.url)
    else:
        click.echo(view.url)


async def wait_ready(session: Session, slug: str, timeout_s: float) -> EndpointView:
    """The endpoint once its baseline is ready. Raises CliError: 1 when it failed, 5 after `timeout_s` seconds."""
    said = ""
    try:
        async with asyncio.timeout(timeout_s):
            async for state in session.client.snapshots():
                view = find_endpoint(state, slug)
                if view.state is EndpointState.SERVING:
                    return view
                if view.state in (EndpointState.FAILED, EndpointState.SUSPENDED):
                    raise CliError(_why(view), Exit.FAILURE, "\n".join(view.problem.log) if view.problem else "")
                if view.state.value != said:
                    said = view.state.value
                    say(f"{slug}: {said}" + (f" ({view.problem.message})" if view.problem else ""))
    except TimeoutError:
        raise CliError(f"{slug} is not ready after {timeout_s:g} s (state {said or 'unknown'})", Exit.TIMEOUT) from None
    raise CliError("the orchestrator ended", Exit.NOT_RUNNING)


def _why(view: EndpointView) -> str:
    problem = view.problem.message if view.problem else "no reason was given"
    return f"{view.spec.slug} is {view.state.value}: {problem}"
