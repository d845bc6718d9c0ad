"""Secrets of workers on a real Docker engine: the worker has them, and nothing that Docker tells anybody does."""

from __future__ import annotations

import asyncio
import io
import tarfile
from pathlib import Path

import pytest
from docker.errors import APIError

from orchestrator.engine.docker_client import translate
from orchestrator.engine.docker_request import container_request, secret_variables
from orchestrator.engine.docker_secrets import SecretFiles, read_image
from orchestrator.engine.ports import EngineError, Fault
from tests.engine.docker_harness import ADDRESS, IMAGE, DockerHarness, echo_model, until_logged, worker_spec
from tests.engine.suite import evidence

pytestmark = pytest.mark.docker

TOKEN = "hf canary, $HOME"
SAY = "import os, sys; print(os.environ['HF_TOKEN'], sys.argv[1:], os.getppid(), flush=True)"
SERVE = f"{SAY}\nimport runpy, sys; sys.argv[1:] = ['echo', '--host', '0.0.0.0']; runpy.run_module('worker')"


def kept(world: DockerHarness) -> list[str]:
    return sorted(entry.name for entry in world.secrets.iterdir())


async def shown(world: DockerHarness) -> str:
    """All that the engine's API says about the worker, by every call that a stranger with the socket could make."""

    def ask() -> str:
        container = world.container("w-1")
        processes = world.api.top(container, ps_args="-eo pid,args")
        return repr((world.api.inspect_container(container), processes, world.api.containers(all=True)))

    return await world.on_thread(ask)


async def test_a_worker_has_its_secret_and_docker_shows_none(world: DockerHarness) -> None:
    model = echo_model(entrypoint=("python", "-c", f"{SAY}\nimport signal; signal.pause()"), command=("a b", "$c"))
    await world.engine.start(worker_spec(world.instance, 1, model, HF_TOKEN=TOKEN, REVISION="rev-canary"))
    await until_logged(world, "w-1", f"{TOKEN} ['a b', '$c'] 1")
    text = await shown(world)
    assert "rev-canary" in text, "what is no secret is shown: the search is not blind"
    assert TOKEN not in text


async def test_the_images_own_program_runs_behind_the_wrapper(world: DockerHarness) -> None:
    spec = worker_spec(world.instance, 1, HF_TOKEN=TOKEN)
    worker = await world.engine.start(spec)
    await world.settle_healthy(worker)
    assert TOKEN not in await shown(world)
    end = await world.engine.stop("w-1", grace_s=10.0)
    assert end is not None
    assert end.code in (0, 143), "the signal reaches the program, not a shell that ignores it"
    assert kept(world) == ["w-1.env"]
    await world.engine.remove("w-1")
    assert kept(world) == []


async def test_a_worker_that_is_restarted_by_hand_still_has_its_secret(world: DockerHarness) -> None:
    model = echo_model(entrypoint=("python", "-c", SAY), command=())
    await world.engine.start(worker_spec(world.instance, 1, model, HF_TOKEN=TOKEN))
    await evidence(world, "w-1")
    await world.reopen()
    await world.engine.list_workers()
    await world.on_thread(lambda: world.api.start(world.container("w-1")))
    async with asyncio.timeout(60):
        while await world.engine.logs("w-1", 10) != [f"{TOKEN} [] 1"] * 2:
            pass


async def test_leftovers_go_with_the_next_list_and_those_of_adopted_workers_stay(world: DockerHarness) -> None:
    worker = await world.engine.start(worker_spec(world.instance, 1, HF_TOKEN=TOKEN))
    await world.reopen(lambda: world.on_thread(lambda: (world.secrets / "w-9.env").write_text("A_KEY=left\n")))
    assert [seen.worker_id for seen in await world.engine.list_workers()] == [worker.worker_id]
    assert kept(world) == ["w-1.env"]


async def test_a_container_that_was_created_before_a_crash_gets_its_file_again(world: DockerHarness) -> None:
    spec = worker_spec(world.instance, 1, HF_TOKEN=TOKEN)
    await world.engine.start(worker_spec(world.instance, 2))  # makes the network

    def create() -> None:
        with SecretFiles(world.secrets).starting("w-1", secret_variables(spec)) as file:
            body = container_request(spec, read_image(world.api.inspect_image(IMAGE), file))
            world.api.create_container_from_config(body, spec.name)
        file.unlink()

    await world.on_thread(create)
    await world.settle_healthy(await world.engine.start(spec))


async def test_an_image_without_a_shell_is_refused_by_the_variables_name(world: DockerHarness) -> None:
    image = f"gpudeck/bare-{world.instance}:1"
    await world.on_thread(lambda: world.api.import_image_from_data(one_file(), repository=image.split(":")[0], tag="1"))
    try:
        model = echo_model(image=image, entrypoint=("/program",), command=())
        with pytest.raises(EngineError, match=r"env\.HF_TOKEN: image .* has no /bin/sh") as refusal:
            await world.engine.start(worker_spec(world.instance, 1, model, HF_TOKEN=TOKEN))
        assert refusal.value.fault is Fault.MODEL_UNSUPPORTED
        assert TOKEN not in refusal.value.message
        assert await world.leftovers() == []
        assert await world.engine.list_workers() == []
        assert kept(world) == []
    finally:
        await world.on_thread(lambda: world.api.remove_image(image))


def one_file() -> bytes:
    """A root file system with a single file."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("program"))
    return buffer.getvalue()


async def test_a_missing_image_is_named_before_anything_is_made(world: DockerHarness) -> None:
    model = echo_model(image="gpudeck/none:1")
    with pytest.raises(EngineError, match="`docker pull gpudeck/none:1`") as refusal:
        await world.engine.start(worker_spec(world.instance, 1, model, HF_TOKEN=TOKEN))
    assert refusal.value.fault is Fault.IMAGE_MISSING


async def test_a_runtime_directory_that_docker_does_not_see_is_explained(world: DockerHarness, tmp_path: Path) -> None:
    """As when gpudeck runs in a container: the file is there for us and not for the engine."""
    spec = worker_spec(world.instance, 1, HF_TOKEN=TOKEN)
    elsewhere = read_image({}, tmp_path / "elsewhere" / "w-1.env")
    body = container_request(spec, elsewhere)
    with pytest.raises(APIError) as refused:
        await world.on_thread(lambda: world.api.create_container_from_config(body, spec.name))
    assert "under the same path" in translate(refused.value, ADDRESS).message
