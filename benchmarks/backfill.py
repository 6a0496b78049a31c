"""Bulk indexing beside a plain loop with the same decoding, networks and matching on the same cores, in one run.

    python -m benchmarks.backfill PHOTOS [--pictures 1000] [--fastdup-python FOLDER/bin/python]
        [--imagededup-python FOLDER/bin/python] [--neighbour] [--memory]

Brings the service up in a folder of its own (removed afterwards) and indexes a corpus with a job that was given all
cores. The loop is one process with a thread for each core: it decodes, describes and, in a second pass, matches, as the
job does. Prints pictures a second of both and of both passes, CPU seconds for 1,000 pictures by process, and the most
memory the job's processes had at a time. ``--neighbour`` measures searches without and beside a job of one CPU instead,
``--memory`` only the most memory of the job's processes in each tenth of the work, printed when it is through.
"""

import argparse
import asyncio
import os
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.backfill_faults import SOURCE, follow, put_corpus
from benchmarks.backfill_memory import memory
from benchmarks.client import Client
from benchmarks.local import LocalCascade
from benchmarks.peers import FASTDUP, IMAGEDEDUP, Peer, seconds
from benchmarks.pictures import corpus
from benchmarks.servers import installation
from benchmarks.watch import Spent, Watch
from configs.models import load_models
from configs.settings import Settings
from deployments.pipeline.look import Look
from graphs.jobs import show, start
from graphs.service import Running, up
from storage.job_tables import Job, JobStatus

BATCH = 16


def plain_loop(data: list[bytes]) -> tuple[float, float]:
    """Seconds of looking at, and of matching, all pictures in this process."""
    settings = Settings(model_threads=os.cpu_count() or 1)
    registry = load_models(settings.models_file)
    cascade = LocalCascade(registry[registry.default], settings, judge=True)
    cascade.look(data[:BATCH])  # warm
    begun = time.perf_counter()
    seen: list[tuple[int, Look]] = []
    for first in range(0, len(data), BATCH):
        looks = cascade.look(data[first : first + BATCH])
        seen += [(first + n, one) for n, one in enumerate(looks) if isinstance(one, Look)]
    looked = time.perf_counter() - begun
    cascade.add(seen)
    begun = time.perf_counter()
    for image_id, found in seen:
        cascade.candidates(found, exclude=image_id)
    return looked, time.perf_counter() - begun


@dataclass
class Measured:
    """One job: seconds of both passes without and with its start, and what was spent."""

    job: Job
    total_s: float
    index_s: float
    match_s: float
    spent: Spent


def index_corpus(running: Running, source: str, cpus: int) -> Measured:
    """Runs one job and times its passes, as its counters show them every quarter of a second."""
    home = running.settings.home
    watch = Watch(home)
    watch.start()
    begun = time.perf_counter()
    job = asyncio.run(
        start(home, source, model_name=None, cpus=cpus, gpus=0, reads_per_s=None, niceness=0, segment_units=1024)
    )
    assert job.id is not None
    moments: dict[str, tuple[float, int]] = {}
    while job.status not in (JobStatus.DONE, JobStatus.FAILED):
        time.sleep(0.25)
        assert job.id is not None
        job = asyncio.run(show(home, job.id))
        now = time.perf_counter()
        for name in ("indexed", "done"):
            count = getattr(job, name)
            if count:
                moments.setdefault(f"first {name}", (now, count))
                if moments.get(f"last {name}", (0.0, -1))[1] != count:
                    moments[f"last {name}"] = (now, count)
    total = time.perf_counter() - begun
    spent = watch.close()
    if job.status != JobStatus.DONE:
        raise RuntimeError(f"the job failed: {job.message}")

    def rate(name: str) -> float:
        (start_at, start_count), (end_at, end_count) = moments[f"first {name}"], moments[f"last {name}"]
        return (end_at - start_at) / max(1, end_count - start_count) * end_count

    return Measured(job, total, rate("indexed"), rate("done"), spent)


