"""`python -m orchestrator VERB`: the headless program that front ends start or attach to."""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import sys
from collections.abc import Sequence
from typing import Any

from orchestrator import crash
from orchestrator.assets import AssetError
from orchestrator.contract.places import Places, places
from orchestrator.gateway.server import ListenError
from orchestrator.ledger.ports import LedgerError
from orchestrator.lock import Locked
from orchestrator.serving import new_runner
from orchestrator.settings import Loaded, SettingsError, load_settings, meaning_of
from orchestrator.wiring import serve

EXIT_FAILED, EXIT_DATA, EXIT_LOCKED, EXIT_CONFIGURATION = 1, 65, 75, 78


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb; returns the exit code. Talk goes to stderr, data to stdout."""
    options = _parser().parse_args(arguments)
    flags = {name: getattr(options, name) for name in ("engine", "gpus", "host", "port", "price_book", "log_level")}
    try:
        where = places()
        loaded = load_settings(where.settings_file, os.environ, flags)
        return _run(options.verb, loaded, where, options.file)
    except Locked as error:
        return _fail(EXIT_LOCKED, str(error))
    except (SettingsError, AssetError, ListenError, ValueError) as error:
        return _fail(EXIT_CONFIGURATION, str(error))
    except LedgerError as error:
        return _fail(EXIT_DATA, f"ledger: {error}")
    except OSError as error:
        return _fail(EXIT_FAILED, str(error))


def _run(verb: str, loaded: Loaded, where: Places, file: str) -> int:
    if verb == "serve":
        crash.arm(os.environ)
        new_runner().run(serve(loaded.settings, where))
        return 0
    if verb == "config":
        shown = {
            name: {"value": value, "origin": loaded.origin[name], "meaning": meaning_of(name)}
            for name, value in loaded.settings.model_dump(mode="json").items()
        }
        _show({"settings": shown, "places": {k: str(v) for k, v in where._asdict().items()}})
        return 0
    if verb in ("backup", "restore"):
        from orchestrator.safekeeping import back_up, restore  # SQLite without serving

        _show(back_up(where) if verb == "backup" else restore(where, file))
        return 0
    from orchestrator.doctor import examine, send_test_mail  # loads the Docker SDK, which `serve` may not need

    if verb == "mail-test":
        checks = send_test_mail(loaded.settings, file)
    else:
        checks = asyncio.run(examine(loaded.settings, where))
    _show([check.model_dump() for check in checks])
    return EXIT_FAILED if any(check.state == "fail" for check in checks) else 0


def _show(data: Any) -> None:
    sys.stdout.write(json.dumps(data, indent=2) + "\n")


def _fail(code: int, message: str) -> int:
    log = logging.getLogger(__name__)
    if log.hasHandlers():  # without a log file yet, logging would say on stderr what the next line says
        log.error("%s", message)
    sys.stderr.write(f"gpudeck: {message}\n")
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m orchestrator", description=__doc__)
    parser.add_argument("verb", choices=["serve", "doctor", "config", "backup", "restore", "mail-test"])
    parser.add_argument(
        "file", nargs="?", default="", help="for restore: the backup to go back to; for mail-test: whom to send it to"
    )
    parser.add_argument("--engine", choices=["auto", "docker", "process"], help="default: auto")
    parser.add_argument("--gpus", help="declare GPUs instead of asking NVML, such as L40:2,H100:1 (SIMULATED)")
    parser.add_argument("--host", help="address of the gateway, default 127.0.0.1")
    parser.add_argument("--port", type=int, help="port of the gateway, default 8484; 0 lets the system choose")
    parser.add_argument(
        "--price-book",
        dest="price_book",
        help="price book, default 2025-seed; NAME, NAME@YYYY-MM-DD switches to another one at that UTC midnight",
    )
    parser.add_argument("--log-level", dest="log_level", choices=["debug", "info", "warning", "error"])
    parser.add_argument("-o", "--output", choices=["json"], default="json", help="for all but serve")
    return parser


if __name__ == "__main__":
    sys.exit(main())
