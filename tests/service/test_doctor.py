"""The doctor of the running service: nothing to mend as it was installed, and each thing that is opened is told."""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from graphs.cluster import RayCluster
from graphs.doctor import processes
from graphs.doctor_ports import listening
from graphs.service import Running
from tests.graphs.commands.conftest import run

pytestmark = pytest.mark.service
OWN_TO_THIS_MACHINE = {"disk", "isolation", "versions"}
"""What a full disk, an old kernel and other packages say: nothing about the installation."""


def told(service: Running) -> tuple[int, list[dict[str, Any]]]:
    """Exit code and findings of the command."""
    code, output = run(service.settings.home, "doctor", "--json")
    return code, [one for one in json.loads(output) if one["area"] not in OWN_TO_THIS_MACHINE]


def bad(findings: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [one for one in findings if one["level"] == "bad"]


def test_as_it_was_installed_nothing_must_be_mended(service: Running) -> None:
    _, findings = told(service)
    assert not bad(findings), findings
    notes = [one["what"] for one in findings if one["level"] == "note"]
    # What tests of this folder set, and what comes with any installation on one machine.
    expected = ("webhooks may lead into 127.0.0.1/32", "open to the network (Ray's workers", "never expires")
    assert all(any(part in note for part in expected) for note in notes), notes
    assert any("on loopback" in one["what"] for one in findings if one["area"] == "ports")
    found = listening(service.settings.home, processes(service.settings))
    assert {"http", "postgresql", "s3_s3", "ray_gcs", "ray_dashboard", "ray_worker"} <= {one.name for one in found}
    assert all(one.local or one.name == "ray_worker" for one in found)


@contextmanager
def port_of_the_installation(service: Running) -> Iterator[int]:
    """A process of the installation, as the doctor knows them, that listens on every interface."""
    code = (
        "import socket, time\n"
        "with socket.create_server(('0.0.0.0', 0)) as server:\n"
        "    print(server.getsockname()[1], flush=True); time.sleep(120)"
    )
    folder = RayCluster(service.settings).environment()["RAY_TMPDIR"]
    process = subprocess.Popen([sys.executable, "-c", code, folder], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield int(process.stdout.readline())
    finally:
        process.kill()
        process.communicate()


def test_a_port_that_is_open_to_the_network_is_told(service: Running) -> None:
    with port_of_the_installation(service) as port:
        code, findings = told(service)
        (finding,) = bad(findings)
        assert code == 1 and finding["area"] == "ports"
        assert f"0.0.0.0:{port}" in finding["what"] and f"close port {port}" in finding["do"]
    assert not bad(told(service)[1])


@pytest.mark.parametrize("name", ["admin.key", "ray.token", "settings.env"])
def test_a_secret_that_others_can_read_is_told(service: Running, name: str) -> None:
    path = service.settings.home / name
    before = path.stat().st_mode
    path.chmod(0o644)
    try:
        code, findings = told(service)
        (finding,) = bad(findings)
        assert code == 1 and finding["area"] == "files" and finding["do"] == f"chmod 600 {path}"
    finally:
        path.chmod(before)
    assert not bad(told(service)[1])
