"""What Locust's statistics say of one step, and the step at which the service is full. Reads files, runs nothing."""

import csv
import itertools
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

GAIN = 1.10
"""More users that bring less than this many times the requests a second bring nothing."""
SLOWER = 1.5
"""Of p95: where users are doubled and nothing is gained, it would double; the rest is for noise."""
_ALL = "Aggregated"
_REFUSED = re.compile(r"\b(429|503) with Retry-After")


@dataclass(frozen=True)
class Endpoint:
    """One line of the statistics; latencies in milliseconds, which Locust rounds to two digits from 100 on.

    Args:
        name: method and path; ``all`` for all of them.
        refused: answered 429 or 503 with Retry-After.
        errors: any other answer that was not the wanted one, or none.
    """

    name: str
    requests: int
    per_s: float
    p50_ms: float
    p95_ms: float
    p99_ms: float
    refused: int = 0
    errors: int = 0


@dataclass(frozen=True)
class Statistics:
    """One step: its endpoints by name, and all of them together."""

    endpoints: list[Endpoint]
    all: Endpoint


def read(prefix: Path) -> Statistics:
    """The statistics that Locust wrote with ``--csv prefix``.

    Raises:
        ValueError: nothing was answered.
        OSError: Locust wrote none.
    """
    failures: Counter[tuple[str, str]] = Counter()
    refusals: Counter[tuple[str, str]] = Counter()
    for row in _rows(prefix, "failures"):
        key = row["Method"], row["Name"]
        (refusals if _REFUSED.search(row["Error"]) else failures)[key] += int(row["Occurrences"])
    found: dict[str, Endpoint] = {}
    for row in _rows(prefix, "stats"):
        key, count = (row["Type"], row["Name"]), int(row["Request Count"])
        if not count:
            raise ValueError("Locust got no answer at all")
        whole = row["Name"] == _ALL
        name = "all" if whole else f"{row['Type']} {row['Name']}"
        p50, p95, p99 = (float(row[share]) for share in ("50%", "95%", "99%"))
        refused, errors = (kind.total() if whole else kind[key] for kind in (refusals, failures))
        found[name] = Endpoint(name, count, float(row["Requests/s"]), p50, p95, p99, refused, errors)
    together = found.pop("all")
    return Statistics([found[name] for name in sorted(found)], together)


def _rows(prefix: Path, kind: str) -> list[dict[str, str]]:
    with prefix.with_name(f"{prefix.name}_{kind}.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def saturation(steps: Sequence[Endpoint]) -> int | None:
    """The place of the first step after which more users bring under 10 % more requests a second, for a p95 that grows by
    half or more: what the service can do is reached there. None where no step is like that.

    Args:
        steps: all endpoints together, by rising numbers of users.
    """
    for place, (held, more) in enumerate(itertools.pairwise(steps)):
        if more.per_s < GAIN * held.per_s and more.p95_ms >= SLOWER * held.p95_ms:
            return place
    return None
