"""Requests and samples on one time axis, second by second; what each stage was like; whether replicas followed. Pure."""

import csv
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from benchmarks.scaling.stages import Stage, stage_at, users_at

SEARCH = "POST /search"
WINDOW_S = 10
"""p95 of a second is that of the searches answered within so many seconds up to it."""
REQUESTS = {"read": 1, "result": 2, "search": 1, "list": 1, "upload": 1, "work": 3}
"""Requests that a user of the load test makes for one thing it does."""


@dataclass(frozen=True)
class Sample:
    """One look.

    Args:
        at: Unix time.
        replicas: that run, by deployment.
        waiting, oldest_s: images that wait for the pipeline, and seconds that the first one does.
        mib: proportional set size of the whole installation, as of the last reading.
        not_ready: what ``/health/ready`` complained of at the last reading; empty where it was green.
    """

    at: float
    replicas: Counter[str] = field(default_factory=Counter)
    waiting: int = 0
    oldest_s: float = 0.0
    mib: float = 0.0
    not_ready: str = ""


@dataclass(frozen=True)
class Request:
    """One answer: Unix time, kind, milliseconds, and what was wrong with it (empty: nothing)."""

    at: float
    kind: str
    ms: float
    failure: str


@dataclass(frozen=True)
class Second:
    """One second of the run; ``offered`` and ``answered`` are requests a second, ``search_p95_ms`` NaN without searches."""

    second: int
    stage: str
    users: int
    offered: float
    answered: int
    failed: int
    search_p95_ms: float
    waiting: int
    oldest_s: float
    mib: float
    replicas: Mapping[str, int]


def read_requests(file: Path) -> list[Request]:
    """What shape.py wrote."""
    with file.open(newline="") as stream:
        return [Request(float(row[0]), row[1], float(row[2]), ",".join(row[3:])) for row in csv.reader(stream)]


def requests_per_thing(weights: Mapping[str, int]) -> float:
    """Mean requests of one thing that a user does, by how often each is drawn."""
    return sum(REQUESTS[kind] * weight for kind, weight in weights.items()) / sum(weights.values())


def by_second(
    stages: Sequence[Stage], begun: float, requests: Sequence[Request], samples: Sequence[Sample], per_user_s: float
) -> list[Second]:
    """The whole profile; of samples the last one of each second's end, or before it.

    Args:
        begun: Unix time of the first second.
        per_user_s: requests a second that a user offers.
    """
    answered: Counter[int] = Counter()
    failed: Counter[int] = Counter()
    searches: dict[int, list[float]] = {}
    for one in requests:
        second = int(one.at - begun)
        (failed if one.failure else answered)[second] += 1
        if one.kind == SEARCH and not one.failure:
            searches.setdefault(second, []).append(one.ms)
    rows, place, sample = [], 0, Sample(begun)
    for second in range(int(sum(stage.seconds for stage in stages))):
        found = stage_at(stages, second)
        assert found is not None
        while place < len(samples) and samples[place].at < begun + second + 1:
            sample = samples[place]
            place += 1
        times = [ms for back in range(WINDOW_S) for ms in searches.get(second - back, ())]
        users = users_at(stages, second) or 0
        rows.append(
            Second(
                second,
                found[0].name,
                users,
                users * per_user_s,
                answered[second],
                failed[second],
                float(np.quantile(times, 0.95)) if times else float("nan"),
                sample.waiting,
                sample.oldest_s,
                sample.mib,
                dict(sample.replicas),
            )
        )
    return rows


def not_ready(begun: float, samples: Sequence[Sample]) -> list[str]:
    """Each complaint of ``/health/ready``, with the seconds of the run at which it was seen."""
    seen: dict[str, list[int]] = {}
    for one in samples:
        if one.not_ready:
            seen.setdefault(one.not_ready, []).append(int(one.at - begun))
    return [
        f"/health/ready at {times[0]} s to {times[-1]} s ({len(times)} samples): {what}" for what, times in seen.items()
    ]


def write(rows: Sequence[Second], file: Path) -> None:
    """As CSV, a line a second."""
    names = deployments(rows)
    with file.open("w", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        head = ("second", "stage", "users", "offered_per_s", "answered", "failed", "search_p95_ms")
        writer.writerow([*head, "waiting", "oldest_s", "mib", *names])
        for one in rows:
            p95 = "" if np.isnan(one.search_p95_ms) else f"{one.search_p95_ms:.0f}"
            counts = (one.replicas.get(name, 0) for name in names)
            told = (one.second, one.stage, one.users, f"{one.offered:.1f}", one.answered, one.failed, p95)
            writer.writerow([*told, one.waiting, f"{one.oldest_s:.1f}", f"{one.mib:.0f}", *counts])


def deployments(rows: Sequence[Second]) -> list[str]:
    """All that ever had a replica."""
    return sorted({name for one in rows for name in one.replicas})


def scaled(rows: Sequence[Second]) -> list[str]:
    """Deployments that had another number of replicas at some time."""
    return [name for name in deployments(rows) if len({one.replicas.get(name, 0) for one in rows if one.replicas}) > 1]


def not_followed(rows: Sequence[Second]) -> list[str]:
    """What is wrong with how the replicas went, a line each: never more than at the end of the first stage, or left more."""
    quiet = [one for one in rows if one.stage == rows[0].stage]
    first, last = (next((one for one in order if one.replicas), None) for order in (quiet[::-1], rows[::-1]))
    if first is None or last is None:
        return ["no replica was ever seen"]
    grown = [
        name for name in scaled(rows) if max(one.replicas.get(name, 0) for one in rows) > first.replicas.get(name, 0)
    ]
    left = [name for name in grown if last.replicas.get(name, 0) > first.replicas.get(name, 0)]
    return ([] if grown else ["no deployment got more replicas under load"]) + [
        f"{name} did not come down" for name in left
    ]
