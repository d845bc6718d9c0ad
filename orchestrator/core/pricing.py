"""Price books: versioned data, integers once read. A rate is micro-dollars per hour."""

from __future__ import annotations

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
