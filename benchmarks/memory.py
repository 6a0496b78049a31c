"""The memory of an installation by kind of process: all of it, those too that Ray names otherwise."""

import time
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import psutil

from benchmarks.processes import SANDBOX, part_of
from configs.settings import Settings
from graphs.doctor import processes

_OTHERS = (
    ("deployments.vision.sandboxed", SANDBOX),
    ("graphs.backfill", "job: runner"),
    ("MapBatches(ReaderAndDescriber", "job: reading and networks"),
    ("MapBatches(Matcher", "job: matching"),
    ("MapWorker", "job: writing"),
    ("ray-dashboard-", "dashboard"),
    ("multiprocessing.", "dashboard"),
)
"""What is no part by its name, by what the beginning of its command line has in it."""
_BEGINNING = 4
"""Arguments that say what runs (``python -B -c …``); those after them name the programs of others."""
_WINDOW_S = 5.0


@dataclass(frozen=True)
class Memory:
    """What some processes hold.

    Args:
        count: processes.
        pss_mib: proportional set size: pages that several share are divided among them.
        rss_mib: resident set sizes added up: pages that several share count for each.
    """

    count: int = 0
    pss_mib: float = 0.0
    rss_mib: float = 0.0

    def __add__(self, other: "Memory") -> "Memory":
        return Memory(self.count + other.count, self.pss_mib + other.pss_mib, self.rss_mib + other.rss_mib)


def kind_of(name: str, command: Sequence[str]) -> str:
    """The part that a process is, or what it is there for.

    Args:
        name: of the program.
        command: with its arguments.
    """
    if name in ("postgres", "weed"):
        return "PostgreSQL" if name == "postgres" else "S3"
    begins = " ".join(command[:_BEGINNING])
    other = next((kind for part, kind in _OTHERS if part in begins), "Ray's agents and helpers")
    return part_of(name, command[:_BEGINNING]) or other


def memory(settings: Settings) -> dict[str, Memory]:
    """What each kind of process of an installation holds now.

    Raises:
        psutil.AccessDenied: processes of another user, such as the servers', may not be looked at, as in some containers.
    """
    found: defaultdict[str, Memory] = defaultdict(Memory)
    for process in processes(settings):
        try:
            kind, held = kind_of(process.name(), process.cmdline()), process.memory_full_info()
        except psutil.NoSuchProcess:
            continue
        found[kind] += Memory(1, held.pss / 2**20, held.rss / 2**20)
    return dict(found)


def cpu_s(settings: Settings) -> dict[tuple[str, int, float], float]:
    """Processor time, seconds, that each process has used, by kind, number and start."""
    spent = {}
    for process in processes(settings):
        try:
            kind = kind_of(process.name(), process.cmdline())
            spent[kind, process.pid, process.create_time()] = sum(process.cpu_times()[:2])
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return spent


def cores(
    before: Mapping[tuple[str, int, float], float], now: Mapping[tuple[str, int, float], float], seconds: float
) -> dict[str, float]:
    """Cores that each kind of process used between two readings; of one that has ended meanwhile nothing is known."""
    used: defaultdict[str, float] = defaultdict(float)
    for key, spent in now.items():
        used[key[0]] += (spent - before.get(key, 0.0)) / seconds
    return dict(used)


def wait_until_quiet(settings: Settings, *, most: float = 0.5, windows: int = 3, timeout_s: float = 180.0) -> float:
    """Waits until an installation has used less than ``most`` cores for ``windows`` times five seconds running.

    Returns:
        Cores it used in the last five seconds, also where it did not become quiet in time.
    """
    end, quiet, used = time.monotonic() + timeout_s, 0, float("inf")
    before, at = cpu_s(settings), time.monotonic()
    while quiet < windows and time.monotonic() < end:
        time.sleep(_WINDOW_S)
        now, then = cpu_s(settings), time.monotonic()
        used = sum(cores(before, now, then - at).values())
        before, at = now, then
        quiet = quiet + 1 if used < most else 0
    return used


def total(found: Iterable[Memory]) -> Memory:
    """All of it together."""
    return sum(found, Memory())
