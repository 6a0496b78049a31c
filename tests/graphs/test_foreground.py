"""Staying in the foreground: told to end, or left alone by Ray, everything is stopped; a process stands in for Ray's head."""

import subprocess
import sys
import time
from pathlib import Path
from uuid import uuid4

import psutil
import pytest

from storage.embedded.process import ManagedProcess

ROOT = Path(__file__).parents[2]
STAY = """
import sys; from pathlib import Path; from graphs.foreground import stay
print('here', flush=True); sys.exit(stay(Path({0!r})))
"""


@pytest.mark.parametrize("told", [True, False], ids=["told", "left alone"])
def test_everything_is_stopped(home: Path, told: bool) -> None:
    folder = home / uuid4().hex[:8]
    folder.mkdir()
    head = ManagedProcess(folder, "ray")
    head.start(["/bin/sleep", "300"])
    assert head.pid is not None
    sleeping = psutil.Process(head.pid)
    with subprocess.Popen(
        [sys.executable, "-c", STAY.format(str(folder))], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as staying:
        assert staying.stdout is not None and staying.stdout.readline() == b"here\n"
        time.sleep(1.0)  # time in which it could end by mistake, and in which it sets up its signals
        assert staying.poll() is None and sleeping.is_running()
        (staying if told else sleeping).terminate()
        assert staying.wait(60) == (0 if told else 1)
    head.wait(lambda: not head.alive, 5.0)
    assert not head.alive and not head.crashed
