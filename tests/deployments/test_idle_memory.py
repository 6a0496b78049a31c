"""Freed memory goes back when a process has nothing to do, and not while it works."""

import subprocess
import sys

import pytest

PROGRAM = """
import threading, time
import psutil
from deployments.idle_memory import IdleTrimmer, give_back_when_idle

def held():
    return psutil.Process().memory_info().rss / 2**20

{start}
kept = [bytes(50_000) for _ in range(4000)]
last = bytes(50_000)  # above all that is freed, so that the allocator cannot shrink its heap by itself
end = time.process_time() + 1.2
while time.process_time() < end:
    pass
full = held()
del kept
freed = held()
time.sleep(1.5)
print(full, freed, held())
"""
START = "trimmer = IdleTrimmer(every_s=0.3); trimmer.start()"


def run(start: str) -> list[float]:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(start=start)], capture_output=True, text=True, check=True
    )
    return [float(word) for word in done.stdout.split()]


@pytest.mark.skipif(sys.platform != "linux", reason="malloc_trim is glibc's")
def test_freed_memory_goes_back_once_idle() -> None:
    full, freed, idle = run(START)
    assert full - freed < 100 < full - idle
    full, freed, idle = run("")
    assert full - idle < 100, "the allocator gives it back by itself: nothing needs to be done"
