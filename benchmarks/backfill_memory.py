"""Memory of a bulk job while its corpus is worked off, in tenths: ``python -m benchmarks.backfill PHOTOS --memory``."""

import asyncio
import os
import time
from pathlib import Path

from rich.console import Console

from benchmarks.backfill_faults import SOURCE, put_corpus
from benchmarks.pictures import stream
from benchmarks.servers import installation
from benchmarks.watch import Watch
from graphs.jobs import show, start
from graphs.service import up
from storage.job_tables import JobStatus
from storage.jobs import work_done

_ENDED = (JobStatus.DONE, JobStatus.FAILED, JobStatus.CANCELLED)


def memory(photos: Path, count: int, console: Console) -> None:
    """Indexes ``count`` synthetic edits of photos; prints a line when each tenth of the work is through.

    The corpus is made while it is stored, so this process holds no more of it than the photos.
    """
    with installation() as home:
        running = up(home, say=lambda _: None)
        asyncio.run(put_corpus(running.settings, stream(photos, count)))
        watch = Watch(home)
        watch.start()
        begun = time.perf_counter()
        options = {"reads_per_s": None, "niceness": 0, "segment_units": 1024}
        job = asyncio.run(start(home, SOURCE, model_name=None, cpus=os.cpu_count() or 1, gpus=0, **options))
        assert job.id is not None
        console.print(f"{count} pictures, {os.cpu_count()} cores; MiB of proportional set size of the job's processes")
        tenth, most = 1, list[float]()
        while job.status not in _ENDED:
            time.sleep(0.5)
            job = asyncio.run(show(home, job.id or 0))
            while tenth <= 10 and job.listed and work_done(job) >= job.objects * tenth / 10:
                if recent := watch.recent_job_mib():
                    most.append(recent)
                elapsed = time.perf_counter() - begun
                console.print(f"{tenth:>2}/10  {elapsed:>7.0f} s  {most[-1] if most else 0:>7.0f} MiB at most")
                console.file.flush()
                tenth += 1
        watch.close()
    console.print(f"job {job.status}: {job.done} done, {job.failed} failed")
    console.print(f"most of all: {max(most, default=0):.0f} MiB (indexing holds the networks, matching does not)")
