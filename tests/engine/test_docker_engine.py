"""DockerEngine on a real engine: what the common suite (suite.py) does not ask of every engine."""

from __future__ import annotations

import asyncio
import dataclasses
import shutil
from typing import Any

import pytest

from orchestrator.clock import system_now
from orchestrator.core.workload import ExitCause, GpuGrant
from orchestrator.engine.docker_engine import DockerEngine
from orchestrator.engine.docker_request import NETWORK, container_request
from orchestrator.engine.health import http_healthy
from orchestrator.engine.ports import EngineError, Fault, Observed
from tests.engine.docker_harness import (
    ADDRESS,
    IMAGE,
    MIB,
    DockerHarness,
    echo_model,
    remove_by_force,
    until_logged,
    worker_spec,
)
from tests.engine.suite import evidence, exits, facts, started
from tests.waiting import until

pytestmark = pytest.mark.docker

DEAF = """
import signal
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("deaf", flush=True)
while True:
    signal.pause()
"""


async def inspected(world: DockerHarness, n: int = 1) -> dict[str, Any]:
    found: dict[str, Any] = await world.on_thread(lambda: world.api.inspect_container(world.container(f"w-{n}")))
    return found


async def started_and_told(world: DockerHarness) -> Observed:
    """Worker 1, healthy, with the event of its start behind us: a test that waits for ("w-1", None) would take that
    event for its own, and look before its own has come."""
    worker = await started(world)
    await until(lambda: ("w-1", None) in world.changes, what="the start event")
    world.changes.clear()
    return worker


async def test_docker_itself_confirms_the_hardening(world: DockerHarness) -> None:
    await started(world)
    seen = await inspected(world)
    config = seen["HostConfig"]
    assert config["CapDrop"] == ["ALL"]
    assert config["SecurityOpt"] == ["no-new-privileges:true"]
    assert config["ReadonlyRootfs"] is True
    assert config["Privileged"] is False
    assert config["PidsLimit"] == 128
    assert config["Memory"] == 512 * MIB
    assert config["Init"] is True
    assert config["IpcMode"] == "private"
    assert config["AutoRemove"] is False
    assert config["RestartPolicy"]["Name"] == "no"
    assert config["LogConfig"] == {"Type": "json-file", "Config": {"max-file": "3", "max-size": "10m"}}
    assert config["NetworkMode"] == NETWORK
    assert not config.get("DeviceRequests")
    assert not seen["Mounts"]
    assert seen["Config"]["User"] == "10001:10001"
    [published] = [binding for bindings in seen["NetworkSettings"]["Ports"].values() for binding in bindings or ()]
    assert published["HostIp"] == "127.0.0.1"


async def test_the_worker_cannot_write_outside_its_tmpfs(world: DockerHarness) -> None:
    script = (
        "import os, pathlib\n"
        "for place in ('/tmp/x', '/srv/x', '/x', '/var/x'):\n"
        "    try:\n"
        "        pathlib.Path(place).write_text('x'); print(place, 'written')\n"
        "    except OSError as error:\n"
        "        print(place, error.strerror)\n"
        "print('uid', os.getuid(), open('/proc/self/status').read().split('CapEff:')[1].split()[0])\n"
    )
    model = echo_model(entrypoint=("python", "-c", script), command=())
    await world.engine.start(worker_spec(world.instance, 1, model))
    assert (await evidence(world, "w-1")).log == (
        "/tmp/x written",
        "/srv/x Read-only file system",
        "/x Read-only file system",
        "/var/x Read-only file system",
        "uid 10001 0000000000000000",
    )


async def test_a_worker_may_listen_on_a_low_port(world: DockerHarness) -> None:
    """The catalogue's TGI listens on 80; with no capabilities that rests on Docker's own sysctl."""
    worker = await world.engine.start(worker_spec(world.instance, 1, echo_model(port=80)))
    await world.settle_healthy(worker)


async def manages_the_firewall() -> bool:
    """Whether Docker's chains are in force here; False too when they cannot be read."""
    if shutil.which("iptables") is None:
        return False
    listing = await asyncio.create_subprocess_exec(
        "iptables", "-S", "FORWARD", stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL
    )
    return b"DOCKER" in (await listing.communicate())[0]


async def test_workers_cannot_reach_each_other(world: DockerHarness) -> None:
    if not await manages_the_firewall():
        pytest.skip("this engine does not manage the firewall (--iptables=false), or it cannot be read here")
    victim = await started(world, 1)
    networks = (await inspected(world))["NetworkSettings"]["Networks"]
    address = networks[NETWORK]["IPAddress"]
    assert await http_healthy(address, 8000, "/health", 5.0), "the host itself reaches it at that address"
    script = (
        "import socket\n"
        "try:\n"
        f"    socket.create_connection(('{address}', 8000), 1); print('reached')\n"
        "except TimeoutError:\n"
        "    print('kept apart')\n"
    )
    model = echo_model(entrypoint=("python", "-c", script), command=())
    await world.engine.start(worker_spec(world.instance, 2, model))
    assert (await evidence(world, "w-2")).log == ("kept apart",)
    assert await world.engine.healthy(victim, "/health", 5.0)


