"""What is planted: a slow replica, a full disk, a poison image. Each knows its own name, by which it must be found."""

import contextlib
import os
import re
import signal
import struct
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any, Protocol

import httpx
import psutil

from benchmarks.client import Client
from benchmarks.disks import Disk
from graphs.cluster import RayCluster
from graphs.replicas import Replica, replicas_of
from graphs.service import Running

Series = Sequence[dict[str, Any]]
"""What Prometheus answers to a query: labels and a value each."""


class Cause(Protocol):
    """One cause."""

    title: str

    def plant(self) -> str:
        """Begins; returns what was planted where, for the protocol. Only the judge of the drill knows it."""

    def shown(self, series: Series) -> bool:
        """Whether a panel's query shows it."""

    def named(self, text: str) -> bool:
        """Whether what a command printed names it."""

    def mend(self, run: Callable[[], str]) -> str:
        """Ends it as an operator would; returns what was done.

        Args:
            run: runs the commands by which the runbook mends it, and returns what they were; nothing where it has none.
        """

    def stop(self) -> None:
        """Ends it for certain."""


def value(one: Mapping[str, Any]) -> float:
    """The number of one series."""
    return float(one["value"][1])


@dataclass
class SlowReplica:
    """One of several replicas gets the processor for a few milliseconds a third of a second."""

    running: Running
    deployment: str
    title: str = "a slow replica"
    on_s: float = 0.01
    off_s: float = 0.3
    victim: Replica | None = None
    _end: threading.Event = field(default_factory=threading.Event)

    def plant(self) -> str:
        found = [
            one
            for one in replicas_of(RayCluster(self.running.settings).applications())
            if one.deployment == self.deployment and one.state == "RUNNING" and one.pid
        ]
        if len(found) < 2:
            raise RuntimeError(
                f"{self.deployment} has {len(found)} replicas; one can be slower than another from two on"
            )
        self.victim = found[0]
        threading.Thread(target=self._starve, args=(found[0].pid,), daemon=True).start()
        share = self.on_s / (self.on_s + self.off_s)
        return f"{self.deployment} {found[0].id} (process {found[0].pid}) gets {share:.0%} of the time"

    def _starve(self, pid: int) -> None:
        try:
            while not self._end.is_set():
                os.kill(pid, signal.SIGSTOP)
                time.sleep(self.off_s)
                os.kill(pid, signal.SIGCONT)
                time.sleep(self.on_s)
        except ProcessLookupError:
            return

    def shown(self, series: Series) -> bool:
        assert self.victim is not None
        of_deployment = [one for one in series if one["metric"].get("deployment") == self.deployment and value(one) > 0]
        return bool(of_deployment) and max(of_deployment, key=value)["metric"].get("replica") == self.victim.id

    def named(self, text: str) -> bool:
        assert self.victim is not None
        return self.victim.id in text and str(self.victim.pid) in text

    def mend(self, run: Callable[[], str]) -> str:
        said = run()
        assert self.victim is not None and self.victim.pid is not None
        psutil.wait_procs([psutil.Process(self.victim.pid)] if psutil.pid_exists(self.victim.pid) else [], timeout=20)
        if psutil.pid_exists(self.victim.pid):
            raise RuntimeError(f"{said}: process {self.victim.pid} lives on")
        return said

    def stop(self) -> None:
        self._end.set()
        if self.victim is not None and self.victim.pid is not None and psutil.pid_exists(self.victim.pid):
            os.kill(self.victim.pid, signal.SIGCONT)


@dataclass
class FullDisk:
    """The disk of the S3 server has no room."""

    disk: Disk
    title: str = "a full disk"

    def plant(self) -> str:
        self.disk.fill()
        return f"{self.disk.folder}, where the S3 server stores, is full"

    def shown(self, series: Series) -> bool:
        return any(one["metric"].get("part") == "s3" and value(one) < 2**20 for one in series)

    def named(self, text: str) -> bool:
        lines = [" ".join(line.split()) for line in text.splitlines()]
        return any("bad" in line and "0 MiB of" in line and str(self.disk.folder) in line for line in lines)

    def mend(self, run: Callable[[], str]) -> str:
        run()
        self.disk.empty()
        return "room was made"

    def stop(self) -> None:
        self.disk.empty()


def poison(width: int = 6000, height: int = 4500) -> bytes:
    """A BMP that ends after its first lines: too large for an upload to decode it, so that processing finds the damage."""
    pixels = bytes(range(240)) * 100
    header = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 24, 0, 3 * width * height, 2835, 2835, 0, 0)
    return b"BM" + struct.pack("<IHHI", 14 + len(header) + 3 * width * height, 0, 0, 14 + len(header)) + header + pixels


@dataclass
class PoisonImage:
    """A client sends the same file, which can never be processed, again and again."""

    running: Running
    pause_s: float = 1.0
    title: str = "a poison image"
    ids: list[int] = field(default_factory=list)
    data: bytes = field(default_factory=poison)
    _end: threading.Event = field(default_factory=threading.Event)

    def plant(self) -> str:
        threading.Thread(target=self._send, daemon=True).start()
        return f"a client sends {sha256(self.data).hexdigest()[:16]}… every {self.pause_s:g} s"

    def _send(self) -> None:
        with Client(self.running.url, self.running.key) as client:
            while not self._end.is_set():
                with contextlib.suppress(httpx.HTTPError, RuntimeError):
                    self.ids.append(client.upload("poison.bmp", self.data))
                self._end.wait(self.pause_s)

    def shown(self, series: Series) -> bool:
        return any(one["metric"].get("outcome") == "failed" and value(one) > 0 for one in series)

    def named(self, text: str) -> bool:
        words = set(re.findall(r"\w+", text))
        return sha256(self.data).hexdigest()[:16] in words and any(str(one) in words for one in self.ids)

    def mend(self, run: Callable[[], str]) -> str:
        run()
        self.stop()
        return "its sender was stopped"

    def stop(self) -> None:
        self._end.set()