def throughput(data: list[tuple[str, bytes]], peers: dict[Peer, Path], console: Console) -> None:
    """Loop, job and peers beside each other."""
    files = [content for _, content in data]
    cpus = os.cpu_count() or 1
    table = Table(title=f"{len(data)} pictures, {cpus} cores")
    for column in ("", "looking, pictures/s", "matching, pictures/s", "both, pictures/s", "÷ plain loop"):
        table.add_column(column, justify="left" if not column else "right")
    looked, matched = plain_loop(files)
    both = len(data) / (looked + matched)
    table.add_row("plain loop", *(f"{len(data) / s:.1f}" for s in (looked, matched)), f"{both:.1f}", "1")
    with installation() as home:
        running = up(home, say=lambda _: None)
        asyncio.run(put_corpus(running.settings, data))
        found = index_corpus(running, SOURCE, cpus)
    count = found.job.done
    steady = count / (found.index_s + found.match_s)
    rates = (f"{count / s:.1f}" for s in (found.index_s, found.match_s))
    table.add_row("job, from its first commit on", *rates, f"{steady:.1f}", f"{steady / both:.2f}")
    all_of_it = count / found.total_s
    table.add_row("job, with its start", "", "", f"{all_of_it:.1f}", f"{all_of_it / both:.2f}")
    for peer, python in peers.items():
        table.add_row(peer.title, f"{len(data) / seconds(peer, python, files, cpus):.1f}", "", "", "")
    console.print(table)
    costs = Table(title="processor seconds for 1,000 pictures")
    costs.add_column("process")
    costs.add_column("s", justify="right")
    spent = {kind: 1000 * s / count for kind, s in found.spent.cpu_s.items()}
    for kind in sorted(spent, key=lambda kind: -spent[kind]):
        costs.add_row(kind, f"{spent[kind]:.1f}")
    costs.add_row("all", f"{sum(spent.values()):.1f}")
    console.print(costs)
    console.print(
        f"most memory of the job's processes at a time: {found.spent.job_mib:.0f} MiB (proportional set size)"
    )


def neighbour(data: list[tuple[str, bytes]], console: Console) -> None:
    """Latency of searches by one client without a job, beside a gentle one, and without one again."""
    stored = data[: len(data) // 10]
    with installation() as home:
        running = up(home, say=lambda _: None)
        asyncio.run(put_corpus(running.settings, data))
        with Client(running.url, running.key) as client:
            ids = [client.upload(name, content, key=name) for name, content in stored]
            client.wait(ids, timeout_s=600)
            table = Table("searches by one client", "p50, ms", "p95, ms", "÷ quiet, p50", "÷ quiet, p95")
            quiet = searches(client, stored)
            table.add_row("quiet", *(f"{one:.0f}" for one in quiet), "1", "1")
            for title, niceness, rate in (
                ("beside a job of one CPU, niceness 10", 10, None),
                ("beside a job of one CPU and 2 pictures a second", 10, 2.0),
            ):
                folder = f"{SOURCE}{0 if rate is None else 1:03}/"
                job = asyncio.run(
                    start(
                        home,
                        folder,
                        model_name=None,
                        cpus=1,
                        gpus=0,
                        reads_per_s=rate,
                        niceness=niceness,
                        segment_units=1024,
                    )
                )
                assert job.id is not None
                while not asyncio.run(show(home, job.id)).indexed:
                    time.sleep(1)
                busy = searches(client, stored)
                ratios = (f"{ours / calm:.2f}" for ours, calm in zip(busy, quiet, strict=True))
                ended = asyncio.run(show(home, job.id)).status == JobStatus.DONE
                table.add_row(title + (" (ended meanwhile)" if ended else ""), *(f"{one:.0f}" for one in busy), *ratios)
                follow(home, job.id, 600)
            again = searches(client, stored)
            table.add_row(
                "quiet again",
                *(f"{one:.0f}" for one in again),
                *(f"{a / b:.2f}" for a, b in zip(again, quiet, strict=True)),
            )
    console.print(table)


def searches(client: Client, queries: list[tuple[str, bytes]], count: int = 60) -> tuple[float, float]:
    """p50 and p95 in milliseconds."""
    taken = []
    for number in range(count):
        begun = time.perf_counter()
        client.search(*queries[number % len(queries)])
        taken.append(1000 * (time.perf_counter() - begun))
    return float(np.quantile(taken, 0.5)), float(np.quantile(taken, 0.95))


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path)
    parser.add_argument("--pictures", type=int, default=1000)
    parser.add_argument("--fastdup-python", type=Path, help="interpreter of an environment that has fastdup")
    parser.add_argument("--imagededup-python", type=Path, help="interpreter of an environment that has imagededup")
    parser.add_argument("--neighbour", action="store_true")
    parser.add_argument("--memory", action="store_true")
    options = parser.parse_args()
    console = Console(width=120, highlight=False)
    if options.memory:
        memory(options.photos, options.pictures, console)
        return
    data = corpus(options.photos, options.pictures)
    if options.neighbour:
        neighbour(data, console)
    else:
        named = {FASTDUP: options.fastdup_python, IMAGEDEDUP: options.imagededup_python}
        throughput(data, {peer: python for peer, python in named.items() if python is not None}, console)


if __name__ == "__main__":
    main()
