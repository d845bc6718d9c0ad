"""`doctor`, `config show` and `version`: what the orchestrator's own program reports, without starting it."""

from __future__ import annotations

import asyncio
import json
import platform
from collections.abc import Mapping, Sequence
from typing import Any, Final

from app.cli.exits import CliError, Exit
from app.cli.options import Settings
from app.cli.output import Column, print_blank, print_fields, print_json, print_table, say
from app.cli.session import complete, here
from app.client import program_version
from app.present.settings import scalar, settings_rows
from app.reporting import CHECKS, Printed, Request, TookTooLong, last_sentence, printed, sentences
from app.signals import leaving_on_signals
from app.spawn import attach
from orchestrator.contract.base import PROTOCOL_VERSION

REPORT_S: Final = 60.0


def show_doctor(settings: Settings) -> None:
    """Raises CliError with the report's own exit status when a check failed."""
    _report(settings, "doctor")


def show_mail_test(settings: Settings, address: str | None) -> None:
    """Raises CliError when the mail was not taken."""
    _report(settings, "mail-test", *([address] if address is not None else []))


def show_config(settings: Settings) -> None:
    """Raises CliError 78 when the settings file is wrong."""
    _report(settings, "config")


def show_version(settings: Settings) -> None:
    """This program, Python, and the orchestrator when one runs."""

    async def running() -> dict[str, object] | None:
        client = await attach(here())
        if client is None:
            return None
        try:
            hello = await client.hello()
        finally:
            await client.aclose()
        return {"version": hello.version, "pid": hello.pid, "protocol": hello.protocol}

    try:
        orchestrator = complete(running)
    except CliError as error:
        say(f"orchestrator: {error.message}")
        orchestrator = None
    if settings.json:
        print_json(
            {
                "gpudeck": program_version(),
                "protocol": PROTOCOL_VERSION,
                "python": platform.python_version(),
                "orchestrator": orchestrator,
            }
        )
        return
    there = f"{orchestrator['version']} (pid {orchestrator['pid']})" if orchestrator else "not running"
    print_fields({"gpudeck": program_version(), "python": platform.python_version(), "orchestrator": there})


def _report(settings: Settings, name: str, *arguments: str) -> None:
    # The arguments come before the options: argparse takes no positional that stands apart from the verb.
    done = _run(Request(CHECKS, (name, *arguments, "-o", "json"), REPORT_S))
    try:
        document = json.loads(done.document)
    except ValueError as error:
        code = Exit.CONFIGURATION if done.code == Exit.CONFIGURATION else Exit.FAILURE
        for line in sentences(done)[:-1]:
            say(line)
        raise CliError(last_sentence(done), code) from error
    for line in sentences(done):
        say(line)
    if settings.json:
        print_json(document)
    else:
        print_document(document)
    if done.code:
        code = Exit.CONFIGURATION if done.code == Exit.CONFIGURATION else Exit.FAILURE
        failures = {"doctor": "a check failed", "mail-test": "the mail was not sent"}
        raise CliError(failures.get(name, "the settings are not usable"), code)


def run_program(
    arguments: Sequence[str], timeout_s: float, program: str = CHECKS, *, fed: bool = False
) -> dict[str, Any]:
    """Run a program of the orchestrator's with a verb that needs no running orchestrator; the JSON it prints. `fed`: it
    reads our stdin.

    Raises CliError with the last sentence and the status of one that failed, and the command that repeats it where it
    gives one."""
    done = _run(Request(program, tuple(arguments), timeout_s, fed))
    if done.code:
        known = {code.value for code in Exit}
        said = sentences(done)
        repeat = said[-1] if len(said) > 1 and said[-1].startswith("repeat: ") else ""
        message = said[-2].removeprefix("gpudeck: ") if repeat else last_sentence(done)
        raise CliError(message, Exit(done.code) if done.code in known else Exit.FAILURE, repeat)
    document = json.loads(done.document)
    assert isinstance(document, dict), "these verbs print an object"
    return document


def _run(request: Request) -> Printed:
    """Raises CliError 5 when it takes too long."""
    here()  # an unusable GPUDECK_HOME is reported in our words, not in those of a traceback

    async def to_its_end() -> Printed:
        running = asyncio.ensure_future(printed(request))
        with leaving_on_signals(running.cancel):  # else its session would outlive ours
            return await running

    try:
        return complete(to_its_end)
    except TookTooLong as error:
        raise CliError(str(error), Exit.TIMEOUT) from error


def print_document(document: Any) -> None:
    """A JSON document for people: lists of objects as tables, everything else as dotted names and values."""
    if isinstance(document, Mapping):
        document = {name: settings_rows(value) or value for name, value in document.items()}
    if isinstance(document, list):
        _print_list(document)
    elif isinstance(document, Mapping):
        tables = {name: value for name, value in document.items() if is_table(value)}
        flat = flatten({name: value for name, value in document.items() if name not in tables})
        print_fields(flat)
        for name, value in tables.items():
            if flat:
                print_blank()
            if len(tables) > 1:
                print_fields({name: ""})
            _print_list(value)
    else:
        print_fields({"": scalar(document)})


def is_table(value: object) -> bool:
    """Whether `value` is a list of objects."""
    return isinstance(value, list) and bool(value) and all(isinstance(entry, Mapping) for entry in value)


def flatten(document: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Dotted names and their values, in the document's order."""
    pairs: list[tuple[str, str]] = []
    for name, value in document.items():
        if isinstance(value, Mapping) and value:
            pairs.extend(flatten(value, f"{prefix}{name}."))
        else:
            pairs.append((f"{prefix}{name}", scalar(value)))
    return pairs


def _print_list(rows: Sequence[Any]) -> None:
    if not is_table(list(rows)):
        print_fields([("", scalar(row)) for row in rows])
        return
    names = list(dict.fromkeys(name for row in rows for name in row))
    columns = [Column(name.upper().replace("_", " "), state=True) for name in names]
    print_table(columns, [[scalar(row.get(name)) for name in names] for row in rows])
