"""The command line. stdout is data, stderr is talk; exit codes are in app/cli/exits.py.

Start-up is part of the interface: shells complete words and scripts ask for help through it. So this package imports
click and nothing else until a command runs; `commands/` declares, the modules beside it do the work.
"""

from __future__ import annotations

from typing import NoReturn


def main() -> NoReturn:
    """Entry point of `gpudeck`. Ends the process."""
    from app.cli.root import run

    run()
