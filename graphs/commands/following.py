"""A job while somebody watches it: what `backfill`, `reindex` and `jobs follow` show."""

import asyncio
from pathlib import Path

import typer

from graphs.commands.console import console


def follow(home: Path | None, job_id: int) -> None:
    """Shows a job until it has ended or rests. Exit code 1 if it failed or no process runs it."""
    from graphs.jobs import ENDED
    from graphs.jobs import follow as watch
    from graphs.progress import Follower, progress_line

    follower = Follower(console)
    try:
        job = asyncio.run(watch(home, job_id, follower.show))
    except KeyboardInterrupt:
        console.print(f"job {job_id} goes on; `safeguard jobs pause {job_id}` or `cancel {job_id}` stops it")
        return
    finally:
        follower.close()
    console.print(progress_line(job), highlight=False, soft_wrap=True)
    if job.message:
        console.print(job.message, highlight=False, soft_wrap=True)
    if job.failed:
        console.print(f"why {job.failed} failed: `safeguard jobs show {job_id} --failed`", highlight=False)
    alone = job.status not in ENDED
    if alone:
        again = "cancel" if job.status == "cancelling" else "resume"
        console.print(f"no process runs it; `safeguard jobs {again} {job_id}` starts one", highlight=False)
    if job.status == "failed" or alone:
        raise typer.Exit(1)
