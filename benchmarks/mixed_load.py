"""Clients that search, upload, read and list until they are told to stop; what they saw is kept by phase."""

import itertools
import random
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import httpx
import numpy as np

from benchmarks.client import Client
from graphs.service import Running

Item = tuple[str, bytes]
KINDS = ("search", "upload", "read", "list")


@dataclass
class Phase:
    """What the clients saw in one stretch of time: answers by kind in milliseconds, and the requests that failed."""

    name: str
    times_ms: defaultdict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    failures: list[str] = field(default_factory=list)
    versions: Counter[str] = field(default_factory=Counter)
    """How many searches had evidence of which descriptors."""

    def quantile(self, kind: str, share: float) -> float:
        """Milliseconds; NaN where nothing was answered."""
        times = self.times_ms.get(kind)
        return float(np.quantile(times, share)) if times else float("nan")

    def failed(self) -> Counter[str]:
        """Failures by kind of request."""
        return Counter(one.partition(":")[0] for one in self.failures)


class Load:
    """Clients, a thread each; each pauses after an answer.

    Args:
        running: the service.
        data: pictures; what is uploaded differs from them in its last bytes, so that no two uploads are the same.
        clients: how many of each kind.
        pauses_s: after an answer, by kind.
        stored: ids that may be read from the beginning on.
    """

    def __init__(
        self, running: Running, data: list[Item], clients: Mapping[str, int], pauses_s: Mapping[str, float],
        stored: list[int] | None = None,
    ) -> None:  # fmt: skip
        self._running, self._data, self._pauses_s = running, data, pauses_s
        self._stored = list(stored or [])
        self.phase = Phase("start")
        self.ids: list[int] = []
        self._end = threading.Event()
        self._numbers = itertools.count()
        calls: dict[str, Callable[[Client, random.Random, Phase], None]] = {
            "search": self._search, "upload": self._upload, "read": self._read, "list": self._list,
        }  # fmt: skip
        kinds = [kind for kind in KINDS for _ in range(clients.get(kind, 0))]
        self._threads = [
            threading.Thread(target=self._work, args=(kind, calls[kind], seed)) for seed, kind in enumerate(kinds)
        ]
        for thread in self._threads:
            thread.start()

    def enter(self, name: str) -> Phase:
        """Begins a new phase; returns it. An answer counts for the phase in which it was asked for."""
        self.phase = Phase(name)
        return self.phase

    def close(self) -> None:
        """Ends all clients."""
        self._end.set()
        for thread in self._threads:
            thread.join()

    def _work(self, kind: str, call: Callable[[Client, random.Random, Phase], None], seed: int) -> None:
        draw = random.Random(seed)
        with Client(self._running.url, self._running.key) as client:
            while not self._end.is_set():
                phase, begun = self.phase, time.perf_counter()
                try:
                    call(client, draw, phase)
                    phase.times_ms[kind].append(1000 * (time.perf_counter() - begun))
                except Exception as error:  # whatever a client meets is told
                    said = error.response.text[:200] if isinstance(error, httpx.HTTPStatusError) else ""
                    phase.failures.append(f"{kind}: {type(error).__name__}: {error} {said}")
                self._end.wait(self._pauses_s.get(kind, 0.0))

    def _search(self, client: Client, draw: random.Random, phase: Phase) -> None:
        found = client.search(*draw.choice(self._data))
        names = {one["evidence"]["descriptor"]["name"] for one in found if "descriptor" in one["evidence"]}
        if names:
            phase.versions["+".join(sorted(names))] += 1

    def _upload(self, client: Client, draw: random.Random, phase: Phase) -> None:
        number = next(self._numbers)
        name, content = draw.choice(self._data)
        self.ids.append(client.upload(f"up-{number}-{name}", content + number.to_bytes(4, "big")))

    def _read(self, client: Client, draw: random.Random, phase: Phase) -> None:
        known = self._stored + self.ids
        if known:
            client.get(f"/image/{draw.choice(known)}")

    def _list(self, client: Client, draw: random.Random, phase: Phase) -> None:
        client.get("/image/all", status="PROCESSED", limit=200)
