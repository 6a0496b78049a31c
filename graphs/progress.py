"""How far a bulk job is: a line for log files, and a live bar for terminals."""

import time
from datetime import timedelta

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from storage.job_tables import Job, JobStatus
from storage.jobs import per_second, seconds_left, work_done


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
