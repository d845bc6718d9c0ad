"""Starting and stopping the orchestrator."""

from __future__ import annotations

import sys
from typing import Literal

from app.cli.exits import CliError, Exit
from app.cli.options import Settings
from app.cli.output import print_fields, print_json, say
from app.cli.question import agreed
from app.cli.session import Session, complete, here
from app.client import SocketClient
from app.format import rate_per_hour
from app.spawn import StopRefused, attach, ensure_orchestrator, stop_orchestrator
from orchestrator.contract.snapshot import Snapshot, WorkerState


def start(settings: Settings, *, engine: str | None, gpus: str | None, port: int | None, timeout_s: float) -> None:
    """`gpudeck up`."""

    async def work() -> tuple[Snapshot, bool]:
        places = here()
        client = await attach(places)
        started = client is None
        if client is None:
            say("starting the orchestrator …")
            client = await ensure_orchestrator(places, engine=engine, gpus=gpus, port=port, timeout_s=timeout_s)
        try:
            return await Session(client).snapshot(), started
        finally:
            await client.aclose()

    state, started = complete(work)
    given = [name for name, value in (("--engine", engine), ("--gpus", gpus), ("--port", port)) if value is not None]
    if given and not started:
        say(f"gpudeck was already running: {', '.join(given)} had no effect (stop it with `gpudeck down`)")
    if settings.json:
        print_json(
            {
                "started": started,
                "pid": state.pid,
                "gateway_url": state.gateway_url,
                "engine": state.engine,
                "simulated_gpus": state.simulated_gpus,
                "capacity": list(state.capacity),
                "home": state.home,
            }
        )
        return
    print_fields(
        {
            "state": "started" if started else "already running",
            "pid": str(state.pid),
            "gateway": state.gateway_url,
            "engine": engine_text(state),
            "gpus": gpus_text(state),
        }
    )


def stop(settings: Settings, *, mode: Literal["leave", "drain"], timeout_s: float) -> None:
    """`gpudeck down`. Doing it when nothing runs is a success."""

    async def work() -> bool:
        client = await attach(here())
        if client is None:
            return False
        try:
            await _confirm(settings, client, mode)
            await shut_down(client, mode, timeout_s)
        finally:
            await client.aclose()
        return True

    stopped = complete(work)
    if settings.json:
        print_json({"stopped": stopped, "mode": mode if stopped else None})
    elif stopped:
        say("gpudeck is stopped" + ("; its workers run on and are billed" if mode == "leave" else ""))
    else:
        say("gpudeck is not running: nothing to stop")


async def _confirm(settings: Settings, client: SocketClient, mode: str) -> None:
    state = await Session(client).snapshot()
    live = live_workers(state)
    if not live or settings.yes or not sys.stdin.isatty():
        return
    burn = rate_per_hour(sum(account.per_hour_u for account in state.accounts))
    question = f"leave {live} worker(s) running at {burn}?" if mode == "leave" else f"drain and stop {live} worker(s)?"
    if not agreed(question, default=True):
        raise CliError("nothing was stopped", Exit.FAILURE)


async def shut_down(client: SocketClient, mode: Literal["leave", "drain"], timeout_s: float) -> None:
    """Stop the orchestrator and say how it goes. Raises CliError 5 when it takes longer than `timeout_s` seconds."""
    shown = -1

    def on_state(state: Snapshot) -> None:
        nonlocal shown
        live = live_workers(state)
        if live and live != shown and mode == "drain":
            running = sum(view.traffic.running for view in state.endpoints)
            say(f"stopping: {live} worker(s), {running} request(s) in flight")
        shown = live

    try:
        await stop_orchestrator(client, mode, timeout_s=timeout_s, on_state=on_state)
    except StopRefused as error:
        raise CliError(str(error), Exit.REFUSED) from error
    except TimeoutError:
        raise CliError(
            f"the orchestrator is still stopping after {timeout_s:g} s; it goes on by itself", Exit.TIMEOUT
        ) from None


def live_workers(state: Snapshot) -> int:
    """Workers that exist in the engine."""
    ended = (WorkerState.STOPPED, WorkerState.FAILED)
    return sum(worker.state not in ended for view in state.endpoints for worker in view.workers)


def engine_text(state: Snapshot) -> str:
    """Kind and detail of the engine."""
    mark = "" if state.engine.ok else "problem: "
    return f"{state.engine.kind} ({mark}{state.engine.detail})"


def gpus_text(state: Snapshot) -> str:
    """Such as `2 × L40 (SIMULATED)`."""
    types = ", ".join(f"{each.total} × {each.gpu_type}" for each in state.capacity) or "none"
    return f"{types} (SIMULATED)" if state.simulated_gpus else types
