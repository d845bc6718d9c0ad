"""What policies remember, as JSON: so that it survives a restart and can be replayed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any, Final

from orchestrator.core.scaling.concurrency import Windows
from orchestrator.core.scaling.learned import Learned
from orchestrator.core.scaling.shadow import Shadow
from orchestrator.core.scaling.view import Memory

KINDS: Final[Mapping[str, type[Memory]]] = {"added": Memory, "windows": Windows, "learned": Learned}
"""Names are in ledgers: they stay."""


def dump(memory: Memory) -> dict[str, Any]:
    """Plain data (numbers, strings, lists, dicts) that `load` turns back into an equal memory."""
    kind = next(name for name, each in KINDS.items() if each is type(memory))
    return {"kind": kind, **{each.name: _plain(getattr(memory, each.name)) for each in fields(memory)}}


def load(saved: Mapping[str, Any]) -> Memory:
    """The memory that was dumped. One of another form (another version) is forgotten: policies are sane without."""
    kind = KINDS.get(str(saved.get("kind")), Memory)
    if saved.keys() - {"kind"} != {each.name for each in fields(kind)}:
        return kind()
    values = {name: _frozen(value) for name, value in saved.items() if name != "kind"}
    if kind is Learned:
        shadows = values["shadows"]
        if any(len(each) != len(Shadow._fields) for each in shadows):
            return kind()
        values["shadows"] = tuple(Shadow(*each) for each in shadows)
    return kind(**values)


def _plain(value: Any) -> Any:
    return [_plain(each) for each in value] if isinstance(value, tuple) else value


def _frozen(value: Any) -> Any:
    return tuple(_frozen(each) for each in value) if isinstance(value, list | tuple) else value