async def test_a_missing_image_is_named_and_leaves_nothing(world: DockerHarness) -> None:
    model = echo_model(image="gpudeck/none:1")
    with pytest.raises(EngineError, match="`docker pull gpudeck/none:1`") as refusal:
        await world.engine.start(worker_spec(world.instance, 1, model))
    assert refusal.value.fault is Fault.IMAGE_MISSING
    assert await world.leftovers() == []


async def test_a_program_that_is_not_there_is_refused_and_leaves_nothing(world: DockerHarness) -> None:
    model = echo_model(entrypoint=("no-such-program",))
    # Under an init the engine starts the init, and it is the init that finds nothing: an exit, not a refusal.
    await world.engine.start(worker_spec(world.instance, 1, model))
    end = await evidence(world, "w-1")
    assert (end.cause, end.code) == (ExitCause.ERROR, 127)
    assert "no-such-program" in end.log[-1]


async def test_a_gpu_that_the_engine_cannot_give_is_explained(world: DockerHarness) -> None:
    spec = dataclasses.replace(
        worker_spec(world.instance, 1), gpu=GpuGrant(uuid="GPU-none", index=0, type="L40", simulated=False)
    )
    with pytest.raises(EngineError, match="NVIDIA") as refusal:
        await world.engine.start(spec)
    assert refusal.value.fault is Fault.GPU_UNAVAILABLE
    assert await world.leftovers() == [], "a created container would be taken for a worker about to start"


async def test_a_foreign_container_of_the_same_name_is_a_conflict(world: DockerHarness) -> None:
    spec = world.spec(1)
    foreign = await world.on_thread(
        lambda: world.api.create_container(IMAGE, name=spec.name, labels={"io.gpudeck.worker": spec.worker_id})
    )
    try:
        with pytest.raises(EngineError, match=spec.name) as refusal:
            await world.engine.start(spec)
        assert refusal.value.fault is Fault.NAME_CONFLICT
        still = await world.on_thread(lambda: world.api.inspect_container(foreign["Id"]))
        assert still["State"]["Status"] == "created", "what is not ours is left alone"
    finally:
        await world.on_thread(lambda: remove_by_force(world.api, foreign["Id"]))


async def test_a_created_container_of_ours_is_started(world: DockerHarness) -> None:
    """reliability.md O2: killed between create and start, the next orchestrator finds it and makes no twin."""
    spec = world.spec(1)
    await world.engine.start(world.spec(2))  # makes the network
    made = await world.on_thread(lambda: world.api.create_container_from_config(container_request(spec), spec.name))
    before = await world.engine.inspect("w-1")
    assert before is not None
    assert (before.started_ns, before.exit, before.port) == (None, None, None)
    worker = await world.engine.start(spec)
    assert worker.engine_ref == made["Id"][:12]
    await world.settle_healthy(worker)


async def test_a_created_container_can_be_stopped_and_removed(world: DockerHarness) -> None:
    spec = world.spec(1)
    await world.on_thread(lambda: world.api.create_container_from_config(container_request(spec), spec.name))
    end = await world.engine.stop("w-1", grace_s=1.0)
    assert end is not None
    assert (end.cause, end.at_ns) == (ExitCause.VANISHED, None)
    await world.engine.remove("w-1")
    assert await world.leftovers() == []


async def test_a_worker_that_ended_is_not_started_again(world: DockerHarness) -> None:
    await started(world)
    await world.crash("w-1", "exit3")
    await evidence(world, "w-1")
    again = await world.engine.start(world.spec(1))
    assert again.exit is not None
    assert again.exit.code == 3


async def test_a_renamed_container_is_still_ours(world: DockerHarness) -> None:
    worker = await started(world)
    await world.on_thread(lambda: world.api.rename(world.container("w-1"), f"{world.instance}-by-hand"))
    assert facts(await world.engine.start(world.spec(1))) == facts(worker)
    assert len(await world.leftovers()) == 1


async def test_another_instance_sees_and_touches_nothing(world: DockerHarness) -> None:
    await started(world)
    other = DockerEngine("other", system_now(), ADDRESS, secrets=world.secrets)
    try:
        assert await other.list_workers() == []
        assert await other.inspect("w-1") is None
        assert await other.stop("w-1", grace_s=0.0) is None
        await other.remove("w-1")
        with pytest.raises(EngineError, match="instance"):
            await other.start(world.spec(2))
    finally:
        await other.close()
    assert [worker.exit for worker in await world.engine.list_workers()] == [None]


