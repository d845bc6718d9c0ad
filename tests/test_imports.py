"""Who may import whom: the contracts of pyproject.toml, cycles, and what really gets loaded."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Mapping, Set
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PROGRAM = """
import importlib, json, sys
before = set(sys.modules)
for name in json.loads(sys.argv[1]):
    importlib.import_module(name)
exec(sys.argv[2])
sys.stdout.write(json.dumps(sorted(set(sys.modules) - before)))
"""


def modules_of(package: str) -> dict[str, Path]:
    """Dotted name -> file of every module of a package, the package's own `__init__` under the package's name."""
    found: dict[str, Path] = {}
    for file in sorted((ROOT / package.replace(".", "/")).rglob("*.py")):
        parts = file.relative_to(ROOT).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = file
    return found


def loaded_by(*names: str, then: str = "") -> set[str]:
    """Every module that importing `names`, and then running some source text, loads in a fresh interpreter."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, json.dumps(names), then],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2_000:]
    return set(json.loads(done.stdout))


def tops(modules: Set[str]) -> set[str]:
    return {name.partition(".")[0] for name in modules}


def imports_of(name: str, text: str, known: Set[str], *, is_package: bool = False) -> set[str]:
    """Modules of `known` that the source of module `name` imports, TYPE_CHECKING blocks left out."""
    found: set[str] = set()
    pending: list[ast.AST] = [ast.parse(text)]
    while pending:
        node = pending.pop()
        if isinstance(node, ast.If) and ast.unparse(node.test).rpartition(".")[2] == "TYPE_CHECKING":
            pending.extend(node.orelse)
            continue
        pending.extend(ast.iter_child_nodes(node))
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            here = name.split(".") if is_package else name.split(".")[:-1]
            base = here[: len(here) - node.level + 1] if node.level else []
            source = ".".join([*base, *([node.module] if node.module else [])])
            members = {f"{source}.{alias.name}" for alias in node.names}
            found |= members & known
            if members - known:
                found.add(source)
    return (found & known) - {name}


def cycle_in(graph: Mapping[str, Set[str]]) -> list[str]:
    """One circle of imports, first module repeated at the end; empty when there is none."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def test_the_import_contracts_hold() -> None:
    done = subprocess.run(
        [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-4_000:] + done.stderr[-2_000:]
    assert " 0 broken" in done.stdout


@pytest.mark.parametrize("package", ["app", "orchestrator"])
def test_there_are_no_circles(package: str) -> None:
    modules = modules_of(package)
    known = modules.keys()
    assert len(known) > 5
    graph = {
        name: imports_of(name, file.read_text("utf-8"), known, is_package=file.name == "__init__.py")
        for name, file in modules.items()
    }
    assert cycle_in(graph) == []


def test_a_planted_circle_is_found() -> None:
    known = {"p", "p.a", "p.b", "p.c"}
    texts = {
        "p": "",
        "p.a": "from p import b\n",
        "p.b": "def f():\n    from p.c import x\n",
        "p.c": "import p.a\n",
    }
    circle = cycle_in({name: imports_of(name, text, known) for name, text in texts.items()})
    assert set(circle) == {"p.a", "p.b", "p.c"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("import p.a, os", {"p.a"}),
        ("from p import a, other", {"p", "p.a"}),
        ("from p.a import thing", {"p.a"}),
        ("from . import b", {"p.b"}),
        ("from .b import thing", {"p.b"}),
        ("from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import p.a\nelse:\n    import p.b", {"p.b"}),
        ("import typing\nif typing.TYPE_CHECKING:\n    import p.a", set()),
        ("import p.c", set()),
    ],
)
def test_imports_are_read_from_the_source(text: str, expected: set[str]) -> None:
    assert imports_of("p.c", text, {"p", "p.a", "p.b", "p.c"}) == expected


FOREIGN_TO_THE_CORE = {
    "app", "textual", "rich", "docker", "pynvml", "sqlite3", "sqlite_utils", "asyncio", "httpx",
    "aiohttp", "uvloop", "click", "numpy", "cv2", "logging", "socket", "subprocess",
}  # fmt: skip


def test_the_core_and_the_contract_load_nothing_that_acts() -> None:
    names = [*modules_of("orchestrator.contract"), *modules_of("orchestrator.core")]
    assert "orchestrator.core.lane" in names
    # What pydantic and platformdirs load of the standard library is theirs; only what comes on top of it is ours.
    theirs = loaded_by("pydantic", "platformdirs", then="sys.modules['pydantic'].create_model('M', field=(int, 1))")
    ours = loaded_by(*names) - theirs
    assert tops(ours) & FOREIGN_TO_THE_CORE == set()


def test_the_orchestrator_is_headless() -> None:
    names = [name for name in modules_of("orchestrator") if not name.endswith("__main__")]
    loaded = loaded_by(*names)
    assert "orchestrator.core.lane" in loaded
    assert tops(loaded) & {"app", "textual", "rich"} == set()


def test_the_orchestrator_does_not_load_the_worker() -> None:
    names = [
        name
        for name in modules_of("orchestrator")
        if not name.endswith("__main__") and not name.startswith("orchestrator.worker")
    ]
    loaded = loaded_by(*names)
    assert {name for name in loaded if name.startswith("orchestrator.worker")} == set()
    assert tops(loaded) & {"aiohttp", "cv2", "numpy"} == set()


def test_the_worker_loads_nothing_of_the_orchestrator() -> None:
    names = [name for name in modules_of("orchestrator.worker") if not name.endswith("__main__")]
    ours = {name for name in loaded_by(*names) if name.startswith(("orchestrator.", "app"))}
    assert {name for name in ours if not name.startswith("orchestrator.worker")} == set()


def test_the_command_line_starts_without_the_screen() -> None:
    """`gpudeck --help` and `gpudeck status` must not wait for Textual, nor --help for pydantic."""
    loaded = loaded_by("app.cli")
    assert (
        tops(loaded) & {"textual", "rich", "pydantic", "docker", "pynvml", "sqlite3", "httpx", "numpy", "cv2"} == set()
    )


def test_the_screen_loads_only_the_contract_of_the_orchestrator() -> None:
    web = ("app.web", "app.cli.web")  # a server of its own, beside the screens
    names = [name for name in modules_of("app") if not name.endswith("__main__") and not name.startswith(web)]
    loaded = loaded_by(*names)
    ours = {".".join(name.split(".")[:2]) for name in loaded if name.startswith("orchestrator.")}
    assert ours == {"orchestrator.contract"}
    assert tops(loaded) & {"docker", "pynvml", "sqlite3", "sqlite_utils", "aiohttp", "uvloop"} == set()
