"""Errors of other deployments as the ingress meets them, on a real Ray of this test's own."""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

from deployments.ingress.remote import call, check_networks
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
    assert found["crowd"] == ["Crowded", "Unavailable"], "turned away, or waiting for too long"
    assert found["mistake"][0] == "RayTaskError(ValueError)"


@pytest.mark.parametrize("others", [{}, {"STARTING": 1, "STOPPING": 2}])
@pytest.mark.parametrize("state", ["RUNNING", "PENDING_MIGRATION"])
def test_networks_answer_while_one_replica_does(state: str, others: dict[str, int]) -> None:
    check_networks(
        {"Pipeline": {state: 1} | others, "Embedder": {"RUNNING": 2}, "Detector": {"RUNNING": 1}, "Ingress": {}}
    )


@pytest.mark.parametrize(
    "replicas", [{}, {"RUNNING": 0}, {"STARTING": 1, "STOPPING": 1}, {"RECOVERING": 1}, {"UPDATING": 1}]
)
def test_networks_that_do_not_answer_are_named(replicas: dict[str, int]) -> None:
    with pytest.raises(Unavailable, match=r"^no replica runs: Pipeline, Detector$"):
        check_networks({"Pipeline": replicas, "Embedder": {"RUNNING": 1}})


class Endless:
    """A call that gives no answer, as far as ``call`` uses one of Serve's."""

    def __init__(self) -> None:
        self.cancelled = False

    def remote(self) -> "Endless":
        return self

    def __await__(self) -> Generator[Any, None, None]:
        return asyncio.sleep(3600).__await__()

    def cancel(self) -> None:
        self.cancelled = True


@pytest.mark.parametrize("stop", [True, False])
async def test_a_call_that_nobody_waits_for_is_stopped_unless_it_must_go_on(stop: bool) -> None:
    late, left = Endless(), Endless()
    with pytest.raises(Unavailable):
        await call(late, 0.05, stop=stop)
    task = asyncio.create_task(call(left, 3600, stop=stop))
    await asyncio.sleep(0.05)
    task.cancel()  # as when the client has gone
    with pytest.raises(asyncio.CancelledError):
        await task
    assert late.cancelled is left.cancelled is stop
