"""The house rules, each a pure function from one file to its violations.

tests/test_tidy.py runs them over the repository and proves that each one catches what it is there for.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import PurePosixPath

FILE_LINES_MAX = 400
APP_LINES_MAX = 150
FUNCTION_LINES_MAX = 70
PRODUCT = ("app", "orchestrator")

WALL = {"time", "time_ns", "clock_gettime", "clock_gettime_ns", "localtime", "gmtime", "ctime", "strftime"}
STOPWATCHES = {"perf_counter", "perf_counter_ns"}
STEADY = {"monotonic", "monotonic_ns", "process_time", "process_time_ns", "thread_time", "thread_time_ns"} | STOPWATCHES
DATES = {"now", "utcnow", "today"}
VAGUE = {"manager", "managers", "helper", "helpers", "utils", "util", "service", "services"}
MARKS = re.compile(r"\b(?:FIX" r"ME|TO" r"DO|XX" r"X)\b")
MACHINE_PATH = re.compile(r"(?<![\w.-])/(?:wo" r"rk/|ho" r"me/(?!ada\b|gpudeck\b|user\b)\w)")
"""Ada is fictional, gpudeck is the user of our image."""
PAUSES_ALLOWED = {
    "tests/waiting.py", "tests/gallery/film.py", "tests/bench/crash.py", "tests/bench/cancellations.py",
    "tests/bench/soak.py", "tests/bench/mixed_hour.py", "tests/bench/mixed_site.py",
    "tests/gateway/virtual_loop.py", "tests/gateway/test_virtual_loop.py",
}  # fmt: skip
"""Where waiting is made, and programs that are no tests: one films a running deck for some seconds, one kills it at
random instants, and two are clients that take their time. Where time is virtual, a pause is exact and costs nothing."""
GENERATED = {".svg", ".lock", ".ipynb"}


@dataclass(frozen=True)
class Source:
    """One file: its path from the root of the repository, and its text."""

    path: str
    text: str

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.text)

    @property
    def top(self) -> str:
        return PurePosixPath(self.path).parts[0]

    @property
    def stem(self) -> str:
        return PurePosixPath(self.path).stem

    @property
    def is_python(self) -> bool:
        return self.path.endswith(".py") and self.top in (*PRODUCT, "tests")

    @property
    def is_product(self) -> bool:
        return self.is_python and self.top in PRODUCT

    def nodes(self, *kinds: type[ast.AST]) -> Iterator[ast.AST]:
        return (node for node in ast.walk(self.tree) if isinstance(node, kinds))


Rule = Callable[[Source], Iterator[str]]


def _lines(node: ast.AST) -> int:
    return node.end_lineno - node.lineno + 1  # type: ignore[attr-defined]


def files_are_short(source: Source) -> Iterator[str]:
    count = len(source.text.splitlines())
    if source.is_python and count > FILE_LINES_MAX:
        yield f"{count} lines, at most {FILE_LINES_MAX}"


def functions_are_short(source: Source) -> Iterator[str]:
    if source.is_python:
        for node in source.nodes(ast.FunctionDef, ast.AsyncFunctionDef):
            if _lines(node) > FUNCTION_LINES_MAX:
                yield f"line {node.lineno}: {node.name} has {_lines(node)} lines, at most {FUNCTION_LINES_MAX}"


def the_app_class_is_short(source: Source) -> Iterator[str]:
    if source.is_product:
        for node in source.nodes(ast.ClassDef):
            bases = {ast.unparse(base).partition("[")[0].rpartition(".")[2] for base in node.bases}
            if "App" in bases and _lines(node) > APP_LINES_MAX:
                yield f"line {node.lineno}: {node.name} has {_lines(node)} lines, at most {APP_LINES_MAX}"


def nothing_prints(source: Source) -> Iterator[str]:
    if source.is_product:
        for node in source.nodes(ast.Call):
            if isinstance(node.func, ast.Name) and node.func.id in {"print", "pprint"}:
                yield f"line {node.lineno}: {node.func.id}() (use click.echo or a logger)"


def no_error_is_swallowed(source: Source) -> Iterator[str]:
    if source.is_product:
        for node in source.nodes(ast.ExceptHandler):
            if node.type is None:
                yield f"line {node.lineno}: bare except"
                continue
            names = {name.id for name in ast.walk(node.type) if isinstance(name, ast.Name)}
            silent = all(isinstance(s, ast.Pass | ast.Continue) or _is_constant(s) for s in node.body)
            if names & {"Exception", "BaseException"} and silent:
                yield f"line {node.lineno}: every error is swallowed"


def _is_constant(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def _dotted(node: ast.AST, names: dict[str, str]) -> str:
    """`a.b.c` with the first name replaced by what it was imported as; "" for anything else."""
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    if not isinstance(node, ast.Name):
        return ""
    return ".".join([names.get(node.id, node.id), *reversed(parts)])


def _imported(source: Source) -> dict[str, str]:
    """Local name -> what it names, for every import of the file."""
    names: dict[str, str] = {}
    for node in source.nodes(ast.Import, ast.ImportFrom):
        for alias in node.names:
            if isinstance(node, ast.ImportFrom):
                names[alias.asname or alias.name] = f"{node.module}.{alias.name}"
            elif alias.asname:
                names[alias.asname] = alias.name
    return names


def only_the_clock_reads_the_clock(source: Source) -> Iterator[str]:
    if not source.is_product or source.path == "orchestrator/clock.py":
        return
    allowed: set[str] = set()
    if source.path.startswith("orchestrator/worker/"):  # a program of its own, which times its own work
        allowed = STEADY
    elif source.path == "orchestrator/engine/shim.py":  # one too, which dates the end of its child
        allowed = STEADY | WALL
    elif source.top == "app" and re.match(r"(?:loadtest|demo)", source.path.removeprefix("app/")):
        allowed = STOPWATCHES
    names = _imported(source)
    for node in source.nodes(ast.Attribute, ast.Name):
        module, _, what = _dotted(node, names).rpartition(".")
        clock = module == "time" and what in WALL | STEADY and what not in allowed
        date = module in {"datetime", "datetime.datetime", "datetime.date", "date"} and what in DATES
        if clock or date:
            yield f"line {node.lineno}: reads a clock ({module}.{what}); take `now` as an argument"


def nothing_is_left_to_do(source: Source) -> Iterator[str]:
    for number, line in enumerate(source.text.splitlines(), start=1):
        if MARKS.search(line):
            yield f"line {number}: unfinished: {line.strip()[:60]}"


def names_say_what_things_are(source: Source) -> Iterator[str]:
    if not source.is_python:
        return
    words = set(re.split(r"[_/.]", source.path.lower()))
    for word in words & VAGUE:
        yield f"the module's name says {word}"
    for node in source.nodes(ast.ClassDef):
        parts = {part.lower() for part in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", node.name)}
        for word in parts & VAGUE:
            yield f"line {node.lineno}: class {node.name} says {word}"


def no_test_sleeps(source: Source) -> Iterator[str]:
    """A fixed pause is a guess about somebody's machine. Allowed: yielding with asyncio.sleep(0), the rhythm of a loop
    that ends on a condition or is cancelled, and a nested function, which is a fake that is meant to be slow."""
    if source.top != "tests" or not source.is_python or source.path in PAUSES_ALLOWED:
        return
    names = _imported(source)
    for node in _pausing(source.tree, nested=0):
        called = _dotted(node.func, names)
        yields = called == "asyncio.sleep" and bool(node.args) and _is_zero(node.args[0])
        if called in {"time.sleep", "asyncio.sleep", "anyio.sleep", "trio.sleep"} and not yields:
            yield f"line {node.lineno}: {called}: wait for a condition (tests/waiting.py)"


def _pausing(node: ast.AST, nested: int) -> Iterator[ast.Call]:
    """Calls outside polling loops and nested functions."""
    for child in ast.iter_child_nodes(node):
        inner = nested + isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef)
        if inner > 1 or _polls(child):
            continue
        if isinstance(child, ast.Call):
            yield child
        yield from _pausing(child, inner)


def _polls(node: ast.AST) -> bool:
    if isinstance(node, ast.While):
        return True
    ends = ast.Break | ast.Return | ast.Raise
    return isinstance(node, ast.For) and any(isinstance(inner, ends) for inner in ast.walk(node))


def _is_zero(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value == 0


def no_path_of_a_developer_s_machine(source: Source) -> Iterator[str]:
    for number, line in enumerate(source.text.splitlines(), start=1):
        if MACHINE_PATH.search(line):
            yield f"line {number}: a path of somebody's machine: {line.strip()[:80]}"


def no_trailing_whitespace(source: Source) -> Iterator[str]:
    if PurePosixPath(source.path).suffix in GENERATED:
        return
    for number, line in enumerate(source.text.split("\n"), start=1):
        if line != line.rstrip():
            yield f"line {number}: trailing whitespace"
    if source.text and not source.text.endswith("\n"):
        yield "no newline at the end of the file"


def public_modules_say_what_they_are(source: Source) -> Iterator[str]:
    public = source.is_product and not source.stem.startswith("_")
    if public and not ast.get_docstring(source.tree):
        yield "no docstring"


def money_is_never_a_float(source: Source) -> Iterator[str]:
    if not source.is_python:
        return
    for node in source.nodes(ast.AnnAssign, ast.arg, ast.FunctionDef, ast.AsyncFunctionDef):
        if isinstance(node, ast.AnnAssign):
            name, annotation = ast.unparse(node.target), node.annotation
        elif isinstance(node, ast.arg):
            name, annotation = node.arg, node.annotation
        else:
            name, annotation = node.name, node.returns
        if annotation is None or not name.endswith(("_u", "_uh")):
            continue
        if re.search(r"\bfloat\b", ast.unparse(annotation)):
            yield f"line {node.lineno}: {name} is money and must be an int"


RULES: tuple[Rule, ...] = (
    files_are_short,
    functions_are_short,
    the_app_class_is_short,
    nothing_prints,
    no_error_is_swallowed,
    only_the_clock_reads_the_clock,
    nothing_is_left_to_do,
    names_say_what_things_are,
    no_test_sleeps,
    no_path_of_a_developer_s_machine,
    no_trailing_whitespace,
    public_modules_say_what_they_are,
    money_is_never_a_float,
)
