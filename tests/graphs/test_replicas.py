"""Replicas one by one, as Serve tells of them; a process is taken for a replica's only where its title says so."""

import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from graphs import replicas
from graphs.cluster import RayCluster
from storage.errors import ConfigurationError, NotFound


def serve(pid: int, node: str = "127.0.0.1") -> dict[str, Any]:
    one = {"replica_id": "ab12", "state": "RUNNING", "node_ip": node, "pid": pid, "start_time_s": 5.0}
    waiting = {"replica_id": "cd34", "state": "STARTING", "node_ip": None, "pid": None, "start_time_s": 6.0}
    return {"safeguard": {"deployments": {"Embedder": {"replicas": [one, waiting]}, "Detector": {"replicas": []}}}}


@pytest.fixture
def process() -> Any:
    """A process with the title of an embedder replica, as Ray gives it."""
    code = "import time; time.sleep(60)"
    made = subprocess.Popen(["ray::ServeReplica:safeguard:Embedder", "-c", code], executable=sys.executable)
    yield made
    made.kill()
    made.wait()


def led(monkeypatch: pytest.MonkeyPatch, applications: dict[str, Any]) -> None:
    monkeypatch.setattr(RayCluster, "applications", lambda self: applications)


def test_each_is_shown_with_what_its_process_does(
    process: subprocess.Popen[bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    led(monkeypatch, serve(process.pid))
    process.send_signal(signal.SIGSTOP)
    running, waiting = replicas.replicas(tmp_path)
    assert (running.deployment, running.id, running.node, running.pid) == ("Embedder", "ab12", "127.0.0.1", process.pid)
    assert running.activity is not None and running.activity.state == "stopped" and running.activity.cpu < 0.5
    assert waiting.activity is None and waiting.pid is None
    (only,) = replicas.replicas(tmp_path, "cd34")
    assert only.id == "cd34"
    with pytest.raises(NotFound, match="no replica ef56"):
        replicas.replicas(tmp_path, "ef56")


def test_one_is_ended(process: subprocess.Popen[bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    led(monkeypatch, serve(process.pid))
    assert replicas.end(tmp_path, "ab12").pid == process.pid
    assert process.wait(timeout=10) == -9


def test_a_process_that_is_no_replica_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = subprocess.Popen(["sleep", "60"])
    try:
        led(monkeypatch, serve(other.pid))
        with pytest.raises(ConfigurationError, match=rf"on 127\.0\.0\.1, kill -9 {other.pid}"):
            replicas.end(tmp_path, "ab12")
        with pytest.raises(NotFound):
            replicas.end(tmp_path, "ef56")
        time.sleep(0.1)
        assert other.poll() is None
    finally:
        other.kill()
        other.wait()


def test_a_namesake_of_another_machine_is_left_alone(
    process: subprocess.Popen[bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    led(monkeypatch, serve(process.pid, "192.0.2.7"))
    running, _ = replicas.replicas(tmp_path)
    assert running.node == "192.0.2.7" and running.activity is None
    with pytest.raises(ConfigurationError, match=rf"on 192\.0\.2\.7, kill -9 {process.pid}"):
        replicas.end(tmp_path, "ab12")
    time.sleep(0.1)
    assert process.poll() is None
