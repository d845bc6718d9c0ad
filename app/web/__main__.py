"""`python -m app.web [--read-only]`: the dashboard behind one page. The web server starts it; people never do."""

from __future__ import annotations

import sys

from app.cli.dashboard import open_dashboard

if __name__ == "__main__":
    open_dashboard(readonly="--read-only" in sys.argv[1:])
