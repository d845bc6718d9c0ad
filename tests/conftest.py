"""Every run has a warden, and its examples.

Hypothesis: the same examples at every run, so that a test run says something about the change, not about the dice.

`GPUDECK_EXAMPLES=2000` searches instead: that many examples, another seed each time.
"""

from __future__ import annotations

import os

from hypothesis import settings

from tests.warden import watch_over_this_run

watch_over_this_run()
settings.register_profile("repeatable", derandomize=True)
settings.register_profile("search", derandomize=False)
settings.load_profile("search" if "GPUDECK_EXAMPLES" in os.environ else "repeatable")
