"""Data files that ship with gpudeck and the user's own beside them: the model catalogue and the price books.

Every error names the file, the field and its limit, and is raised before anything starts.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Sequence
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError

from orchestrator.contract.base import DOLLAR_U
from orchestrator.core.catalogue import Model
from orchestrator.core.pricing import Price, PriceBook, PriceSchedule

FILE_BYTES_MAX: Final = 1_048_576
BOOK_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
GPU_TYPE: Final = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9 ._-]{0,62}[A-Za-z0-9])?")
HOUR_S: Final = 3_600
PRICE_PER_HOUR_MAX: Final = Decimal(10_000)
"""Dollars. A slip of the decimal point in a price file must not become a bill."""
DECIMALS: Final = (-12, 4)
"""Exponents of a price as it may be written."""
BOOKS_MAX: Final = 8
"""Longest chain of `extends`."""


class AssetError(Exception):
    """A data file is missing or wrong. `str(error)` is a sentence for the user: file, field, limit."""


def asset_root() -> Path:
    """`orchestrator/_assets` in an installed wheel, `assets/` beside the packages in a checkout. Raises AssetError."""
    package = Path(__file__).resolve().parent
    for root in (package / "_assets", package.parent / "assets"):
        if (root / "models").is_dir() and (root / "prices").is_dir():
            return root
    raise AssetError(f"no assets beside {package}: the installation is incomplete, install gpudeck again")


def load_models(user_dir: Path | None = None) -> dict[str, Model]:
    """The catalogue by name, in order of name. A file of the user replaces the shipped model of the same name.
    Raises AssetError."""
    shipped = _models_in(asset_root() / "models")
    own = _models_in(user_dir) if user_dir is not None and user_dir.is_dir() else {}
    merged = {**shipped, **own}
    return {name: merged[name] for name in sorted(merged)}


def load_price_book(name: str, user_dir: Path | None = None) -> PriceBook:
    """The price book called `name`, the user's file before the shipped one, with what it `extends` underneath.

    Prices are exact: a file holds dollars per hour and per second, the book integers of micro-dollars per hour. A price
    that is not a whole number of those is refused, never rounded. Raises AssetError.
    """
    return _load_book(name, user_dir, ())


def price_book_names(user_dir: Path | None = None) -> list[str]:
    """Names of the price books that there are, the user's among them. Raises AssetError."""
    directories = [asset_root() / "prices", *([user_dir] if user_dir is not None and user_dir.is_dir() else [])]
    stems = {file.stem for directory in directories for file in _files_of(directory)}
    return sorted(stem for stem in stems if BOOK_NAME.fullmatch(stem))


def load_price_schedule(periods: Sequence[tuple[str, int]], user_dir: Path | None = None) -> PriceSchedule:
    """Books by name, each with the instant (wall-clock nanoseconds) from which it is in force, ascending. A later book
    prices at least what the one before it does: no worker may run out of a price. Raises AssetError."""
    books = [load_price_book(name, user_dir) for name, _ in periods]
    for before, after in pairwise(books):
        lost = [gpu_type for gpu_type in before.prices if gpu_type not in after.prices]
        if lost:
            raise AssetError(
                f"price book {after.name!a}: prices.{lost[0]}: '{before.name}', which it follows, has a price for it, "
                f'so this book must too (extends = "{before.name}" keeps it)'
            )
    return PriceSchedule(tuple(start_ns for _, start_ns in periods), tuple(books))


def _models_in(directory: Path) -> dict[str, Model]:
    found: dict[str, Model] = {}
    files: dict[str, Path] = {}
    for file in _files_of(directory):
        model = _read_model(file)
        if model.name in found:
            raise AssetError(f"{file}: name: '{model.name}' is also the name in {files[model.name].name}")
        found[model.name] = model
        files[model.name] = file
    return found


def _files_of(directory: Path) -> list[Path]:
    try:
        return sorted(file for file in directory.iterdir() if file.suffix == ".toml" and file.is_file())
    except OSError as error:
        raise AssetError(f"{directory}: cannot be listed: {error.strerror}") from error


def _read_model(file: Path) -> Model:
    document = _read_toml(file)
    try:
        model = Model.model_validate(document)
    except ValidationError as error:
        raise AssetError(f"{file}: {_sentences(error)}") from error
    if model.image is None and model.process is None:
        raise AssetError(f"{file}: image: give an image (Docker) or a process (argv), else no engine can start it")
    return model


