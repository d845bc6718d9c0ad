"""From the driver's name of a GPU to its type in the price book. Pure."""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Final

TYPE_MAX: Final = 32
UNKNOWN: Final = "UNKNOWN"

_BRANDS: Final = frozenset({"NVIDIA", "TESLA", "GEFORCE", "GRID", "NVGPU"})
"""Words that say who sells it. QUADRO and TITAN stay: a Quadro RTX 6000 is another GPU than an RTX 6000 Ada."""

_FORM: Final = re.compile(r"\d+GB?|SXM\d*|PCIE|HBM\d*E?|NVL|GPU|GENERATION|EDITION")
"""Words that say how it is built (memory, socket): boards of one price, unless the price book tells them apart."""

_FAMILIES: Final = ("RTX", "GTX")


def gpu_type(name: str, known: Collection[str]) -> str:
    """The type of the GPU that the driver calls `name`, at most TYPE_MAX characters of A-Z, 0-9, `.`, `-`.

    A type in `known` (the price book) is preferred, spelt as it is there: it matches when it names the same chip, in
    any case and with or without separators and family (`RTX 4090`, `rtx4090`, `4090`), and when every board word it
    has (`A100-80GB`) is in `name`; the one with most board words wins. Otherwise the name without brand and board
    words, joined by `-`: `NVIDIA L40S` is L40S and never L40, `NVIDIA GeForce RTX 4090` is RTX-4090.
    """
    chip, board = _split(name)
    forms = {"".join(chip)}
    if len(chip) > 1 and chip[0] in _FAMILIES:
        forms.add("".join(chip[1:]))
    best: tuple[int, str] | None = None
    for candidate in known:
        known_chip, known_board = _split(candidate)
        if not known_chip or "".join(known_chip) not in forms or not set(known_board) <= set(board):
            continue
        if best is None or len(known_board) > best[0]:
            best = (len(known_board), candidate)
    if best is not None:
        return best[1]
    return "-".join(chip)[:TYPE_MAX].rstrip("-.") or UNKNOWN


def _split(name: str) -> tuple[list[str], list[str]]:
    """Words of the chip and words of the board, in capitals and in order."""
    words = [word.strip(".") for word in re.findall(r"[A-Z0-9.]+", name.upper())]
    chip = [word for word in words if word and word not in _BRANDS and not _FORM.fullmatch(word)]
    board = [word for word in words if _FORM.fullmatch(word)]
    return chip, board
