"""The keys at the foot of a screen: as many as there is room for, and always the ways out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from textual import events
from textual.app import ComposeResult
from textual.widgets import Footer
from textual.widgets._footer import FooterKey

from app.format import cells

KEPT: Final = frozenset({"go_back", "show_help", "quit"})
"""Actions whose keys stay when others give way: help lists what is not shown."""
_SPACES: Final = 3
"""Blanks around a key and behind its label."""


def fitting(keys: Sequence[FooterKey], room: int) -> list[FooterKey]:
    """Those that fit into `room` cells, in their order; the last ones give way first."""
    kept = list(keys)
    while sum(cells(each.key_display) + cells(each.description) + _SPACES for each in kept) > room:
        spare = [each for each in kept if each.action not in KEPT]
        if not spare:
            break
        kept.remove(spare[-1])
    return kept


class KeyFooter(Footer):
    """A footer in which no key is cut off."""

    def __init__(self) -> None:
        super().__init__(show_command_palette=False)

    def compose(self) -> ComposeResult:
        yield from fitting([each for each in super().compose() if isinstance(each, FooterKey)], self.app.size.width)

    def on_resize(self, event: events.Resize) -> None:
        self.call_after_refresh(self.recompose)
