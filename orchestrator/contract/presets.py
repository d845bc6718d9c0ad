"""Named setups offered by the form and the command line (features.md R28)."""

from __future__ import annotations

from typing import NamedTuple


class Preset(NamedTuple):
    """`baseline`-`maximum` and when to choose it."""

    name: str
    baseline: int
    maximum: int
    summary: str


PRESETS = (
    Preset("start", 1, 2, "start here: one always on, a second under load; then load-test and adjust"),
    Preset("dev", 0, 1, "development: nothing runs while nobody calls, the first call waits for a cold start"),
    Preset("serverless", 0, 5, "irregular traffic: no commitment, pays per second of use"),
    Preset("production", 2, 5, "steady traffic with peaks: two always on, up to five in all"),
)