async def test_a_running_worker_is_not_removed(world: DockerHarness) -> None:
    worker = await started(world)
    with pytest.raises(EngineError, match="stop it first") as refusal:
        await world.engine.remove("w-1")
    assert refusal.value.fault is Fault.REFUSED
    assert await world.engine.healthy(worker, "/health", 5.0)


async def test_removal_takes_anonymous_volumes_and_keeps_named_ones(world: DockerHarness) -> None:
    named = f"{world.instance}-cache"
    model = echo_model(volumes=({"name": named, "path": "/cache"},))
    await world.engine.start(worker_spec(world.instance, 1, model))
    try:
        await world.engine.stop("w-1", grace_s=5.0)
        await world.engine.remove("w-1")
        volumes = await world.on_thread(lambda: world.api.volumes()["Volumes"] or [])
        assert named in {volume["Name"] for volume in volumes}
    finally:
        await world.on_thread(lambda: world.api.remove_volume(named, force=True))


async def test_a_worker_that_ignores_sigterm_is_killed_after_its_grace(world: DockerHarness) -> None:
    model = echo_model(entrypoint=("python", "-c", DEAF), command=())
    await world.engine.start(worker_spec(world.instance, 1, model))
    await until_logged(world, "w-1", "deaf")
    end = await world.engine.stop("w-1", grace_s=0.3)
    assert end is not None
    assert (end.cause, end.code) == (ExitCause.SIGNAL, 137)
    assert end.log == ("deaf",)


async def test_a_paused_worker_is_shown_reported_and_can_be_stopped(world: DockerHarness) -> None:
    worker = await started_and_told(world)
    await world.on_thread(lambda: world.api.pause(world.container("w-1")))
    await until(lambda: ("w-1", None) in world.changes, what="the pause event")
    seen = await world.engine.inspect("w-1")
    assert seen is not None
    assert seen.paused
    assert seen.exit is None
    assert not await world.engine.healthy(worker, "/health", 0.3)
    end = await world.engine.stop("w-1", grace_s=1.0)
    assert end is not None
    assert end.at_ns is not None


async def test_a_restart_by_hand_is_reported_and_the_new_port_is_read(world: DockerHarness) -> None:
    await started_and_told(world)
    await world.on_thread(lambda: world.api.restart(world.container("w-1"), timeout=5))
    await until(lambda: ("w-1", None) in world.changes, what="the start event")
    seen = await world.engine.inspect("w-1")
    assert seen is not None
    assert seen.exit is None
    assert (seen.host, seen.port) == await world.on_thread(lambda: world.address("w-1"))
    await world.settle_healthy(seen)


async def test_a_container_removed_by_hand_still_leaves_evidence(world: DockerHarness) -> None:
    await started_and_told(world)
    await world.on_thread(lambda: remove_by_force(world.api, world.container("w-1")))
    await until(lambda: ("w-1", None) in world.changes, what="the destroy event")
    assert [end.code for end in exits(world, "w-1")] == [137]
    assert exits(world, "w-1")[0].at_ns is not None
    assert await world.engine.inspect("w-1") is None


async def test_log_lines_are_harmless(world: DockerHarness) -> None:
    script = r"print('\x1b]52;c;c2VjcmV0\x07[red]safe\x1b[2J'); print('x' * 100_000); print('end')"
    model = echo_model(entrypoint=("python", "-c", script), command=())
    await world.engine.start(worker_spec(world.instance, 1, model))
    await evidence(world, "w-1")
    lines = await world.engine.logs("w-1", tail=100)
    assert lines[0] == "[red]safe"
    assert lines[-1] == "end"
    assert all(len(line) <= 4_000 for line in lines)


async def test_stops_that_wait_hold_nobody_up(world: DockerHarness) -> None:
    """Nine graceful stops at once, more than there are call threads, and a list beside them is answered before any."""
    model = echo_model(entrypoint=("python", "-c", DEAF), command=(), memory_bytes=64 * MIB)
    await asyncio.gather(*(world.engine.start(worker_spec(world.instance, n, model)) for n in range(9)))
    await asyncio.gather(*(until_logged(world, f"w-{n}", "deaf") for n in range(9)))
    stops = [asyncio.create_task(world.engine.stop(f"w-{n}", grace_s=60.0)) for n in range(9)]
    await asyncio.sleep(0)
    try:
        async with asyncio.timeout(50):
            assert len(await world.engine.list_workers()) == 9
        assert not any(stop.done() for stop in stops)
    finally:
        for n in range(9):
            await world.on_thread(lambda n=n: world.api.kill(world.container(f"w-{n}"), "SIGKILL"))
        ends = await asyncio.gather(*stops)
    assert all(end is not None and end.code == 137 for end in ends)
