"""Lines that are made when somebody looks at them: of a long panel few are ever on the screen."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar, overload

from app.present.text import Line

T = TypeVar("T")


class _Each(Sequence[Line], Generic[T]):
    """One line an item."""

    def __init__(self, items: Sequence[T], make: Callable[[T], Line]) -> None:
        self._items = items
        self._make = make
        self._made: dict[int, Line] = {}

    def __len__(self) -> int:
        return len(self._items)

    @overload
    def __getitem__(self, index: int) -> Line: ...
    @overload
    def __getitem__(self, index: slice) -> list[Line]: ...

    def __getitem__(self, index: int | slice) -> Line | list[Line]:
        if isinstance(index, slice):
            return [self[at] for at in range(*index.indices(len(self)))]
        if index not in self._made:
            self._made[index] = self._make(self._items[index])
        return self._made[index]


class Rows(Sequence[Line]):
    """Blocks of lines one below the other. How many lines a block has is known at once; what is in it is made at the
    first look, and kept."""

    def __init__(self) -> None:
        self._starts: list[int] = []
        self._blocks: list[Sequence[Line] | Callable[[], Sequence[Line]]] = []
        self._count = 0

    def add(self, block: Sequence[Line]) -> None:
        """Lines that there are already."""
        if block:
            self._append(len(block), block)

    def later(self, count: int, make: Callable[[], Sequence[Line]]) -> None:
        """`count` lines, one or more, that `make` returns when they are wanted."""
        self._append(count, make)

    def each(self, items: Sequence[T], make: Callable[[T], Line]) -> None:
        """A line for each of `items`, which `make` returns when that one is wanted."""
        self.add(_Each(items, make))

    def _append(self, count: int, block: Sequence[Line] | Callable[[], Sequence[Line]]) -> None:
        self._starts.append(self._count)
        self._blocks.append(block)
        self._count += count

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, index: int) -> Line: ...
    @overload
    def __getitem__(self, index: slice) -> list[Line]: ...

    def __getitem__(self, index: int | slice) -> Line | list[Line]:
        if isinstance(index, slice):
            return [self[at] for at in range(*index.indices(self._count))]
        place = index + self._count if index < 0 else index
        if not 0 <= place < self._count:
            raise IndexError(f"no line {index} of {self._count}")
        at = bisect_right(self._starts, place) - 1
        return self._block(at)[place - self._starts[at]]

    def _block(self, at: int) -> Sequence[Line]:
        block = self._blocks[at]
        if callable(block):
            block = self._blocks[at] = block()
            end = self._starts[at + 1] if at + 1 < len(self._starts) else self._count
            assert len(block) == end - self._starts[at], "a block has as many lines as was said of it"
        return block
