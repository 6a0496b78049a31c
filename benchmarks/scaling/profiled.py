"""A recorded load profile: Locust's users come and go, every second is kept, drawn, and summed up by stage."""

import argparse
import os
import subprocess
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.client import Client
from benchmarks.scaling import drawing, series, stages
from benchmarks.scaling.recorder import Recorder
from benchmarks.scaling.series import Second
from benchmarks.scaling.stages import Stage
from graphs.service import Running

HERE = Path(__file__).parent
WEIGHTS = {"read": 3, "result": 1, "search": 2, "list": 1, "upload": 3, "work": 0}
"""Of what users do: more uploads and searches than readers of results would make, since those are what needs networks."""


def run(running: Running, options: argparse.Namespace, console: Console) -> list[str]:
    """Runs the profile, writes CSV and picture, prints a line for each stage; returns what must not be."""
    profile = stages.parse(options.profile) if options.profile else list(stages.PROFILE)
    answers, acknowledged = (running.settings.home / name for name in ("answers.csv", "acknowledged.ids"))
    acknowledged.touch()
    recorder = Recorder(running)
    recorder.start()
    begun = time.time()
    try:
        _locust(running, options.locust, profile, answers, acknowledged)
    finally:
        samples = recorder.close()
    ids = [int(line) for line in acknowledged.read_text().split()]
    with Client(running.url, running.key) as client:
        ended = Counter(client.wait(ids, timeout_s=900).values())
    requests = series.read_requests(answers)
    begun = min((one.at - one.ms / 1000 for one in requests), default=begun)  # Locust takes seconds to start
    rows = series.by_second(profile, begun, requests, samples, series.requests_per_thing(WEIGHTS))
    options.out.mkdir(parents=True, exist_ok=True)
    series.write(rows, options.out / "autoscaling.csv")
    title = f"{os.cpu_count()} cores: {', '.join(f'{one.name} {one.seconds:g} s' for one in profile)}"
    drawing.draw(rows, options.out / "autoscaling.png", title)
    console.print(summary(profile, rows))
    failures = Counter(f"{one.kind}: {one.failure}" for one in requests if one.failure)
    console.print(f"{len(requests)} requests, failed: {dict(failures) or 'none'}")
    console.print(f"{len(ids)} uploads acknowledged, ended: {dict(ended)}")
    lost = [] if set(ended) <= {"PROCESSED"} else [f"acknowledged uploads ended otherwise: {dict(ended)}"]
    return (
        lost
        + series.not_ready(begun, samples)
        + [f"{count} × {what}" for what, count in failures.items()]
        + series.not_followed(rows)
    )


def _locust(running: Running, program: Path, profile: Sequence[Stage], answers: Path, acknowledged: Path) -> None:
    weights = [part for kind, weight in WEIGHTS.items() for part in (f"--{kind}-weight", str(weight))]
    command = [
        str(program), "-f", str(HERE / "shape.py"), "--headless", "--only-summary", "--host", running.url,
        "--key-file", str(running.key_file), "--pictures", str(running.settings.home / "pictures"),
        "--stages", stages.written(profile), "--requests", str(answers), "--acknowledged", str(acknowledged),
        "--stop-timeout", "60", "--exit-code-on-error", "0", *weights,
    ]  # fmt: skip
    environment = os.environ | {"PYTHONPATH": os.pathsep.join((str(HERE), str(HERE.parent / "load")))}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if done.returncode:
        raise RuntimeError(f"Locust ended with {done.returncode}: {(done.stdout + done.stderr)[-2000:]}")


def summary(profile: Sequence[Stage], rows: Sequence[Second]) -> Table:
    """A line for each stage."""
    moving = series.scaled(rows)
    columns = (
        "users",
        "offered/s",
        "answered/s",
        "failed",
        "search p95, s",
        "waiting, most",
        "oldest, most, s",
        "MiB, most",
    )
    table = Table("stage", *columns, *moving, title="requests and images, by stage; replicas at the end of each")
    for stage in profile:
        held = [one for one in rows if one.stage == stage.name]
        p95 = [one.search_p95_ms for one in held if not np.isnan(one.search_p95_ms)]
        users = f"{stage.first}" if stage.first == stage.last else f"{stage.first}–{stage.last}"
        table.add_row(
            f"{stage.name}, {stage.seconds:g} s",
            users,
            f"{np.mean([one.offered for one in held]):.1f}",
            f"{np.mean([one.answered for one in held]):.1f}",
            str(sum(one.failed for one in held)),
            f"{np.median(p95) / 1000:.2f}" if p95 else "–",
            str(max(one.waiting for one in held)),
            f"{max(one.oldest_s for one in held):.1f}",
            f"{max(one.mib for one in held):.0f}",
            *(str(held[-1].replicas.get(name, 0)) for name in moving),
        )
    return table
