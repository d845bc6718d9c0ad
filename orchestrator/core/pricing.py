"""Price books: versioned data, integers once read, and a schedule of them. A rate is micro-dollars per hour."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from itertools import pairwise

from orchestrator.contract.base import Frozen
from orchestrator.contract.snapshot import PriceView, Tier


class Price(Frozen):
    """What one GPU type costs. Baseline is quoted per hour, autoscale per second; both are kept per hour, exactly."""

    baseline_uh: int
    autoscale_uh: int

    def rate_uh(self, tier: Tier) -> int:
        return self.baseline_uh if tier is Tier.BASELINE else self.autoscale_uh


class PriceBook(Frozen):
    """`name` is written on every interval; `cold_start_billed` False starts an interval at readiness instead."""

    name: str
    prices: dict[str, Price]
    cold_start_billed: bool = True

    def price(self, gpu_type: str) -> Price | None:
        return self.prices.get(gpu_type)

    def views(self) -> tuple[PriceView, ...]:
        return tuple(
            PriceView(gpu_type=name, baseline_uh=price.baseline_uh, autoscale_uh=price.autoscale_uh)
            for name, price in self.prices.items()
        )


@dataclass(frozen=True, slots=True)
class PriceSchedule:
    """Which book is in force when. `starts_ns[i]` is the first instant of `books[i]`, ascending; the first book also
    holds for every instant before its own, since there is no time without prices."""

    starts_ns: tuple[int, ...]
    books: tuple[PriceBook, ...]

    def __post_init__(self) -> None:
        assert len(self.starts_ns) == len(self.books) >= 1
        assert all(a < b for a, b in pairwise(self.starts_ns))

    def book_at(self, at_ns: int) -> PriceBook:
        return self.books[max(0, bisect_right(self.starts_ns, at_ns) - 1)]

    def switches(self, after_ns: int, before_ns: int) -> tuple[int, ...]:
        """Instants of a switch strictly between the two, ascending."""
        return tuple(at_ns for at_ns in self.starts_ns[1:] if after_ns < at_ns < before_ns)

    def gpu_types(self) -> tuple[str, ...]:
        """Every type that some book prices, in order of first mention."""
        return tuple(dict.fromkeys(name for book in self.books for name in book.prices))


def always(book: PriceBook) -> PriceSchedule:
    """The schedule of one book for all time."""
    return PriceSchedule((0,), (book,))
