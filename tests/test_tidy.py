"""House rules as tests: every file of the repository keeps them, and every rule is itself tested.

A planted violation must be caught, and its allowed neighbour must pass (the rules are in tests/tidy_rules.py).
"""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.tidy_rules import (
    APP_LINES_MAX,
    FILE_LINES_MAX,
    FUNCTION_LINES_MAX,
    PRODUCT,
    RULES,
    Rule,
    Source,
    files_are_short,
    functions_are_short,
    money_is_never_a_float,
    names_say_what_things_are,
    no_error_is_swallowed,
    no_path_of_a_developer_s_machine,
    no_test_sleeps,
    no_trailing_whitespace,
    nothing_is_left_to_do,
    nothing_prints,
    only_the_clock_reads_the_clock,
    public_modules_say_what_they_are,
    the_app_class_is_short,
)

ROOT = Path(__file__).resolve().parent.parent


def repository() -> list[Source]:
    """Every text file that is or would be committed."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if listed.returncode == 0:
        paths = [path for path in listed.stdout.split("\0") if path]
    else:  # an unpacked source distribution
        paths = [str(p.relative_to(ROOT)) for top in (*PRODUCT, "tests") for p in (ROOT / top).rglob("*.py")]
    sources: list[Source] = []
    for path in sorted(set(paths)):
        file = ROOT / path
        data = file.read_bytes() if file.is_file() else b"\0"
        if b"\0" not in data:
            sources.append(Source(path, data.decode("utf-8")))
    return sources


@pytest.fixture(scope="module")
def sources() -> list[Source]:
    return repository()


def test_the_rules_see_the_product(sources: list[Source]) -> None:
    paths = {source.path for source in sources}
    assert {"orchestrator/clock.py", "orchestrator/core/lane.py", "tests/test_tidy.py", "pyproject.toml"} <= paths


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_house_rule(rule: Rule, sources: list[Source]) -> None:
    broken = [f"{source.path}: {violation}" for source in sources for violation in rule(source)]
    assert not broken, "\n" + "\n".join(broken)


LONG_BODY = "    x = 1\n" * FUNCTION_LINES_MAX
MARK = "TO" + "DO"
HERE = "/wo" + "rk/"
HOUSE = "/ho" + "me/"


@pytest.mark.parametrize(
    ("rule", "path", "text"),
    [
        (files_are_short, "app/a.py", "x = 1\n" * (FILE_LINES_MAX + 1)),
        (files_are_short, "tests/a.py", "x = 1\n" * (FILE_LINES_MAX + 1)),
        (functions_are_short, "app/a.py", f"def f():\n{LONG_BODY}"),
        (functions_are_short, "tests/a.py", f"async def f():\n{LONG_BODY}"),
        (the_app_class_is_short, "app/a.py", "class Deck(App[None]):\n" + "    x = 1\n" * APP_LINES_MAX),
        (the_app_class_is_short, "app/a.py", "class Deck(textual.App):\n" + "    x = 1\n" * APP_LINES_MAX),
        (nothing_prints, "orchestrator/a.py", "print('x')\n"),
        (no_error_is_swallowed, "app/a.py", "try:\n    f()\nexcept:\n    raise\n"),
        (no_error_is_swallowed, "app/a.py", "try:\n    f()\nexcept Exception:\n    pass\n"),
        (no_error_is_swallowed, "app/a.py", "try:\n    f()\nexcept (OSError, BaseException):\n    ...\n"),
        (only_the_clock_reads_the_clock, "app/a.py", "import time\nx = time.time()\n"),
        (only_the_clock_reads_the_clock, "orchestrator/a.py", "from time import time_ns as t\nx = t()\n"),
        (only_the_clock_reads_the_clock, "orchestrator/a.py", "import time as t\nx = t.monotonic()\n"),
        (only_the_clock_reads_the_clock, "orchestrator/a.py", "import datetime\nx = datetime.datetime.now()\n"),
        (only_the_clock_reads_the_clock, "app/a.py", "from datetime import datetime\nx = datetime.utcnow()\n"),
        (only_the_clock_reads_the_clock, "app/loadtest/engine.py", "import time\nx = time.time()\n"),
        (only_the_clock_reads_the_clock, "app/a.py", "import time\nnow = time.perf_counter\n"),
        (nothing_is_left_to_do, "README.md", f"text {MARK}: later\n"),
        (names_say_what_things_are, "app/gpu_utils.py", ""),
        (names_say_what_things_are, "orchestrator/helpers/a.py", ""),
        (names_say_what_things_are, "app/a.py", "class GPUManager: ...\n"),
        (names_say_what_things_are, "tests/a.py", "class BillingServiceError(Exception): ...\n"),
        (no_test_sleeps, "tests/a.py", "import time\ntime.sleep(1)\n"),
        (no_test_sleeps, "tests/a.py", "from asyncio import sleep\nasync def f():\n    await sleep(0.1)\n"),
        (no_test_sleeps, "tests/a.py", "import time\nfor _ in range(5):\n    time.sleep(1)\n"),
        (no_test_sleeps, "tests/a.py", "import time\ndef test_x():\n    for _ in x:\n        f(time.sleep(1))\n"),
        (only_the_clock_reads_the_clock, "orchestrator/worker/a.py", "import time\nx = time.time()\n"),
        (no_path_of_a_developer_s_machine, "a.toml", f'path = "{HERE}x"\n'),
        (no_path_of_a_developer_s_machine, "a.md", f"see {HOUSE}mallory/x\n"),
        (no_trailing_whitespace, "a.md", "text \n"),
        (no_trailing_whitespace, "a.md", "text\r\n"),
        (no_trailing_whitespace, "a.md", "text"),
        (public_modules_say_what_they_are, "app/a.py", "x = 1\n"),
        (money_is_never_a_float, "app/a.py", "balance_u: float = 0\n"),
        (money_is_never_a_float, "app/a.py", "def f(rate_uh: float | None) -> None: ...\n"),
        (money_is_never_a_float, "app/a.py", "def due_u() -> float: ...\n"),
        (money_is_never_a_float, "app/a.py", "class A:\n    series_u: tuple[float, ...]\n"),
    ],
)
def test_a_planted_violation_is_caught(rule: Rule, path: str, text: str) -> None:
    assert list(rule(Source(path, text)))


@pytest.mark.parametrize(
    ("rule", "path", "text"),
    [
        (files_are_short, "app/a.py", "x = 1\n" * FILE_LINES_MAX),
        (files_are_short, "uv.lock", "x = 1\n" * (FILE_LINES_MAX + 1)),
        (functions_are_short, "app/a.py", f"def f():\n{LONG_BODY.removeprefix(LONG_BODY[:10])}"),
        (the_app_class_is_short, "app/a.py", "class Table(Widget):\n" + "    x = 1\n" * APP_LINES_MAX),
        (nothing_prints, "app/a.py", "click.echo('print(1)')\n"),
        (no_error_is_swallowed, "app/a.py", "try:\n    f()\nexcept OSError:\n    pass\n"),
        (no_error_is_swallowed, "app/a.py", "try:\n    f()\nexcept Exception as e:\n    log(e)\n"),
        (only_the_clock_reads_the_clock, "orchestrator/clock.py", "import time\nx = time.time_ns()\n"),
        (only_the_clock_reads_the_clock, "app/demo.py", "import time\nx = time.perf_counter()\n"),
        (only_the_clock_reads_the_clock, "app/demo/run.py", "from time import perf_counter\nx = perf_counter()\n"),
        (only_the_clock_reads_the_clock, "orchestrator/worker/a.py", "import time\nx = time.monotonic()\n"),
        (only_the_clock_reads_the_clock, "orchestrator/a.py", "import time\ntime.sleep(1)\nx = loop.time()\n"),
        (only_the_clock_reads_the_clock, "orchestrator/a.py", "def f(now):\n    return self.now() + now()\n"),
        (only_the_clock_reads_the_clock, "tests/a.py", "import time\nx = time.time()\n"),
        (nothing_is_left_to_do, "README.md", "mktemp -d XXXXXX and todo lists\n"),
        (names_say_what_things_are, "app/a.py", "class Serviced: ...\nmanager = 1\n"),
        (no_test_sleeps, "tests/waiting.py", "import time\ntime.sleep(1)\n"),
        (no_test_sleeps, "tests/a.py", "import asyncio\nasync def f():\n    await asyncio.sleep(0)\n"),
        (no_test_sleeps, "tests/a.py", "import time\nwhile not done():\n    time.sleep(1)\n"),
        (no_test_sleeps, "tests/a.py", "import time\nfor _ in x:\n    if y:\n        break\n    time.sleep(1)\n"),
        (no_test_sleeps, "tests/a.py", "import time\ndef test_x():\n    def slow():\n        time.sleep(1)\n"),
        (no_path_of_a_developer_s_machine, "a.md", f"https://example.org{HERE}x, docs{HOUSE}ada and {HOUSE}<name>\n"),
        (no_trailing_whitespace, "a.md", "text\n\n"),
        (no_trailing_whitespace, "a.md", ""),
        (public_modules_say_what_they_are, "app/a.py", '"""Something."""\n'),
        (public_modules_say_what_they_are, "app/__init__.py", ""),
        (public_modules_say_what_they_are, "tests/a.py", ""),
        (money_is_never_a_float, "app/a.py", "rate_uh: int = 1\nhours: float = 0.5\n"),
    ],
)
def test_what_is_allowed_passes(rule: Rule, path: str, text: str) -> None:
    assert not list(rule(Source(path, text)))
