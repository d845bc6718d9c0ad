"""Every run has a warden, shares its bytecode, and has its examples.

Hypothesis: the same examples at every run, so that a test run says something about the change, not about the dice.

`GPUDECK_EXAMPLES=2000` searches instead: that many examples, another seed each time.
"""

from __future__ import annotations

import gc
import os

from hypothesis import settings

from tests.bytecode import share_bytecode
from tests.warden import watch_over_this_run

share_bytecode()
watch_over_this_run()
# No deadlines: an example that takes longer than 200 ms says something about the machine.
settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.register_profile("search", derandomize=False, deadline=None)
settings.load_profile("search" if "GPUDECK_EXAMPLES" in os.environ else "repeatable")


def pytest_collection_finish() -> None:
    """What was imported and collected stays to the end: without this, each full garbage collection looks through all of
    it again, which takes a tenth of the time of the terminal tests."""
    gc.collect()
    gc.freeze()
