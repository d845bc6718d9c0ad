"""Arguments of this package's programs. Who reads what is wrong with them has typed them to `gpudeck`."""

from __future__ import annotations

import argparse
from typing import NoReturn

EXIT_USAGE = 2


class Parser(argparse.ArgumentParser):
    """Says what is wrong in one sentence, which names the option and no program."""

    def error(self, message: str) -> NoReturn:
        self.exit(EXIT_USAGE, f"gpudeck: {message.removeprefix('argument ')}\n")
