"""`gpudeck loadtest`."""

from __future__ import annotations

import click

from app.cli.options import common, complete_slug, settings


@click.command()
@click.argument("slug", shell_complete=complete_slug)
@click.option("--shape", type=click.Choice(["constant", "ramp", "spike", "recorded"]), default="ramp",
              show_default=True, help="How the rate goes.")  # fmt: skip
@click.option("--rpm", type=float, default=20.0, show_default=True, help="Requests a minute, at the start.")
@click.option("--to", type=float, help="End of a ramp, peak of a spike; five times --rpm without it.")
@click.option("--seconds", type=float, default=60.0, show_default=True, help="How long.")
@click.option("--file", metavar="FILE", type=click.Path(dir_okay=False),
              help="Arrival times in seconds, one a line: implies --shape recorded.")  # fmt: skip
@click.option("--body", metavar="TEXT",
              help="JSON, the prompt, or the query of a picture, by the kind of model.")  # fmt: skip
@click.option("--no-save", is_flag=True, help="Do not keep the result.")
@click.option("--list", "listing", is_flag=True, help="Show the saved results instead.")
@common
def loadtest(
    slug: str, shape: str, rpm: float, to: float | None, seconds: float, file: str | None, body: str | None,
    no_save: bool, listing: bool,
) -> None:  # fmt: skip
    """Send SLUG traffic and say what came of it.

    Requests leave on time whatever the answers do. The result has rates,
    percentiles, workers, what it cost, the difference to the last test of the
    same shape, and the setup b-m that the offered rates need.

    Exit code 0 only if every request succeeded.

    \b
    Examples:
      gpudeck loadtest sketch --rpm 20 --to 100 --seconds 120
      gpudeck loadtest sketch --shape spike --rpm 10 --to 200 -o json
      gpudeck loadtest sketch --file arrivals.csv
      gpudeck loadtest sketch --list
    """
    from app.cli.loadtest import Wanted, run_test, show_tests

    if listing:
        show_tests(settings(), slug)
        return
    kind = "recorded" if file else shape
    peak = rpm * 5 if to is None and kind in ("ramp", "spike") else to
    run_test(settings(), Wanted(slug, kind, rpm, peak, seconds, file, body, keep=not no_save))
