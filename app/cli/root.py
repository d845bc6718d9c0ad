"""`gpudeck`: the root command."""

from __future__ import annotations

import io
import os
import sys
from typing import Final, NoReturn

import click

from app.cli.exits import CliError, Exit
from app.cli.options import Lazy, LazyGroup, common
from app.cli.terminal import NO_SCREEN, shortcoming
from app.format import plain

COMMANDS: Final = {
    "demo": Lazy("app.cli.commands.demo:demo", "A tour with real requests, on a private orchestrator."),
    "up": Lazy("app.cli.commands.daemon:up", "Start the orchestrator in the background."),
    "down": Lazy("app.cli.commands.daemon:down", "Stop the orchestrator."),
    "status": Lazy("app.cli.commands.look:status", "Endpoints, GPUs and money at a glance."),
    "ps": Lazy("app.cli.commands.look:ps", "The workers of every endpoint."),
    "endpoint": Lazy("app.cli.commands.endpoint:endpoint", "Create, change and list endpoints."),
    "call": Lazy("app.cli.commands.request:call", "Send one request to an endpoint."),
    "loadtest": Lazy("app.cli.commands.loadtest:loadtest", "Traffic on an endpoint, and a setup to try."),
    "requests": Lazy("app.cli.commands.deferred:requests", "Asynchronous calls: list, show, cancel."),
    "key": Lazy("app.cli.commands.money:key", "API keys."),
    "account": Lazy("app.cli.commands.money:account", "Accounts and their credit."),
    "mail": Lazy("app.cli.commands.money:mail", "The mails that warn of low credit."),
    "bill": Lazy("app.cli.commands.ledger:bill", "What was charged; statements; other price books."),
    "ledger": Lazy("app.cli.commands.ledger:ledger", "Read, check, copy and restore the ledger."),
    "logs": Lazy("app.cli.commands.look:logs", "Log lines of an endpoint's workers."),
    "why": Lazy("app.cli.commands.advice:why", "Why an endpoint has the workers it has."),
    "whatif": Lazy("app.cli.commands.advice:whatif", "An endpoint's own traffic under other settings."),
    "plan": Lazy("app.cli.commands.advice:plan", "How many workers some traffic needs, and their price."),
    "fault": Lazy("app.cli.commands.fault:fault", "Break a worker on purpose, and watch it heal."),
    "models": Lazy("app.cli.commands.look:models", "The model catalogue."),
    "gpus": Lazy("app.cli.commands.look:gpus", "The GPUs of this host and who uses them."),
    "sim": Lazy("app.cli.commands.sim:sim", "Traffic through the core in virtual time."),
    "web": Lazy("app.cli.commands.web:web", "The dashboard in a browser, on this host."),
    "bench": Lazy("app.cli.bench:bench", "Measurements beside other programs."),
    "doctor": Lazy("app.cli.commands.daemon:doctor", "Check what this host offers."),
    "config": Lazy("app.cli.commands.daemon:config", "The settings in force."),
    "version": Lazy("app.cli.commands.daemon:version", "Versions of this program and of what runs."),
    "completion": Lazy("app.cli.commands.daemon:completion", "Shell completion for bash, zsh or fish."),
}


@click.group(
    cls=LazyGroup,
    lazy=COMMANDS,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 80},
)
@common
@click.pass_context
def cli(context: click.Context) -> None:
    """Dedicated GPU endpoints on this machine.

    Without a command it opens the dashboard, starting the orchestrator when
    none runs. Data goes to stdout, everything else to stderr.

    Settings are in config.toml, your own keys of the dashboard in keys.toml
    beside it (open_playground = "P"); `gpudeck config show` says where.

    \b
    Examples:
      gpudeck                                    open the dashboard
      gpudeck demo                               a tour, nothing to set up
      gpudeck up --gpus L40:2                    start with declared GPUs
      gpudeck endpoint create sketch --model sketch --gpu L40 --workers 1-2
      gpudeck call sketch --image cat.jpg --out cat.png

    \b
    Exit codes: 0 ok, 1 failure, 2 usage, 3 not found, 4 refused (credit,
    GPU, limit, state), 5 timeout, 69 not running, 75 locked by another
    orchestrator, 78 configuration, 130 interrupted.
    """
    if os.environ.get("NO_COLOR") or os.environ.get("TERM") in NO_SCREEN:
        context.color = False
    if context.invoked_subcommand is not None:
        return
    if (missing := shortcoming()) is not None:
        raise CliError(
            f"the dashboard needs a terminal: {missing}",
            Exit.USAGE,
            "In a script use `gpudeck status`, or -o json for data.",
        )
    from app.cli.dashboard import open_dashboard

    open_dashboard()


def run() -> NoReturn:
    """Run the command line and end the process with its exit code."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a locale without "–" is no reason to say nothing at all
            stream.reconfigure(errors="replace")
    try:
        code = cli.main(prog_name="gpudeck", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        code = error.exit_code
    except click.Abort:
        click.echo("gpudeck: interrupted", err=True)
        code = Exit.INTERRUPTED
    except BrokenPipeError:
        # The reader (`| head`) has gone. Python flushes stdout once more at exit, which would fail again, loudly.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = Exit.FAILURE
    except OSError as error:
        # Output to a full disk, a home that cannot be written. What is left of the output fails again at exit.
        click.echo(f"gpudeck: {plain(str(error) or type(error).__name__)}", err=True)
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = Exit.FAILURE
    sys.exit(int(code) if isinstance(code, int) else 0)
