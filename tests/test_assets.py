"""The shipped data files, the user's beside them, and what is said of bad ones."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.assets import AssetError, asset_root, load_models, load_price_book, price_book_names
from orchestrator.contract.snapshot import Tier
from orchestrator.core.catalogue import fill_arguments

MODEL = 'name = "mine"\ntitle = "Mine"\nsummary = "s"\nkind = "text"\nimage = "me/mine:1"\n'


def write(directory: Path, name: str, text: str | bytes) -> Path:
    directory.mkdir(exist_ok=True)
    file = directory / name
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return file


def test_the_seed_prices_are_exact() -> None:
    book = load_price_book("2025-seed")
    rates = {name: (price.baseline_uh, price.autoscale_uh) for name, price in book.prices.items()}
    assert rates == {
        "L40": (2_670_000, 15_264_000),
        "A40": (1_730_000, 9_792_000),
        "A100": (4_320_000, 21_888_000),
        "H100": (9_000_000, 44_640_000),
    }
    assert book.name == "2025-seed"
    assert book.cold_start_billed is True
    price = book.price("L40")
    assert price is not None
    assert price.rate_uh(Tier.AUTOSCALE) == 15_264_000


@pytest.mark.parametrize(
    ("name", "port", "health", "predict", "required", "on_process"),
    [
        ("sketch", 8000, "/health", "/predict", (), True),
        ("echo", 8000, "/health", "/predict", (), True),
        ("vllm", 8000, "/health", "/v1/chat/completions", ("MODEL_ID",), False),
        ("tgi", 80, "/health", "/v1/chat/completions", ("MODEL_ID",), False),
        ("triton", 8000, "/v2/health/ready", "/v2/repository/index", (), False),
        ("llama-cpp", 8080, "/health", "/v1/chat/completions", ("MODEL_ID",), False),
        ("ollama", 11434, "/api/version", "/v1/chat/completions", (), False),
        ("comfyui", 8188, "/system_stats", "/prompt", (), False),
    ],
)
def test_the_catalogue(
    name: str, port: int, health: str, predict: str, required: tuple[str, ...], on_process: bool
) -> None:
    model = load_models()[name]
    assert (model.port, model.health_path, model.predict_path) == (port, health, predict)
    assert model.required_env == required
    assert (model.process is not None) is on_process
    assert model.image is not None
    assert ":" in model.image
    assert not model.image.endswith(":latest")


def test_every_shipped_command_can_be_filled() -> None:
    for model in load_models().values():
        values = {"host": "0.0.0.0", "port": 8000, "python": "/usr/bin/python3", "GPUDECK_ENDPOINT": "a-slug"}
        values |= {name: f"<{name}>" for name in model.required_env}
        for arguments in (model.command, model.process or ()):
            filled = fill_arguments(arguments, {**values, **model.env})
            assert not any("{" in argument for argument in filled)
        for name in model.required_env:
            assert any(f"<{name}>" in argument for argument in fill_arguments(model.command, values)), model.name


def test_every_file_is_called_like_its_model_or_book() -> None:
    assert {file.stem for file in (asset_root() / "models").glob("*.toml")} == set(load_models())
    for file in (asset_root() / "prices").glob("*.toml"):
        assert load_price_book(file.stem).name == file.stem


def test_a_models_file_of_the_user_adds_and_replaces(tmp_path: Path) -> None:
    write(tmp_path, "mine.toml", MODEL)
    write(tmp_path, "other.toml", MODEL.replace('"mine"', '"echo"'))
    write(tmp_path, "notes.txt", "not read")
    models = load_models(tmp_path)
    assert models["mine"].title == "Mine"
    assert models["echo"].title == "Mine"
    assert models["sketch"] == load_models()["sketch"]
    assert list(models) == sorted(models)
    assert load_models(tmp_path / "absent") == load_models()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name = ", "not TOML"),
        (b"\xff", "not UTF-8 at byte 0"),
        ("x = 1" + "0" * 5000, "not TOML"),
        ("x = " + "[" * 5000, "not TOML"),
        ("#" * 1_048_577, "larger than 1048576 bytes"),
        (MODEL.replace('title = "Mine"\n', ""), "title: Field required"),
        (MODEL + "port = 70000\n", "port: Input should be less than or equal to 65535 (given '70000')"),
        (MODEL + "porrt = 1\n", "porrt: Extra inputs are not permitted"),
        (MODEL + "concurrency = 1.5\n", "concurrency: "),
        (MODEL + 'env = {"A B" = "1"}\n', "env: 'A B' is no variable name"),
        (MODEL + '[[volumes]]\nname = "v"\npath = "relative"\n', "volumes.0.path: "),
        (MODEL + 'required_env = ["NOT OK"]\n', "required_env.0: "),
        (MODEL.replace('image = "me/mine:1"\n', ""), "image: give an image"),
    ],
)
def test_a_bad_model_file_is_refused_by_file_and_field(tmp_path: Path, text: str | bytes, message: str) -> None:
    file = write(tmp_path, "bad.toml", text)
    with pytest.raises(AssetError) as refused:
        load_models(tmp_path)
    assert str(refused.value).startswith(f"{file}: ")
    assert message in str(refused.value)


def test_two_files_of_one_name_are_refused(tmp_path: Path) -> None:
    write(tmp_path, "a.toml", MODEL)
    write(tmp_path, "b.toml", MODEL)
    with pytest.raises(AssetError, match=r"b\.toml: name: 'mine' is also the name in a\.toml"):
        load_models(tmp_path)


def test_a_price_book_of_the_user_extends_the_seed(tmp_path: Path) -> None:
    write(
        tmp_path,
        "lab.toml",
        'extends = "2025-seed"\ncold_start_billed = false\n'
        '[prices."RTX 4090"]\nper_hour = 0.44\nper_second = 0.00031\n[prices.L40]\nper_hour = 2\nper_second = 0\n',
    )
    book = load_price_book("lab", tmp_path)
    assert book.name == "lab"
    assert book.cold_start_billed is False
    assert (book.prices["RTX 4090"].baseline_uh, book.prices["RTX 4090"].autoscale_uh) == (440_000, 1_116_000)
    assert (book.prices["L40"].baseline_uh, book.prices["L40"].autoscale_uh) == (2_000_000, 0)
    assert book.prices["H100"] == load_price_book("2025-seed").prices["H100"]


def test_the_names_of_the_books_are_the_shipped_ones_and_the_users(tmp_path: Path) -> None:
    assert price_book_names() == price_book_names(tmp_path / "absent") == ["2025-seed"]
    for name in ("my-prices.toml", "2025-seed.toml", "no name.toml", "notes.txt"):
        write(tmp_path, name, "")
    assert price_book_names(tmp_path) == ["2025-seed", "my-prices"]


def test_a_user_book_may_extend_the_shipped_one_of_its_own_name(tmp_path: Path) -> None:
    write(tmp_path, "2025-seed.toml", 'extends = "2025-seed"\n[prices.T4]\nper_hour = 0.5\nper_second = 0.0002\n')
    assert set(load_price_book("2025-seed", tmp_path).prices) == {"L40", "A40", "A100", "H100", "T4"}


PRICES = "[prices.X]\nper_hour = {}\nper_second = {}\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (PRICES.format("1.2345678", "0.001"), "prices.X.per_hour: 1.2345678 dollars is not a whole number"),
        (PRICES.format("1", "0.0000000001"), "prices.X.per_second: 1E-10 dollars is not a whole number"),
        (PRICES.format("-1", "0"), "prices.X.per_hour: give dollars from 0 to 10000"),
        (PRICES.format("10000.01", "0"), "prices.X.per_hour: give dollars from 0 to 10000"),
        (PRICES.format("1", "3"), "prices.X.per_second: give dollars from 0 to 2.78"),
        (PRICES.format("nan", "0"), "prices.X.per_hour: give dollars"),
        (PRICES.format("inf", "0"), "prices.X.per_hour: give dollars"),
        (PRICES.format("1e-999999999", "0"), "prices.X.per_hour: give dollars"),
        (PRICES.format("9e999999999", "0"), "prices.X.per_hour: give dollars"),
        (PRICES.format('"1"', "0"), "prices.X.per_hour: give a number of dollars"),
        (PRICES.format("true", "0"), "prices.X.per_hour: give a number of dollars"),
        ("[prices.X]\nper_hour = 1\n", "prices.X: give per_hour (baseline) and per_second"),
        ('[prices."X\\u001b"]\nper_hour = 1\nper_second = 1\n', "prices.X\\x1b: a GPU type is"),
        ("prices = 3\n", "prices: give one table"),
        ("", "prices: give at least one GPU type"),
        ("currency = 'EUR'\n" + PRICES.format(1, 0), "currency: no such field"),
        ("name = 'other'\n" + PRICES.format(1, 0), "name: must be 'bad'"),
        ("cold_start_billed = 1\n" + PRICES.format(1, 0), "cold_start_billed: give true or false"),
        ("extends = 3\n", "extends: give the name"),
        ("extends = 'absent'\n", "extends: there is no 'absent.toml'"),
        ("extends = '../secret'\n", "extends: '../secret' is no name of a book"),
        ("extends = 'bad'\n", "extends: 'bad' would extend itself"),
    ],
)
def test_a_bad_price_file_is_refused_by_file_and_field(tmp_path: Path, text: str, message: str) -> None:
    file = write(tmp_path, "bad.toml", text)
    with pytest.raises(AssetError) as refused:
        load_price_book("bad", tmp_path)
    assert str(refused.value).startswith(f"{file}: ")
    assert message in str(refused.value)


def test_a_ring_and_a_long_chain_of_books_end(tmp_path: Path) -> None:
    write(tmp_path, "a.toml", "extends = 'b'\n")
    write(tmp_path, "b.toml", "extends = 'a'\n")
    with pytest.raises(AssetError, match="'a' would extend itself"):
        load_price_book("a", tmp_path)
    for index in range(20):
        write(tmp_path, f"c{index}.toml", f"extends = 'c{index + 1}'\n")
    with pytest.raises(AssetError, match="chain of more than 8"):
        load_price_book("c0", tmp_path)


def test_an_unknown_book_says_where_it_was_looked_for(tmp_path: Path) -> None:
    with pytest.raises(AssetError) as refused:
        load_price_book("2031", tmp_path)
    assert str(refused.value) == f"price book: there is no '2031.toml' in {tmp_path} and {asset_root() / 'prices'}"


def test_arguments_are_filled_in_one_pass() -> None:
    arguments = ("{A}", "--x={A}-{port}", '{"json": {"a": 1}}', "{}", "plain")
    filled = fill_arguments(arguments, {"A": "two words {port}", "port": 80})
    assert filled == ("two words {port}", "--x=two words {port}-80", '{"json": {"a": 1}}', "{}", "plain")


@pytest.mark.parametrize("values", [{}, {"MODEL_ID": ""}])
def test_a_missing_variable_is_named(values: dict[str, str]) -> None:
    with pytest.raises(ValueError, match=r"env\.MODEL_ID: .*set MODEL_ID on the endpoint"):
        fill_arguments(("--model", "{MODEL_ID}"), values)
