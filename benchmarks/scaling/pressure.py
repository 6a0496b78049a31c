"""Past capacity: as many clients as fill the service and eight times as many, in turns; who is turned away, and what the rest
get. Phases at capacity around each one past it show what the machine, and all that was stored meanwhile, change by themselves."""

import argparse
import asyncio
import contextlib
import itertools
import json
import os
import random
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import numpy as np
import psutil
from rich.console import Console
from rich.table import Table
from sqlalchemy import text

from benchmarks.client import Client
from benchmarks.memory import cores, cpu_s, memory
from configs.settings import Settings
from graphs.service import Running
from storage.database import create_engine

MODEL = "safeguard-v1"
CLIENTS = {"upload": 8, "search": 8}
"""At capacity: the queue is full of what these upload, and two pipelines have these searches in work."""
_PLURAL = {"upload": "uploads", "search": "searches"}
_LIMIT_S = 120.0
CLIENTS_KIND = "these clients"
_REST = "others, ended processes, interrupts"
_SHOWN_CORES, _SHOWN_MIB = 0.02, 10.0
"""Kinds of processes that use less in every phase, or whose memory is never further from that at first, have no row."""


@dataclass
class Phase:
    """What a number of clients saw in a stretch of time.

    Args:
        clients: uploading and searching ones together.
        times_ms: of accepted requests, by kind.
        refused: answers 429 and 503 with Retry-After, by status.
        errors: everything else, by what it was; among them refusals without Retry-After.
        mib: memory of the stack at the beginning and the end, by kind of process; proportional set size.
        processed_per_s: images that came to an end, a second.
        told_s: Retry-After of the refusals, by kind.
        waiting: images in the queue at the end.
        cores: that each kind of process used, these clients among them, those that nobody used, and what is left of all.
    """

    clients: int
    seconds: float = 0.0
    times_ms: dict[str, list[float]] = field(default_factory=lambda: {kind: [] for kind in CLIENTS})
    refused: Counter[int] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)
    mib: tuple[Mapping[str, float], Mapping[str, float]] = field(default_factory=lambda: ({}, {}))
    processed_per_s: float = 0.0
    told_s: dict[str, list[float]] = field(default_factory=lambda: {kind: [] for kind in CLIENTS})
    waiting: int = 0
    cores: dict[str, float] = field(default_factory=dict)

    def per_s(self, kind: str | None = None) -> float:
        """Accepted requests a second, of one kind or of all."""
        kinds = [kind] if kind else list(CLIENTS)
        return sum(len(self.times_ms[one]) for one in kinds) / self.seconds

    def done_per_s(self) -> float:
        """Images processed and searches answered, a second; uploads that only made the queue longer are not among them."""
        return self.processed_per_s + self.per_s("search")

    def all_mib(self) -> float:
        """Memory of all kinds at the end."""
        return sum(self.mib[1].values())

    def quantile_s(self, kind: str, share: float) -> float:
        """Seconds; NaN where none was accepted."""
        times = self.times_ms[kind]
        return float(np.quantile(times, share)) / 1000 if times else float("nan")