def _load_book(name: str, user_dir: Path | None, below: tuple[Path, ...]) -> PriceBook:
    file = _book_file(name, user_dir, below)
    if len(below) >= BOOKS_MAX:
        raise AssetError(f"{below[0]}: extends: a chain of more than {BOOKS_MAX} price books")
    document = _read_toml(file)
    extends = document.pop("extends", None)
    prices: dict[str, Price] = {}
    cold_start_billed: object = True
    if extends is not None:
        if not isinstance(extends, str):
            raise AssetError(f"{file}: extends: give the name of a price book as text")
        base = _load_book(extends, user_dir, (*below, file))
        prices, cold_start_billed = dict(base.prices), base.cold_start_billed
    own_name = document.pop("name", name)
    if own_name != name:
        raise AssetError(f"{file}: name: must be '{name}', as the file is called, not {str(own_name)[:80]!a}")
    cold_start_billed = document.pop("cold_start_billed", cold_start_billed)
    if not isinstance(cold_start_billed, bool):
        raise AssetError(f"{file}: cold_start_billed: give true or false")
    table = document.pop("prices", {})
    if document:
        raise AssetError(
            f"{file}: {ascii(next(iter(document)))[1:-1]}: no such field; known are name, extends, cold_start_billed, "
            "prices"
        )
    if not isinstance(table, dict):
        raise AssetError(f"{file}: prices: give one table per GPU type, such as [prices.L40]")
    prices |= {gpu_type: _price(file, gpu_type, entry) for gpu_type, entry in table.items()}
    if not prices:
        raise AssetError(f"{file}: prices: give at least one GPU type")
    return PriceBook(name=name, prices=prices, cold_start_billed=cold_start_billed)


def _book_file(name: str, user_dir: Path | None, below: tuple[Path, ...]) -> Path:
    """The user's file unless it is already being read: so a book may extend the shipped one of its own name."""
    where = f"{below[-1]}: extends: " if below else "price book: "
    if not BOOK_NAME.fullmatch(name):
        raise AssetError(f"{where}{name[:80]!a} is no name of a book; use 1 to 63 letters, digits, dots, - and _")
    candidates = [directory / f"{name}.toml" for directory in (user_dir, asset_root() / "prices") if directory]
    for file in candidates:
        if file.is_file() and file not in below:
            return file
    if any(file in below for file in candidates):
        raise AssetError(f"{where}'{name}' would extend itself")
    looked = " and ".join(str(file.parent) for file in candidates)
    raise AssetError(f"{where}there is no '{name}.toml' in {looked}")


def _price(file: Path, gpu_type: str, entry: object) -> Price:
    where = f"{file}: prices.{ascii(gpu_type)[1:-1]}"
    if not GPU_TYPE.fullmatch(gpu_type):
        raise AssetError(f"{where}: a GPU type is 1 to 64 letters, digits, blanks, dots, - and _")
    if not isinstance(entry, dict) or entry.keys() != {"per_hour", "per_second"}:
        raise AssetError(f"{where}: give per_hour (baseline) and per_second (autoscale), and nothing else")
    return Price(
        baseline_uh=_rate_uh(f"{where}.per_hour", entry["per_hour"], 1),
        autoscale_uh=_rate_uh(f"{where}.per_second", entry["per_second"], HOUR_S),
    )


def _rate_uh(where: str, value: object, times: int) -> int:
    """Micro-dollars per hour of `value` dollars, `times` times an hour."""
    if isinstance(value, bool) or not isinstance(value, (int, Decimal)):
        raise AssetError(f"{where}: give a number of dollars, without quotes")
    dollars = Decimal(value)
    exponent = dollars.as_tuple().exponent
    # Checked before any arithmetic: 1e-999999999 is a Decimal, and an integer ratio of it would fill the memory.
    plain = isinstance(exponent, int) and DECIMALS[0] <= exponent <= DECIMALS[1]
    if not plain or not 0 <= dollars * times <= PRICE_PER_HOUR_MAX:
        raise AssetError(
            f"{where}: give dollars from 0 to {PRICE_PER_HOUR_MAX / times:.2f} with up to 12 decimal places"
        )
    numerator, denominator = dollars.as_integer_ratio()
    rate_uh, rest = divmod(numerator * times * DOLLAR_U, denominator)
    if rest:
        raise AssetError(
            f"{where}: {value} dollars is not a whole number of micro-dollars an hour; use at most "
            f"{'six' if times == 1 else 'eight'} decimal places"
        )
    return rate_uh


def _read_toml(file: Path) -> dict[str, Any]:
    """Decimal fractions arrive as Decimal, never as float."""
    try:
        with file.open("rb") as opened:
            data = opened.read(FILE_BYTES_MAX + 1)
    except OSError as error:
        raise AssetError(f"{file}: cannot be read: {error.strerror}") from error
    if len(data) > FILE_BYTES_MAX:
        raise AssetError(f"{file}: larger than {FILE_BYTES_MAX} bytes")
    try:
        return tomllib.loads(data.decode(), parse_float=Decimal)
    except UnicodeDecodeError as error:
        raise AssetError(f"{file}: not UTF-8 at byte {error.start}") from error
    except (ValueError, RecursionError) as error:  # a TOMLDecodeError, a number too long, nesting too deep
        raise AssetError(f"{file}: not TOML: {error}") from error


def _sentences(error: ValidationError) -> str:
    """Each problem as `field: what and which limit`."""
    problems = []
    for entry in error.errors(include_url=False, include_context=False):
        field = ".".join(str(part) for part in entry["loc"]) or "file"
        given = "" if entry["type"] in ("missing", "extra_forbidden") else f" (given {str(entry['input'])[:60]!a})"
        problems.append(f"{ascii(field)[1:-1]}: {entry['msg'].removeprefix('Value error, ')}{given}")
    return "; ".join(problems)
