"""Re-indexing with another descriptor while clients search and upload: failures, latency, versions, nothing lost.

    python -m benchmarks.reindex PHOTOS [--pictures 5000] [--searchers 4] [--uploaders 2] [--quiet-s 60]

A corpus is indexed; then the clients work without, beside and after the re-index, through the switch and a rollback. Every
search says which descriptor its evidence comes from. Exit code 1 if a request failed, an upload was lost, one answer mixed
two versions, the check finds anything, or p95 of the searches beside the job is over twice that of the quiet service.
"""

import argparse
import asyncio
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console
from rich.table import Table

from benchmarks.backfill import index_corpus
from benchmarks.backfill_faults import SOURCE, put_corpus
from benchmarks.client import Client
from benchmarks.mixed_load import Load, Phase
from benchmarks.pictures import corpus
from benchmarks.servers import installation
from configs.settings import Settings
from graphs import reindex
from graphs.check import check
from graphs.jobs import show
from graphs.service import up
from storage.job_tables import JobStatus

OTHER = "lite0-copy@3"


def with_another_descriptor(home: Path) -> Path:
    """A models.yaml in ``home`` that knows the float16 file of the descriptor under another version too."""
    content: dict[str, Any] = yaml.safe_load(Settings.model_fields["models_file"].default.read_text())
    own = content["descriptors"]["lite0-copy@2"]
    other = {key: value for key, value in own.items() if key != "sha256"} | {"path": "models/lite0-copy-2.onnx"}
    content["descriptors"][OTHER] = other
    file = home / "models.yaml"
    file.write_text(yaml.safe_dump(content, allow_unicode=True))
    return file


def main() -> None:
    """Runs it and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path)
    parser.add_argument("--pictures", type=int, default=5000)
    parser.add_argument("--searchers", type=int, default=4)
    parser.add_argument("--uploaders", type=int, default=2)
    parser.add_argument("--search-pause-s", type=float, default=1.0)
    parser.add_argument("--upload-pause-s", type=float, default=4.0)
    parser.add_argument("--quiet-s", type=float, default=60.0)
    options = parser.parse_args()
    console = Console(width=130, highlight=False)
    data = corpus(options.photos, options.pictures)
    phases: list[Phase] = []
    with installation() as home:
        (home / "settings.env").write_text(f"SAFEGUARD_MODELS_FILE='{with_another_descriptor(home)}'\n")
        running = up(home, say=lambda _: None)
        asyncio.run(put_corpus(running.settings, data))
        measured = index_corpus(running, SOURCE, 2)
        console.print(f"{measured.job.done} pictures indexed in {measured.total_s:.0f} s")
        clients = {"search": options.searchers, "upload": options.uploaders}
        pauses = {"search": options.search_pause_s, "upload": options.upload_pause_s}
        load = Load(running, data, clients, pauses)
        try:
            time.sleep(5)
            phases.append(load.enter("quiet"))
            time.sleep(options.quiet_s)
            phases.append(load.enter("beside the job"))
            begun = time.perf_counter()
            job = asyncio.run(
                reindex.start(home, OTHER, model_name=None, cpus=1, gpus=0, niceness=10, segment_units=1024)
            )
            assert job.id is not None
            while (job := asyncio.run(show(home, job.id))).status not in (JobStatus.DONE, JobStatus.FAILED):
                assert job.id is not None
                time.sleep(1)
            took = time.perf_counter() - begun
            console.print(
                f"job {job.status} after {took:.0f} s: {job.done} done, {job.failed} failed {job.message or ''}"
            )
            found = asyncio.run(reindex.compare(home, None))
            recall = "exact search" if found.recall is None else f"recall@10 {found.recall:.3f}"
            console.print(f"{found.other}: {found.rows} vectors, {recall}; copies by pair: {found.links}")
            phases.append(load.enter("switching"))
            asyncio.run(reindex.switch(home, None))
            time.sleep(3)
            phases.append(load.enter("switched"))
            time.sleep(20)
            phases.append(load.enter("rolling back"))
            asyncio.run(reindex.rollback(home, None))
            time.sleep(3)
            phases.append(load.enter("rolled back"))
            time.sleep(20)
        finally:
            load.close()
        with Client(running.url, running.key) as client:
            ended = Counter(client.wait(load.ids, timeout_s=900).values())
        report = check(home, repair=False, grace_s=None)
    table = Table("phase", "searches", "p50, ms", "p95, ms", "uploads", "failed requests", "searches by descriptor")
    for phase in phases:
        times = [phase.quantile("search", share) for share in (0.5, 0.95)]
        versions = ", ".join(f"{name}: {count}" for name, count in phase.versions.items())
        counts = (str(len(phase.times_ms["upload"])), str(len(phase.failures)), versions)
        table.add_row(phase.name, str(len(phase.times_ms["search"])), *(f"{one:.0f}" for one in times), *counts)
    console.print(table)
    ratio = phases[1].quantile("search", 0.95) / phases[0].quantile("search", 0.95)
    console.print(f"p95 of searches beside the job ÷ quiet: {ratio:.2f}")
    console.print(
        f"uploads accepted {len(load.ids)}, ended {dict(ended)}; check: {'consistent' if report.clean else report.as_dict()}"
    )
    failures = [line for phase in phases for line in phase.failures]
    troubles = failures[:5]
    troubles += [f"{phase.name}: mixed {name}" for phase in phases for name in phase.versions if "+" in name]
    own = "lite0-copy@2"
    wanted = {"quiet": own, "beside the job": own, "switched": OTHER, "rolled back": own}
    troubles += [
        f"{phase.name}: {dict(phase.versions)}"
        for phase in phases
        if phase.name in wanted and set(phase.versions) != {wanted[phase.name]}
    ]
    troubles += [] if set(ended) == {"PROCESSED"} else [f"uploads: {dict(ended)}"]
    troubles += [] if report.clean else ["the check found something"]
    troubles += [] if ratio <= 2 else [f"p95 ratio {ratio:.2f}"]
    for line in troubles:
        console.print(line)
    console.print("as it should be" if not troubles else f"{len(troubles)} troubles")
    sys.exit(bool(troubles))


if __name__ == "__main__":
    main()
