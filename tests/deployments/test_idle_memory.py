"""Freed memory goes back when a process has nothing to do, and not while it works."""

import os
import platform
import subprocess
import sys

import pytest

PROGRAM = """
import time
import psutil
from deployments import idle_memory

class Clock:  # while it works, it has used the processor at each look, however little of it this machine has to give
    working, looks, used = True, 0, 0.0
    sleep = staticmethod(time.sleep)

    def process_time(self):
        self.looks += 1
        self.used += 10.0 * self.working
        return self.used + time.process_time()

def held():
    return psutil.Process().memory_info().rss / 2**20

idle_memory.time = clock = Clock()
idle_memory.IdleTrimmer(every_s=0.3).start()
kept = [b"x" * (50_000 + number) for number in range(4000)]
last = b"x" * 50_000  # above all that is freed, so that the allocator cannot shrink its heap by itself
full = held()
del kept
looks = clock.looks
while clock.looks < looks + 6:  # two a period
    time.sleep(0.05)
freed = held()
clock.working = False
end = time.monotonic() + 60
while held() > full - 100 and time.monotonic() < end:
    time.sleep(0.2)
print(full, freed, held())
"""

OF_A_THREAD = """
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from deployments import idle_memory

def work():
    bytes(30 * 2**20)  # from now on the C library keeps twice that, the 54 MiB of the next line too
    [b"x" * (70_000 + number) for number in range(800)]

if sys.argv[1:]:
    idle_memory.give_back_when_idle()
with ThreadPoolExecutor(1) as pool:
    pool.submit(work).result()
    lines = Path("/proc/self/status").read_text().splitlines()
    print(*(int(line.split()[1]) / 2**10 for line in lines if line.startswith(("VmHWM", "VmRSS"))))
"""


def _run(program: str, *arguments: str) -> list[float]:
    """The numbers that it prints, MiB, with the allocator as it comes."""
    tuned = ("GLIBC_TUNABLES", "LD_PRELOAD", "MALLOC_")
    plain = {name: value for name, value in os.environ.items() if not name.startswith(tuned)}
    command = [sys.executable, "-c", program, *arguments]
    done = subprocess.run(command, env=plain, capture_output=True, text=True, check=True)
    return [float(word) for word in done.stdout.split()]


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="its allocator is another")
def test_freed_memory_goes_back_once_idle() -> None:
    full, freed, idle = _run(PROGRAM)
    assert full - freed < 100, "it works, and the allocator gives nothing back by itself"
    assert full - idle > 100


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="its allocator is another")
def test_the_heap_of_a_thread_goes_back_at_once() -> None:
    given_back = []
    for tuned in ([], ["tuned"]):
        full, freed = _run(OF_A_THREAD, *tuned)
        given_back.append(full - freed)
    as_it_comes, tuned_mib = given_back
    assert tuned_mib > 30 > as_it_comes + 10, given_back
