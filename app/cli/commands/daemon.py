"""Commands about the orchestrator itself."""

from __future__ import annotations

import click

from app.cli.options import Within, common, settings


@click.command()
@click.option("--engine", type=click.Choice(["auto", "docker", "process"]),
              help="Where workers run: containers or local processes [default: auto].")  # fmt: skip
@click.option("--gpus", metavar="TYPE:N,..", help="Declare GPUs (simulated) instead of probing, as L40:2,H100:1.")
@click.option("--port", type=click.IntRange(0, 65_535), metavar="N",
              help="Port of the gateway on 127.0.0.1; 0 lets the system choose.")  # fmt: skip
@click.option("--timeout", type=Within(0, 86_400), default=60.0, show_default=True, metavar="S",
              help="Seconds to wait until it answers.")  # fmt: skip
@common
def up(engine: str | None, gpus: str | None, port: int | None, timeout: float) -> None:
    """Start the orchestrator in the background, or say that it runs.

    It outlives this terminal. `gpudeck down` stops it.

    \b
    Examples:
      gpudeck up
      gpudeck up --engine process --gpus L40:2
    """
    from app.cli.lifecycle import start

    start(settings(), engine=engine, gpus=gpus, port=port, timeout_s=timeout)


@click.command()
@click.option("--drain", is_flag=True, help="Finish requests, stop every worker, close the bill.")
@click.option("--leave", is_flag=True, help="Stop only the orchestrator; workers go on, and cost.")
@click.option("--timeout", type=Within(0, 86_400), default=120.0, show_default=True, metavar="S",
              help="Seconds to wait for the end.")  # fmt: skip
@common
def down(drain: bool, leave: bool, timeout: float) -> None:
    """Stop the orchestrator; without a flag it drains.

    With --leave the workers keep running and billing until the next
    `gpudeck up` adopts them.

    \b
    Examples:
      gpudeck down
      gpudeck down --leave --yes
    """
    if drain and leave:
        raise click.UsageError("give one of --drain and --leave")
    from app.cli.lifecycle import stop

    stop(settings(), mode="leave" if leave else "drain", timeout_s=timeout)


@click.command()
@common
def doctor() -> None:
    """Check engine, GPUs, directories and settings of this host.

    Starts nothing; exit code 1 when a check failed.

    \b
    Example:
      gpudeck doctor -o json
    """
    from app.cli.reports import show_doctor

    show_doctor(settings())


@click.group()
@common
def config() -> None:
    """The settings in force.

    \b
    Example:
      gpudeck config show
    """


@config.command("show")
@common
def config_show() -> None:
    """Every setting, its value and where that came from.

    \b
    Example:
      gpudeck config show -o json
    """
    from app.cli.reports import show_config

    show_config(settings())


@click.command()
@common
def version() -> None:
    """The version of this program and of the orchestrator that runs.

    \b
    Example:
      gpudeck version -o json
    """
    from app.cli.reports import show_version

    show_version(settings())


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@common
def completion(shell: str) -> None:
    """Print the completion script for SHELL.

    \b
    Examples:
      gpudeck completion bash >> ~/.bashrc
      gpudeck completion zsh > ~/.zfunc/_gpudeck
      gpudeck completion fish > ~/.config/fish/completions/gpudeck.fish
    """
    from app.cli.completion import script

    click.echo(script(click.get_current_context().find_root().command, shell))
