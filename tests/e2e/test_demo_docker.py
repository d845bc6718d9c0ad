"""The demo on a real Docker engine: the same result, hardened and labelled containers, and none left behind."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from tests.engine.docker_harness import client, missing
from tests.waiting import until_sync

pytestmark = pytest.mark.docker
LABEL = "io.gpudeck.endpoint=sketch"


def containers() -> list[str]:
    api = client()
    try:
        return [c["Id"] for c in api.containers(all=True, filters={"label": [LABEL]})]
    finally:
        api.close()


def inspected(container: str) -> dict[str, Any]:
    api = client()
    try:
        found: dict[str, Any] = api.inspect_container(container)
        return found
    finally:
        api.close()


def test_the_demo_runs_in_containers_and_leaves_none() -> None:
    problem = missing()
    if problem is not None:
        pytest.skip(problem)
    before = set(containers())
    argv = [sys.executable, "-m", "app", "demo", "--headless", "-o", "json", "--engine", "docker"]
    demo = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    until_sync(lambda: set(containers()) - before or demo.poll() is not None, 60, "a container of the demo")
    seen = [inspected(container) for container in set(containers()) - before]
    out, talk = demo.communicate(timeout=240)
    assert demo.returncode == 0, talk
    report = json.loads(out)
    assert report["engine"] == "docker"
    assert report["ok"]
    assert report["requests"]["failed"] == 0
    assert len(report["per_worker"]) == 2
    assert report["ledger_verified"]
    assert set(containers()) == before
    assert seen, talk
    for container in seen:
        labels, host = container["Config"]["Labels"], container["HostConfig"]
        assert labels["io.gpudeck.worker"].startswith("sketch-")
        assert labels["io.gpudeck.interval"].endswith(".1")
        assert host["CapDrop"] == ["ALL"]
        assert "no-new-privileges:true" in host["SecurityOpt"]
        assert host["ReadonlyRootfs"] is True
        assert host["AutoRemove"] is False
        assert host["PidsLimit"] > 0
        assert host["Memory"] > 0
        bindings = [b for ports in host["PortBindings"].values() for b in ports]
        assert [b["HostIp"] for b in bindings] == ["127.0.0.1"]
