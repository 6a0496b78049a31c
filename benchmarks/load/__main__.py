"""Mixed load in steps: requests a second and latencies by endpoint, where the service is full, and that nothing was lost.

    make load [PHOTOS=folder]
    python -m benchmarks.load [PHOTOS] --locust .venv-load/bin/locust [--users 1,2,4,8,16,32] [--step-s 25] [--pictures 200]

Brings the service up in a folder of its own (removed afterwards), stores pictures, and lets Locust's users
(benchmarks/load/users.py) upload, read, search, list and work off a queue without a pause; between two steps the uploads
are processed to the end. Further options go to Locust, such as ``--search-weight 0``. Its key, the installation's first, has no
limit of requests. Exit code 1 if an acknowledged upload is not PROCESSED in the end, a request failed in another way than by
429 or 503 with Retry-After, or the check finds anything.
"""

import argparse
import os
import sys
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.load.measured import GAIN, SLOWER, Endpoint, saturation
from benchmarks.load.pictures import store, write
from benchmarks.load.steps import Locust, Step
from benchmarks.servers import installation
from graphs.check import check
from graphs.service import up

WORKER_LEASE_S = 60
"""Of an outside worker that was stopped with an image in hand; by default ten minutes."""


def by_endpoint(step: Step) -> Table:
    """A line for each endpoint."""
    columns = ("requests", "requests/s", "p50, ms", "p95, ms", "p99, ms", "refused", "errors")
    table = Table("endpoint", *columns, title=f"{step.users} user{'s' * (step.users > 1)}")
    for one in [*step.statistics.endpoints, step.statistics.all]:
        table.add_row(one.name, *_figures(one))
    return table


def _figures(one: Endpoint) -> tuple[str, ...]:
    latencies = (f"{value:.0f}" for value in (one.p50_ms, one.p95_ms, one.p99_ms))
    return (str(one.requests), f"{one.per_s:.1f}", *latencies, str(one.refused), str(one.errors))


def by_step(steps: list[Step]) -> Table:
    """A line for each step."""
    columns = ("requests/s", "p50, ms", "p95, ms", "p99, ms", "refused", "errors")
    more = ("uploads", "waiting at the end", "until processed, s", "Locust, cores")
    table = Table("users", *columns, *more, title=f"all endpoints, {os.cpu_count()} cores")
    for one in steps:
        drained = f"{one.drained_s:.1f}"
        told = (str(one.accepted), str(one.waiting), drained, f"{one.generator_cores:.2f}")
        table.add_row(str(one.users), *_figures(one.statistics.all)[1:], *told)
    return table


def troubles(steps: list[Step]) -> list[str]:
    """What must not be, a line each."""
    found = []
    for one in steps:
        if one.ended["PROCESSED"] != one.accepted:
            found.append(f"{one.users} users: {one.accepted} uploads were acknowledged, ended {dict(one.ended)}")
        if one.statistics.all.errors:
            found.append(f"{one.users} users: {one.statistics.all.errors} requests failed")
    return found


def main() -> None:
    """Runs it and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path, nargs="?", help="folder of JPEG files; default: the demo's photographs")
    parser.add_argument("--locust", type=Path, default=Path(".venv-load/bin/locust"))
    parser.add_argument("--users", type=lambda text: [int(part) for part in text.split(",")], default="1,2,4,8,16,32")
    parser.add_argument("--step-s", type=float, default=25.0)
    parser.add_argument("--pictures", type=int, default=200, help="stored before; as many others are drawn from too")
    options, further = parser.parse_known_args()
    console = Console(width=140, highlight=False)
    steps: list[Step] = []
    with installation() as home:
        (home / "settings.env").write_text(f"SAFEGUARD_WORKER_LEASE_S='{WORKER_LEASE_S}'\n")
        files = write(home / "pictures", options.photos, 2 * options.pictures)
        running = up(home, say=lambda _: None)
        store(running, files[: options.pictures])
        locust = Locust(options.locust, running, home / "pictures", home, further)
        for users in sorted(options.users):
            steps.append(locust.step(users, options.step_s))
            console.print(by_endpoint(steps[-1]))
        report = check(home, repair=False, grace_s=None)
    console.print(by_step(steps))
    full = saturation([step.statistics.all for step in steps])
    if full is None:
        console.print(f"saturation: not reached by {steps[-1].users} users")
    else:
        held, more = steps[full], steps[full + 1]
        console.print(
            f"saturation: {held.statistics.all.per_s:.1f} requests/s with {held.users} users; with {more.users}"
            f" under {GAIN - 1:.0%} more, and p95 at least {SLOWER:g} times as long"
        )
    found = troubles(steps)
    found += [] if report.clean else [f"the check found something: {report.as_dict()}"]
    accepted = sum(step.accepted for step in steps)
    console.print(f"{accepted} uploads acknowledged under load, PROCESSED {sum(s.ended['PROCESSED'] for s in steps)}")
    for line in found:
        console.print(line)
    console.print("nothing was lost; the check is clean" if not found else f"{len(found)} troubles")
    sys.exit(bool(found))


if __name__ == "__main__":
    main()
