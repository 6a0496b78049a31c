"""What a process has freed goes back to the system while it has nothing to do. May import the standard library only."""

import ctypes
import threading
import time
from collections.abc import Callable

_LOOK_S = 10.0
_THRESHOLDS = {-1: 4 * 2**20, -3: 32 * 2**20}
"""Of mallopt(3), in bytes: M_TRIM_THRESHOLD, which is what may lie free at the end of a heap, and M_MMAP_THRESHOLD, from where
on a block is mapped by itself. Of itself the C library raises the second to the largest block ever freed, 32 MiB at most, and
the first to twice that: each thread that had held a picture kept a heap of up to 64 MiB, whose end ``malloc_trim`` leaves
(docs/operations.md, "Memory at rest")."""
_IDLE = 0.1
"""Share of a core below which a process has nothing to do; at rest a replica takes some 0.02 for its health and its metrics."""


class IdleTrimmer(threading.Thread):
    """Lets the C library give back free memory once a process has become idle after work; while it works, nothing is done.

    Batches of pictures and networks take and free hundreds of MiB, which the allocator keeps for the next time.

    Args:
        release: frees what the process itself keeps for later.
        every_s: seconds between two looks at what the process does.
    """

    def __init__(self, release: Callable[[], None] | None = None, every_s: float = _LOOK_S) -> None:
        super().__init__(name="idle-memory", daemon=True)
        self._release, self._every_s = release, every_s
        self._trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc has it

    def run(self) -> None:
        worked, before = True, time.process_time()  # a start is work too
        while self._trim is not None:
            time.sleep(self._every_s)
            now = time.process_time()
            idle = now - before < _IDLE * self._every_s
            if idle and worked:
                if self._release is not None:
                    self._release()
                self._trim(0)
            worked, before = not idle, time.process_time()


def give_back_when_idle(release: Callable[[], None] | None = None) -> None:
    """For the process of a replica, before it works; heaps of threads stay short from then on; see ``IdleTrimmer``."""
    tune = getattr(ctypes.CDLL(None), "mallopt", None)  # glibc has it
    if tune is not None:
        for parameter, value in _THRESHOLDS.items():
            tune(parameter, value)
    IdleTrimmer(release).start()
