"""How far a bulk job is: a line for log files, a live bar for terminals, and metrics for the Ray dashboard."""

import time
from datetime import timedelta

from ray.util.metrics import Gauge
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from storage.job_tables import Job, JobStatus
from storage.jobs import per_second, work_done


def seconds_left(job: Job) -> float | None:
    """Expected seconds until the end; None while nothing is known."""
    rate = per_second(job)
    return (job.objects - work_done(job)) / rate if rate and job.listed else None


def progress_line(job: Job) -> str:
    """One line for a log file."""
    if not job.listed:
        return f"job {job.id}: listing, {job.objects} objects so far"
    left = seconds_left(job)
    share = work_done(job) / job.objects if job.objects else 1.0
    more = f", {timedelta(seconds=round(left))} left" if left is not None and job.status == JobStatus.RUNNING else ""
    return (
        f"job {job.id} {job.status}: {share:.0%}, {job.done} of {job.objects} done, {job.indexed - job.done} indexed,"
        f" {job.failed} failed, {job.skipped} unchanged, {per_second(job):.1f} pictures/s{more}"
    )


class JobMetrics:
    """Gauges of one job, as Ray's metrics ``ray_safeguard_job_…``.

    Args:
        job_id: the label ``job``.
    """

    def __init__(self, job_id: int) -> None:
        said = {
            "objects": "objects of the job's ledger",
            "indexed": "objects whose vectors and rows are stored",
            "done": "objects that are images now, with their links",
            "failed": "objects that no image could be made of",
            "pictures_per_second": "over all runs of the job",
            "seconds_left": "expected until the end",
        }
        self._gauges = {
            name: Gauge(f"safeguard_job_{name}", description=text, tag_keys=("job",)) for name, text in said.items()
        }
        self._tags = {"job": str(job_id)}

    def show(self, job: Job) -> None:
        """Sets all gauges."""
        values = {name: float(getattr(job, name)) for name in ("objects", "indexed", "done", "failed")}
        values |= {"pictures_per_second": per_second(job), "seconds_left": seconds_left(job) or 0.0}
        for name, value in values.items():
            self._gauges[name].set(value, tags=self._tags)


class Follower:
    """Shows a job while somebody watches: a live bar on a terminal, a line every few seconds elsewhere.

    Args:
        console: where to.
        every_s: seconds between two lines where there is no terminal.
    """

    def __init__(self, console: Console, *, every_s: float = 10.0) -> None:
        self._console, self._every_s = console, every_s
        self._said_at = 0.0
        self._bar: Progress | None = None
        if console.is_terminal:
            self._bar = Progress(
                TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[said]}"),
                console=console,
            )  # fmt: skip
            self._task = self._bar.add_task("", total=None, said="")
            self._bar.start()

    def show(self, job: Job) -> None:
        """The present state."""
        if self._bar is not None:
            left = seconds_left(job)
            said = f"{job.failed} failed  {per_second(job):.1f}/s"
            said += f"  {timedelta(seconds=round(left))} left" if left is not None else ""
            total = job.objects if job.listed else None
            description = f"job {job.id} {job.status if job.listed else 'listing'}"
            self._bar.update(self._task, completed=work_done(job), total=total, said=said, description=description)
        elif time.monotonic() - self._said_at >= self._every_s:
            self._said_at = time.monotonic()
            self._console.print(progress_line(job), highlight=False, soft_wrap=True)

    def close(self) -> None:
        """Leaves the terminal as it was."""
        if self._bar is not None:
            self._bar.stop()
