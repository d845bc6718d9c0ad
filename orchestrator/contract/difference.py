"""What changed between two values of the contract, as plain JSON, and the later one made from the earlier one.

`applied(before, difference(before, after)) == after` for any two models of one class: nothing here knows a field by
name. Parts that did not change are the same objects in both, so comparing them costs nothing.

A change is one of

    3, "ready", null …                     the new value, of a field that holds a plain one
    {"=": value}                           the new value, of any kind
    {".": {field: change}}                 a model: what changed in it
    {"#": [skip, kept, {at: change}, [new …]]}
        a sequence: `kept` of its items after the first `skip`, with changes at places among these, then new items
"""

from __future__ import annotations

from typing import Any, Final, TypeVar

from pydantic import BaseModel

from orchestrator.contract.steps import Steps, finished

M = TypeVar("M", bound=BaseModel)
Change = Any
"""JSON, with models and tuples of models where a whole value stands."""

SKIP_MAX: Final = 16
"""A series or log that moved on by more than this between two frames is sent whole: looking further costs more."""

_WHOLE: Final = "="
_MODEL: Final = "."
_SEQUENCE: Final = "#"
_PARTS: Final = [int, int, dict, list]
_NONE: Final = object()
"""In place of a change: there is none."""


class Misfit(ValueError):
    """The change is not one of the value it was applied to."""


def difference(before: BaseModel, after: BaseModel) -> dict[str, Change]:
    """The fields of `after` that differ from `before`, a model of the same class."""
    return finished(differing(before, after))


def differing(before: BaseModel, after: BaseModel) -> Steps[dict[str, Change]]:
    """`difference`, with a pause after each item of a sequence of models."""
    old = before.__dict__
    changes = {}
    for name, value in after.__dict__.items():
        if (known := old[name]) is value:
            continue
        sequences = isinstance(value, tuple) and value and isinstance(known, tuple) and known
        change = (yield from _moving(known, value)) if sequences else _change(known, value)
        if change is not _NONE:
            changes[name] = change
    return changes


def applied(before: M, changes: dict[str, Change]) -> M:
    """`before` with `changes`, validated; a field that a newer peer knows is ignored, as in a whole model.

    Raises Misfit for changes of something else, pydantic.ValidationError for values that the class refuses.
    """
    fields = dict(before.__dict__)
    for name, change in changes.items():
        if name in fields:
            fields[name] = _applied(fields[name], change) if type(change) is dict else change
    return type(before).model_validate(fields)


def _change(old: object, new: object) -> Change:
    """Of anything but two sequences that have items."""
    if isinstance(new, BaseModel):
        if type(old) is not type(new):
            return {_WHOLE: new}
        changes = difference(old, new)
        return {_MODEL: changes} if changes else _NONE
    if type(old) is type(new) and old == new:
        return _NONE
    return {_WHOLE: new} if isinstance(new, tuple | dict) else new


def _moving(old: tuple[Any, ...], new: tuple[Any, ...]) -> Steps[Change]:
    of_models = isinstance(new[0], BaseModel)
    for skip in range(min(SKIP_MAX, len(old))):
        kept = len(old) - skip
        # Models that moved along are the same objects; comparing others would cost more than sending what differs.
        near = old[skip] is new[0] if of_models else old[skip] == new[0]
        if near and kept <= len(new) and old[skip:] == new[:kept]:
            return {_SEQUENCE: [skip, kept, {}, list(new[kept:])]} if skip or kept < len(new) else _NONE
    if not of_models:
        return {_WHOLE: new}
    kept = min(len(old), len(new))
    changes = {}
    for at in range(kept):
        if (known := old[at]) is not (value := new[at]) and (change := _change(known, value)) is not _NONE:
            changes[str(at)] = change
        yield
    return {_SEQUENCE: [0, kept, changes, list(new[kept:])]} if changes or len(old) != len(new) else _NONE


def _applied(old: object, change: dict[str, Any]) -> object:
    if _WHOLE in change:
        return change[_WHOLE]
    if isinstance(old, BaseModel) and type(fields := change.get(_MODEL)) is dict:
        return applied(old, fields)
    parts = change.get(_SEQUENCE)
    if isinstance(old, tuple) and isinstance(parts, list) and [type(part) for part in parts] == _PARTS:
        return _followed(old, *parts)
    raise Misfit(f"no change of a {type(old).__name__}: {str(change)[:80]}")


def _followed(old: tuple[Any, ...], skip: int, kept: int, changes: dict[str, Change], new: list[Any]) -> list[Any]:
    items = list(old[skip : skip + kept])
    if len(items) != kept or skip < 0:
        raise Misfit(f"no {kept} items after {skip} of {len(old)}")
    for at, change in changes.items():
        if not at.isdecimal() or int(at) >= kept:
            raise Misfit(f"no item {at[:20]} among {kept}")
        place = int(at)
        items[place] = _applied(items[place], change) if type(change) is dict else change
    return items + new
