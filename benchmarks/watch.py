"""What the processes of an installation spend: processor seconds by kind, and the memory of a bulk job's processes."""

import threading
import time
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from benchmarks.memory import kind_of


@dataclass
class Spent:
    """Processor seconds and peak memory of an installation's processes, by kind, while it is watched."""

    cpu_s: dict[str, float] = field(default_factory=dict)
    job_mib: float = 0.0


class Watch(threading.Thread):
    """Looks at all processes of an installation every second."""

    def __init__(self, home: Path) -> None:
        super().__init__(daemon=True)
        self._home, self._end = home, threading.Event()
        self._first: dict[tuple[int, float], float] = {}
        self._last: dict[tuple[int, float], tuple[str, float]] = {}
        self._peak = self._recent = 0.0

    def run(self) -> None:
        begun = time.time()
        while not self._end.is_set():
            self._look(begun)
            self._end.wait(1.0)

    def _look(self, begun: float) -> None:
        job_mib = 0.0
        for process in psutil.process_iter():
            try:
                command = process.cmdline()
                if str(self._home) not in " ".join(command) and process.environ().get("SAFEGUARD_HOME") != str(
                    self._home
                ):
                    continue
                times, key = process.cpu_times(), (process.pid, process.create_time())
                kind = kind_of(process.name(), command)
                used = times.user + times.system
                self._first.setdefault(key, 0.0 if process.create_time() >= begun else used)
                self._last[key] = (kind, used)
                if kind.startswith("job"):
                    job_mib += process.memory_full_info().pss / 2**20
            except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
                continue
        self._peak, self._recent = max(self._peak, job_mib), max(self._recent, job_mib)

    def recent_job_mib(self) -> float:
        """The most memory of the job's processes together since the last call, MiB of proportional set size."""
        recent, self._recent = self._recent, 0.0
        return recent

    def close(self) -> Spent:
        """Ends; what was spent since it began."""
        self._end.set()
        self.join()
        spent: defaultdict[str, float] = defaultdict(float)
        for key, (kind, used) in self._last.items():
            spent[kind] += used - self._first[key]
        return Spent(dict(spent), self._peak)
