"""Files by which secrets reach containers: who may read them, what a shell makes of them, when they go."""

from __future__ import annotations

import stat
import subprocess
from pathlib import Path

import pytest

from orchestrator.engine.docker_secrets import WRAPPER, SecretFiles, read_image, shell_assignments
from orchestrator.engine.ports import EngineError

AWKWARD = {
    "A_TOKEN": 'it\'s $HOME `id` \\ "x" # ; & | > * ?',
    "B_KEY": " both ends ",
    "C_SECRET": "é漢\U0001f511",
    "D_PASSWORD": "-n",
    "E_KEY": "~",
}


def left(directory: Path) -> list[str]:
    return sorted(entry.name for entry in directory.iterdir())


def test_a_shell_reads_the_very_values_and_gives_its_place_to_the_program(tmp_path: Path) -> None:
    file = tmp_path / "w.env"
    file.write_text(shell_assignments(AWKWARD))
    script = WRAPPER[2].replace("/run/secrets/gpudeck.env", str(file))
    program = ["/bin/sh", "-c", 'echo "$0 $1 $$"; env -0', "a b", "$x"]
    shell = subprocess.Popen([WRAPPER[0], "-c", script, WRAPPER[3], *program], stdout=subprocess.PIPE, env={})
    out, _ = shell.communicate(timeout=60)
    said, _, listing = out.partition(b"\n")
    assert said.decode() == f"a b $x {shell.pid}", "the arguments as they were, in the same process"
    found = dict(line.split("=", 1) for line in listing.decode().split("\0") if line)
    assert {name: found[name] for name in AWKWARD} == AWKWARD


def test_without_its_file_the_program_is_not_started(tmp_path: Path) -> None:
    script = WRAPPER[2].replace("/run/secrets/gpudeck.env", str(tmp_path / "none"))
    ended = subprocess.run([WRAPPER[0], "-c", script, WRAPPER[3], "echo", "ran"], capture_output=True, timeout=60)
    assert (ended.returncode != 0, ended.stdout) == (True, b"")


def test_a_file_is_readable_by_all_behind_a_door_that_is_ours(tmp_path: Path) -> None:
    directory = tmp_path / "run" / "secrets"
    directory.mkdir(parents=True)
    directory.chmod(0o755)
    with SecretFiles(directory).starting("w-1", {"HF_TOKEN": "x"}) as file:
        assert file.read_text() == "HF_TOKEN=x\n"
        assert stat.S_IMODE(file.stat().st_mode) == 0o444
        assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    assert left(directory) == ["w-1.env"]


def test_an_id_cannot_lead_out_of_the_directory(tmp_path: Path) -> None:
    files = SecretFiles(tmp_path / "secrets")
    for worker_id in ("../x", "/etc/x", "..", ""):
        with files.starting(worker_id, {"A_KEY": "1"}) as file:
            assert file.parent == tmp_path / "secrets"
        files.remove(worker_id)
    assert left(tmp_path) == ["secrets"]
    assert left(tmp_path / "secrets") == []


def test_a_start_writes_anew_over_a_leftover(tmp_path: Path) -> None:
    files = SecretFiles(tmp_path)
    (tmp_path / "w-1.env.draft").write_text("half")
    for value in ("old", "new"):
        with files.starting("w-1", {"A_KEY": value}) as file:
            assert file.read_text() == f"A_KEY={value}\n"
    assert left(tmp_path) == ["w-1.env"]


def test_a_sweep_takes_leftovers_and_nothing_else(tmp_path: Path) -> None:
    files = SecretFiles(tmp_path)
    for worker_id in ("gone", "running"):
        with files.starting(worker_id, {"A_KEY": "1"}):
            pass
    (tmp_path / "gone.env.draft").touch()
    (tmp_path / "control.sock").touch()
    files.sweep(files.settled(), ["running"])
    assert left(tmp_path) == ["control.sock", "running.env"]


def test_a_sweep_spares_what_began_around_the_list(tmp_path: Path) -> None:
    """A list made before a container existed says nothing about that container's file."""
    files = SecretFiles(tmp_path)
    with files.starting("under-way", {"A_KEY": "1"}):
        settled = files.settled()
        with files.starting("later", {"A_KEY": "1"}):
            pass
    files.sweep(settled, [])
    assert left(tmp_path) == ["later.env", "under-way.env"]
    files.sweep(files.settled(), [])
    assert left(tmp_path) == []


def test_a_repeated_start_is_spared_by_an_older_look(tmp_path: Path) -> None:
    files = SecretFiles(tmp_path)
    with files.starting("w-1", {"A_KEY": "1"}):
        pass
    settled = files.settled()
    with files.starting("w-1", {"A_KEY": "1"}):
        files.sweep(settled, [])
        assert left(tmp_path) == ["w-1.env"]


def test_a_directory_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    files = SecretFiles(tmp_path / "file" / "secrets")
    with (
        pytest.raises(EngineError, match=r"secrets cannot hold the secrets of worker w-1: Not a directory") as refusal,
        files.starting("w-1", {"A_KEY": "canary"}),
    ):
        raise AssertionError("never entered")
    assert "canary" not in refusal.value.message


def test_before_the_first_secret_there_is_nothing(tmp_path: Path) -> None:
    files = SecretFiles(tmp_path / "secrets")
    files.sweep(files.settled(), [])
    files.remove("w-1")
    assert left(tmp_path) == []


@pytest.mark.parametrize("config", [{"Config": None}, {"Config": {"Entrypoint": None, "Cmd": None}}])
def test_an_image_may_have_neither_entry_point_nor_command(config: dict[str, object]) -> None:
    assert read_image(config, Path("/x")).command == ()