class Crowd:
    """Clients that do one thing again and again, and wait as long as they are told when they are turned away."""

    def __init__(self, running: Running, pictures: list[Path]) -> None:
        self._running, self._url = running, f"{running.url}/api/v1"
        self._pictures = [file.read_bytes() for file in pictures]
        self._numbers = itertools.count()
        self._http: aiohttp.ClientSession
        self._ended: asyncio.Event
        self.phase = Phase(0)
        self.ids: list[int] = []

    async def run(self, times: int, *, warm_s: float, seconds: float) -> Phase:
        """Lets ``times`` × ``CLIENTS`` at the service; what they see in the first ``warm_s`` seconds counts for nothing."""
        count, settings = times * sum(CLIENTS.values()), self._running.settings
        headers = {"Authorization": f"Bearer {self._running.key}"}
        self._ended = asyncio.Event()
        connector, limit = aiohttp.TCPConnector(limit=0), aiohttp.ClientTimeout(total=_LIMIT_S)
        async with aiohttp.ClientSession(headers=headers, timeout=limit, connector=connector) as self._http:
            self.phase = Phase(count)
            work = [
                asyncio.create_task(self._client(kind, random.Random(f"{kind}{number}")))
                for kind, clients in CLIENTS.items()
                for number in range(times * clients)
            ]
            await asyncio.sleep(warm_s)
            first = await asyncio.to_thread(_pss_mib, settings)
            # Readings take their time on a busy machine, so each has its own clock.
            ended, ended_at = await self._count("PROCESSED"), time.monotonic()
            spent, spent_at = await asyncio.to_thread(_cpu_s, settings)
            phase, begun = Phase(count), time.monotonic()
            self.phase = phase
            await asyncio.sleep(seconds)
            phase.seconds = time.monotonic() - begun
            self.phase = Phase(count)  # an answer counts for the phase in which it was asked for
            phase.processed_per_s = (await self._count("PROCESSED") - ended) / (time.monotonic() - ended_at)
            now, now_at = await asyncio.to_thread(_cpu_s, settings)
            phase.cores = cores(spent, now, now_at - spent_at)
            phase.cores[_REST] = float(os.cpu_count() or 1) - sum(phase.cores.values())
            phase.waiting = await self._count("UPLOADED")
            phase.mib = (first, await asyncio.to_thread(_pss_mib, settings))
            self._ended.set()
            await asyncio.gather(*work)
        return phase

    async def _count(self, status: str) -> int:
        engine = create_engine(self._running.settings, pool_size=1)
        async with engine.connect() as connection:
            count = await connection.scalar(text("SELECT count(*) FROM image WHERE status = :it"), {"it": status})
        await engine.dispose()
        return int(count or 0)

    async def _client(self, kind: str, draw: random.Random) -> None:
        while not self._ended.is_set():
            phase, begun = self.phase, time.perf_counter()
            try:
                status, retry_after, body = await self._send(kind, draw)
            except (aiohttp.ClientError, TimeoutError) as error:
                phase.errors[f"{kind}: {type(error).__name__}"] += 1
                await self._stay_away(1.0)
                continue
            if status in (200, 201):
                phase.times_ms[kind].append(1000 * (time.perf_counter() - begun))
            elif status in (429, 503) and retry_after.isdigit():
                phase.refused[status] += 1
                phase.told_s[kind].append(float(retry_after))
                await self._stay_away(phase.told_s[kind][-1])
            else:
                phase.errors[f"{kind}: {status} {body[:80]}"] += 1
                await self._stay_away(1.0)

    async def _stay_away(self, seconds: float) -> None:
        """Whoever is away as the phase ends does not come back."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._ended.wait(), seconds)

    async def _send(self, kind: str, draw: random.Random) -> tuple[int, str, str]:
        data, form, path = draw.choice(self._pictures), aiohttp.FormData(), "search"
        if kind == "search":
            form.add_field("k", "10")
        else:
            number, path = next(self._numbers), "image"
            form.add_field("name", f"{number}.jpg")
            form.add_field("model_name", MODEL)
            data += number.to_bytes(4, "big")
        form.add_field("file", data, filename="a.jpg", content_type="image/jpeg")
        async with self._http.post(f"{self._url}/{path}", data=form) as answer:
            body = await answer.text()
        if path == "image" and answer.status == 201:
            self.ids.append(int(json.loads(body)["id"]))
        return answer.status, answer.headers.get("retry-after", ""), body


def _pss_mib(settings: Settings) -> dict[str, float]:
    return {kind: held.pss_mib for kind, held in memory(settings).items()}


def _cpu_s(settings: Settings) -> tuple[dict[tuple[str, int, float], float], float]:
    """Processor time by process, that of these clients and what nobody used among them; and the middle of the reading."""
    begun, stack = time.monotonic(), cpu_s(settings)
    own, machine = psutil.Process(), psutil.cpu_times()
    own_s = {(CLIENTS_KIND, own.pid, own.create_time()): sum(own.cpu_times()[:2])}
    return stack | own_s | {("idle", 0, 0.0): machine.idle + machine.iowait}, (begun + time.monotonic()) / 2


def run(running: Running, pictures: list[Path], options: argparse.Namespace, console: Console) -> list[str]:
    """Measures at capacity and past it in turns, prints all; returns what must not be."""
    crowd = Crowd(running, pictures)
    at: list[Phase] = []
    past: list[Phase] = []
    for turn in range(2 * options.rounds + 1):
        times, phases = (options.times, past) if turn % 2 else (1, at)
        warm_s = options.warm_s / (2 if turn else 1)
        phases.append(asyncio.run(crowd.run(times, warm_s=warm_s, seconds=options.seconds)))
    with Client(running.url, running.key) as client:
        ended = Counter(client.wait(crowd.ids, timeout_s=900).values())
    console.print(table(at, past))
    kept = f"{mean(past) / mean(at):.3f}" if mean(at) else "no share"
    console.print(f"{mean(past):.2f} done/s past capacity, {mean(at):.2f} at capacity: {kept} of it")
    console.print(f"{len(crowd.ids)} uploads acknowledged, ended: {dict(ended)}")
    lost = [] if set(ended) <= {"PROCESSED"} else [f"acknowledged uploads ended otherwise: {dict(ended)}"]
    return lost + troubles(at, past, growth=options.growth)


def mean(phases: list[Phase]) -> float:
    """Done a second, over phases."""
    return sum(one.done_per_s() for one in phases) / len(phases)


def table(at: list[Phase], past: list[Phase]) -> Table:
    """A column for each phase, in the order in which they were.

    Args:
        at: at capacity, one more than ``past``.
    """
    named = [
        (name, one)
        for pair in itertools.zip_longest(at, past)
        for name, one in zip(("at", "past"), pair, strict=True)
        if one
    ]
    phases = [one for _, one in named]
    columns = (f"{name} it, {one.clients} clients" for name, one in named)
    made = Table("", *columns, title="at capacity and past it, in turns")
    rows: dict[str, list[str]] = {
        "accepted/s": [f"{one.per_s():.2f}" for one in phases],
        "  uploads/s": [f"{one.per_s('upload'):.2f}" for one in phases],
        "  searches/s": [f"{one.per_s('search'):.2f}" for one in phases],
        "images processed/s": [f"{one.processed_per_s:.2f}" for one in phases],
        "done/s: processed and searches": [f"{one.done_per_s():.2f}" for one in phases],
        "images waiting at the end": [str(one.waiting) for one in phases],
        "refused with Retry-After": [", ".join(f"{n} × {s}" for s, n in one.refused.items()) or "0" for one in phases],
        **{
            f"  {kinds}: number, p50, p95 s": [_told(one.told_s[kind]) for one in phases]
            for kind, kinds in _PLURAL.items()
        },
        "other answers": [str(one.errors.total()) for one in phases],
        **{f"accepted {kinds}: p50, p95 s": [_times(one, kind) for one in phases] for kind, kinds in _PLURAL.items()},
        "MiB at the start": [f"{sum(one.mib[0].values()):.0f}" for one in phases],
        "MiB at the end": [f"{one.all_mib():.0f}" for one in phases],
    }
    grown = {
        kind
        for one in phases
        for kind in {**phases[0].mib[0], **one.mib[1]}
        if abs(one.mib[1].get(kind, 0.0) - phases[0].mib[0].get(kind, 0.0)) > _SHOWN_MIB
    }
    rows |= {f"  {kind}": [f"{one.mib[1].get(kind, 0.0):.0f}" for one in phases] for kind in sorted(grown)}
    kinds = sorted({kind for one in phases for kind, used in one.cores.items() if used >= _SHOWN_CORES})
    rows |= {f"cores: {kind}": [f"{one.cores.get(kind, 0.0):.2f}" for one in phases] for kind in kinds}
    for name, values in rows.items():
        made.add_row(name, *values)
    return made


def _times(phase: Phase, kind: str) -> str:
    return f"{phase.quantile_s(kind, 0.5):.2f}, {phase.quantile_s(kind, 0.95):.2f}"


def _told(waits_s: list[float]) -> str:
    p50, p95 = np.quantile(waits_s, (0.5, 0.95)) if waits_s else (0.0, 0.0)
    return f"{len(waits_s)}, {p50:.0f}, {p95:.0f}" if waits_s else "0"


KEPT = 0.9
"""Of what is done a second at capacity, at least so much must be done past it."""


def troubles(at: list[Phase], past: list[Phase], *, growth: float) -> list[str]:
    """What must not be, a line each.

    Args:
        at, past: phases at capacity and past it, by whose means one is measured by the other.
        growth: share by which memory may be larger past capacity than at it, at the ends of phases. That it grows from phase to
            phase, with what is stored and held, is in the table.
    """
    found = []
    if not mean(at):
        found.append("nothing was done at capacity")
    if mean(past) < KEPT * mean(at):
        found.append(f"{mean(past):.2f} done/s past capacity, {mean(at):.2f} at capacity")
    calm, pressed = (sum(one.all_mib() for one in phases) / len(phases) for phases in (at, past))
    if pressed > (1 + growth) * calm:
        found.append(f"{pressed:.0f} MiB past capacity, {calm:.0f} at capacity")
    if not all(one.refused for one in past):
        found.append("nobody was turned away in a phase past capacity: these are not clients enough")
    for name, phases in (("at capacity", at), ("past capacity", past)):
        errors = sum((one.errors for one in phases), Counter())
        found += [f"{name}: {count} × {what}" for what, count in errors.items()]
    return found
