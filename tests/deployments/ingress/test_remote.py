"""Errors of other deployments as the ingress meets them, on a real Ray of this test's own."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from deployments.ingress.remote import check_networks
from storage.errors import Unavailable

SCRIPT = Path(__file__).with_name("remote_calls.py")


@pytest.mark.service
def test_errors_of_other_deployments_become_ours() -> None:
    root = SCRIPT.parents[3]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    environment |= {"PYTHONPATH": str(root), "RAY_USAGE_STATS_ENABLED": "0"}
    command = [sys.executable, "-m", "tests.deployments.ingress.remote_calls"]
    done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, timeout=180, check=False)
    lines = [line for line in done.stdout.splitlines() if line.startswith("RESULT ")]
    assert lines, done.stdout[-2000:] + done.stderr[-2000:]
    found = json.loads(lines[0].removeprefix("RESULT "))
    assert found["fine"] == ["", "fine", None]
    assert found["ours"] == ["UnsupportedImage", "damaged there", None]
    assert found["field"] == ["InvalidInput", "bad", "k"]
    for what in ("outage", "slow", "death"):
        assert found[what][:2] == ["Unavailable", "a part of the service does not answer; try again"], what
    assert found["stopped"] == ["", "1", None], "what nobody waits for any more is stopped"
    assert found["crowd"] == ["Unavailable"]
    assert found["mistake"][0] == "RayTaskError(ValueError)"


@pytest.mark.parametrize("state", ["HEALTHY", "UPSCALING", "DOWNSCALING"])
def test_networks_answer_while_replicas_come_and_go(state: str) -> None:
    check_networks({"Pipeline": state, "Embedder": "HEALTHY", "Detector": "HEALTHY", "Ingress": "UNHEALTHY"})


@pytest.mark.parametrize("state", ["UPDATING", "UNHEALTHY", "DEPLOY_FAILED"])
def test_networks_that_do_not_answer_are_named(state: str) -> None:
    with pytest.raises(Unavailable, match=r"^not healthy: Pipeline, Detector$"):
        check_networks({"Pipeline": state, "Embedder": "HEALTHY", "Detector": state})
