"""Options that every command takes, and the group that loads its commands on use."""

from __future__ import annotations

import importlib
import math
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, TypeVar

import click

from app.format import plain

Format = Literal["table", "json"]
ACCOUNT_VARIABLE = "GPUDECK_ACCOUNT"
DEFAULT_ACCOUNT = "local"
Callback = TypeVar("Callback", bound=Callable[..., Any])


@dataclass
class Settings:
    """What the common options of one invocation add up to; the innermost one given wins."""

    output: Format = "table"
    yes: bool = False
    given: str | None = None
    """--account."""

    @property
    def account(self) -> str | None:
        """Whose things are shown and changed; None, without --account and GPUDECK_ACCOUNT, means everybody's."""
        return self.given or os.environ.get(ACCOUNT_VARIABLE) or None

    @property
    def owner(self) -> str:
        """Whom something new belongs to."""
        return self.account or DEFAULT_ACCOUNT

    @property
    def account_argument(self) -> list[str]:
        """As the orchestrator's own programs take it."""
        return [] if self.account is None else [f"--account={self.account}"]

    @property
    def json(self) -> bool:
        return self.output == "json"


def settings() -> Settings:
    """The settings of the running command."""
    return click.get_current_context().ensure_object(Settings)


def _set_output(context: click.Context, _: click.Parameter, value: Format | None) -> None:
    if value is not None:
        context.ensure_object(Settings).output = value


def _set_account(context: click.Context, _: click.Parameter, value: str | None) -> None:
    if value == "":  # a script's unset variable: taken for "everybody's", it would act for the wrong account
        raise click.BadParameter("is empty; give a name, or leave the option out")
    if value is not None:
        context.ensure_object(Settings).given = value


def _set_yes(context: click.Context, _: click.Parameter, value: bool) -> None:
    if value:
        context.ensure_object(Settings).yes = True


def _set_color(context: click.Context, _: click.Parameter, value: bool) -> None:
    if value:
        context.color = False


def common(command: Callback) -> Callback:
    """Add `-o/--output`, `--account`, `--no-color` and `--yes`. They may stand before or after the command's name."""
    options = (
        click.option(
            "-o", "--output", type=click.Choice(["table", "json"]), callback=_set_output, expose_value=False,
            help="Format of the data on stdout.",
        ),
        click.option(
            "--account", metavar="NAME", callback=_set_account, expose_value=False,
            help="Act for this account; else GPUDECK_ACCOUNT, else local (and look at all).",
        ),
        click.option("--no-color", is_flag=True, callback=_set_color, expose_value=False, help="No colours."),
        click.option("-y", "--yes", is_flag=True, callback=_set_yes, expose_value=False, help="Do not ask."),
    )  # fmt: skip
    for option in reversed(options):
        command = option(command)
    return command


class WholeOrDefault(click.ParamType[int | str]):
    """A whole number, or the word `default`."""

    name = "number|default"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int | Literal["default"]:
        if value == "default":
            return "default"
        try:
            return int(value)
        except ValueError:
            self.fail(f"'{plain(str(value))}' is neither a whole number nor the word default", param, ctx)


class Within(click.FloatRange):
    """A number between two bounds. NaN is none: it is neither below the one nor above the other."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        number: float = super().convert(value, param, ctx)
        if math.isnan(number):
            self.fail(f"'{plain(str(value))}' is no number", param, ctx)
        return number


class Lazy(NamedTuple):
    """Where a command is declared (`module:attribute`) and its line in the list of commands."""

    target: str
    summary: str


class LazyGroup(click.Group):
    """A group whose list of commands is known without importing them."""

    def __init__(self, *args: Any, lazy: Mapping[str, Lazy], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.lazy = lazy

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.lazy)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        entry = self.lazy.get(cmd_name)
        if entry is None:
            return None
        module, _, attribute = entry.target.partition(":")
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, entry.summary) for name, entry in self.lazy.items()])

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        try:
            return super().resolve_command(ctx, args)
        except click.NoSuchCommand as error:
            from difflib import get_close_matches

            near = get_close_matches(args[0], self.lazy, n=1)
            hint = f"did you mean '{near[0]}'?" if near else "`gpudeck --help` lists the commands"
            raise click.UsageError(f"there is no command '{args[0]}'; {hint}", ctx) from error


def complete_slug(context: click.Context, _: click.Parameter, incomplete: str) -> list[str]:
    """Slugs of the running orchestrator's endpoints; none when it does not answer at once."""
    from app.cli.completion import slugs

    return [slug for slug in slugs() if slug.startswith(incomplete)]
