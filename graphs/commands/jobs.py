"""The group `jobs`: bulk jobs, seen and steered."""

import asyncio
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from graphs.commands.console import Home, console
from graphs.commands.following import follow

group = typer.Typer(no_args_is_help=True, help="Bulk jobs: list, show, follow, pause, resume, cancel, retry.")


def register(app: typer.Typer) -> None:
    """Adds the group to the command line."""
    app.add_typer(group, name="jobs")


@group.command("list")
def list_jobs(home: Home = None) -> None:
    """The newest hundred jobs."""
    from graphs.jobs import every
    from storage.jobs import per_second

    table = Table("job", "status", "done", "of", "failed", "unchanged", "per s", "created", "source")
    for job in asyncio.run(every(home)):
        counts = (str(count) for count in (job.done, job.objects, job.failed, job.skipped))
        created = job.created_at.strftime("%m-%d %H:%M")
        table.add_row(str(job.id), job.status, *counts, f"{per_second(job):.1f}", created, job.source)
    for column in table.columns[:-1]:
        column.no_wrap = True
    console.print(table)


@group.command()
def show(
    job_id: int,
    home: Home = None,
    failed: Annotated[bool, typer.Option("--failed", help="every object that failed, and why")] = False,
) -> None:
    """How far a job is, and what went wrong."""
    from graphs.jobs import failed as failures
    from graphs.jobs import show as look
    from graphs.progress import progress_line

    async def tell() -> None:
        job = await look(home, job_id)
        console.print(f"{job.source} by {job.model_name}, made {job.created_at:%Y-%m-%d %H:%M}", highlight=False)
        console.print(progress_line(job), highlight=False, soft_wrap=True)
        if job.message:
            console.print(job.message, highlight=False, soft_wrap=True)
        if failed:
            async for one in failures(home, job_id):
                console.print(f"{one.path}: {one.reason}", highlight=False, markup=False, soft_wrap=True)

    asyncio.run(tell())


@group.command("follow")
def follow_job(job_id: int, home: Home = None) -> None:
    """Shows a job until it has ended or rests."""
    follow(home, job_id)


@group.command()
def pause(job_id: int, home: Home = None) -> None:
    """Stops a job after the units in work; `resume` goes on."""
    _change(home, job_id, "paused")


@group.command()
def resume(job_id: int, home: Home = None) -> None:
    """Goes on with a job that was paused, has failed, or whose process has died."""
    _change(home, job_id, "waiting")


@group.command()
def cancel(job_id: int, home: Home = None) -> None:
    """Ends a job. What is done stays; what is half done is taken back."""
    _change(home, job_id, "cancelling")


def _change(home: Path | None, job_id: int, wanted: str) -> None:
    from graphs.jobs import change
    from storage.job_tables import JobStatus

    job = asyncio.run(change(home, job_id, JobStatus(wanted)))
    console.print(f"job {job_id} is {job.status}")


@group.command("retry")
def retry_job(job_id: int, home: Home = None) -> None:
    """Tries the failed objects of a job again."""
    from graphs.jobs import retry

    console.print(f"{asyncio.run(retry(home, job_id))} objects are tried again")
