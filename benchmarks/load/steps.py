"""One step of the load: Locust with so many users for so long, and what became of what it uploaded."""

import contextlib
import resource
import subprocess
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.client import Client
from benchmarks.load.measured import Statistics, read
from graphs.service import Running

USERS_FILE = Path(__file__).with_name("users.py")
QUEUE = "load-worker"
_STOP_S, _DRAIN_S = 60, 600


@dataclass(frozen=True)
class Step:
    """What was measured.

    Args:
        generator_cores: processor seconds of Locust a second; it shares the machine with the service.
        accepted: uploads that were acknowledged.
        waiting: those of them that had not come to an end when the users stopped.
        drained_s: from then until the last had.
        ended: by status; those that never came to an end are missing.
    """

    users: int
    statistics: Statistics
    generator_cores: float
    accepted: int
    waiting: int
    drained_s: float
    ended: Counter[str]


class Locust:
    """Drives users.py against a running service.

    Args:
        program: Locust's command.
        pictures: folder that users draw from.
        folder: for what Locust writes.
        further: options that are passed on.
    """

    def __init__(
        self, program: Path, running: Running, pictures: Path, folder: Path, further: Sequence[str] = ()
    ) -> None:
        self._running, self._folder = running, folder
        self._command = [
            str(program), "-f", str(USERS_FILE), "--headless", "--only-summary", "--host", running.url,
            "--key-file", str(running.key_file), "--pictures", str(pictures), "--queue", QUEUE,
            "--stop-timeout", str(_STOP_S), "--exit-code-on-error", "0", *further,
        ]  # fmt: skip

    def step(self, users: int, seconds: float) -> Step:
        """Runs users for a while, then waits until their uploads have come to an end.

        Raises:
            RuntimeError: Locust failed; the message holds the end of what it said.
        """
        prefix = self._folder / f"{users}-users"
        acknowledged = prefix.with_suffix(".ids")
        acknowledged.touch()
        command = [
            *self._command, "--users", str(users), "--spawn-rate", str(users), "--run-time", f"{seconds:g}s",
            "--csv", str(prefix), "--acknowledged", str(acknowledged),
        ]  # fmt: skip
        spent = _children_s()
        begun = time.monotonic()
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
        took = time.monotonic() - begun
        if done.returncode:
            raise RuntimeError(f"Locust ended with {done.returncode}: {done.stdout[-2000:]}")
        cores = (_children_s() - spent) / took
        ids = [int(line) for line in acknowledged.read_text().split()]
        with Client(self._running.url, self._running.key) as client:
            begun = time.monotonic()
            waiting = len(ids) - len(client.finished(ids))
            with contextlib.suppress(TimeoutError):
                client.wait(ids, timeout_s=_DRAIN_S, pause_s=0.5, progress=lambda _: client.work_off(QUEUE))
            drained = time.monotonic() - begun
            ended = Counter(client.finished(ids).values())
        return Step(users, read(prefix), cores, len(ids), waiting, drained, ended)


def _children_s() -> float:
    """Processor seconds of the processes that were started here and have ended."""
    spent = resource.getrusage(resource.RUSAGE_CHILDREN)
    return spent.ru_utime + spent.ru_stime
