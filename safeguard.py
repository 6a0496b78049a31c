"""The command line: ``python safeguard.py up | down | status | …``. Only argument handling; the work is in graphs/."""

import asyncio
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated

import typer
from pydantic import ValidationError
from rich.console import Console
from rich.table import Table

from configs.models import ModelsFileError
from storage.errors import SafeGuardError

app = typer.Typer(no_args_is_help=True, add_completion=False, help="SafeGuard finds semantic copies of images.")
keys = typer.Typer(no_args_is_help=True, help="API keys: make, list, revoke.")
app.add_typer(keys, name="keys")
jobs = typer.Typer(no_args_is_help=True, help="Bulk jobs: list, show, follow, pause, resume, cancel, retry.")
app.add_typer(jobs, name="jobs")
console = Console()
Home = Annotated[
    Path | None,
    typer.Option(help="folder for all state; default: $SAFEGUARD_HOME, /var/lib/safeguard for root, ~/.safeguard"),
]


@app.command()
def up(home: Home = None) -> None:
    """Starts PostgreSQL, S3, Ray and the service; returns when pictures can be uploaded. A second `up` finds the first."""
    from graphs.service import up as start

    running = start(home, say=lambda line: console.print(f"[dim]{line}[/dim]"))
    console.print(f"SafeGuard runs at  {running.url}   (try {running.url}/docs)", highlight=False)
    console.print(
        f"Ray dashboard      {running.dashboard}   (token in {running.settings.home / 'ray.token'})", highlight=False
    )
    console.print(f"First API key in   {running.key_file}", highlight=False)


@app.command()
def down(home: Home = None) -> None:
    """Stops everything that `up` started. Pictures, links and vectors stay."""
    from graphs.service import down as stop

    stop(home)
    console.print("stopped; all data are kept")


@app.command()
def status(home: Home = None) -> None:
    """Says of each part whether it runs, and where. Exit code 1 if a part has crashed or is not healthy."""
    from graphs.service import status as look

    rows = look(home)
    table = Table("part", "state", "where")
    for row in rows:
        table.add_row(*row)
    console.print(table)
    if any(state in ("crashed", "unhealthy", "deploy_failed", "failed") for _, state, _ in rows):
        raise typer.Exit(1)


@app.command()
def demo(
    home: Home = None, output: Annotated[Path, typer.Option(help="folder for the contact sheet")] = Path("demo_output")
) -> None:
    """Starts the service, uploads real pictures and edited copies, and shows which are copies of which."""
    from benchmarks.demo import run
    from graphs.service import up as start

    run(start(home, say=lambda line: console.print(f"[dim]{line}[/dim]")), output, console)


@app.command()
def calibrate(
    home: Home = None,
    model_name: Annotated[str | None, typer.Option(help="default: the default model")] = None,
    precision: Annotated[float, typer.Option(help="wanted of copies", min=0.5, max=1.0)] = 0.99,
    semantic_precision: Annotated[float, typer.Option(help="wanted of semantic matches", min=0.5, max=1.0)] = 0.9,
    pictures: Annotated[int, typer.Option(help="drawn from the corpus at most", min=1, max=20_000)] = 400,
    queries: Annotated[int, typer.Option(help="edited pictures that are asked for", min=30, max=100_000)] = 540,
    seed: int = 1,
    shadow: Annotated[bool, typer.Option("--shadow", help="only count and log what would change")] = False,
    promote: Annotated[
        bool, typer.Option("--promote", help="make the shadow thresholds active; measures nothing")
    ] = False,
    reset: Annotated[bool, typer.Option("--reset", help="go back to models.yaml; measures nothing")] = False,
) -> None:
    """Sets the thresholds for a precision that you name, measured on pictures of your own corpus."""
    from graphs.calibration import calibrate as run
    from graphs.calibration import switch

    if promote and reset:
        raise typer.BadParameter("--promote and --reset exclude each other")
    if promote or reset:
        console.print(switch(home, model_name, promote=promote))
        return
    with console.status("drawing pictures") as line:
        rows = run(
            home, model_name, mode="shadow" if shadow else "active", precision=precision,
            semantic_precision=semantic_precision, pictures=pictures, queries=queries, seed=seed, progress=line.update,
        )  # fmt: skip
    table = Table("relation", "threshold", "precision wanted", "measured", "expected recall", "mode")
    for row in rows:
        measured = (f"{row.threshold:.4f}", f"{row.wanted_precision}", f"{row.precision:.4f}", f"{row.recall:.3f}")
        table.add_row(row.relation, *measured, row.mode)
    console.print(table)
    console.print(f"{rows[0].pictures} different pictures, {rows[0].queries} queries; kept for {rows[0].networks}")


@app.command()
def check(
    home: Home = None,
    repair: Annotated[bool, typer.Option("--repair", help="mend what is found; no image is ever deleted")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="print the report as JSON")] = False,
    grace: Annotated[
        float | None,
        typer.Option(help="seconds for which an object without a row counts as an upload under way", min=0.0),
    ] = None,
) -> None:
    """Compares PostgreSQL, S3 and the vectors. Exit code 1 if something was found and not repaired."""
    from graphs.check import check as run
    from graphs.check_report import progress_line, show

    with progress_line(Console(stderr=True)) as say:
        report = run(home, repair=repair, grace_s=grace, say=say)
    if as_json:
        print(json.dumps(report.as_dict(), indent=2, ensure_ascii=False))
    else:
        show(report, console)
    if not report.clean:
        raise typer.Exit(1)


@app.command()
def backfill(
    source: Annotated[str, typer.Argument(help="s3://bucket/prefix of the corpus; its objects stay where they are")],
    home: Home = None,
    model_name: Annotated[str | None, typer.Option(help="default: the default model")] = None,
    cpus: Annotated[int, typer.Option(help="CPUs that the job may use", min=1, max=100_000)] = 1,
    gpus: Annotated[int, typer.Option(help="GPUs that the job may use", min=0, max=10_000)] = 0,
    reads_per_s: Annotated[
        float | None, typer.Option(help="objects that it may read a second; unlimited without", min=0.001)
    ] = None,
    niceness: Annotated[int, typer.Option(help="of its processes: 0 runs level with the service", min=0, max=19)] = 10,
    segment: Annotated[
        int, typer.Option(help="units of 16 objects indexed before their links are made; more for many GPUs", min=1)
    ] = 1024,
    detach: Annotated[bool, typer.Option("--detach", help="do not wait for the end")] = False,
) -> None:
    """Indexes a corpus in S3. Run it again after any crash: it does only what is left."""
    from graphs.jobs import start

    job = asyncio.run(
        start(
            home, source, model_name=model_name, cpus=cpus, gpus=gpus, reads_per_s=reads_per_s, niceness=niceness,
            segment_units=segment,
        )
    )  # fmt: skip
    assert job.id is not None
    if detach:
        console.print(f"job {job.id}; see it with `safeguard jobs follow {job.id}`")
    else:
        _follow(home, job.id)


@app.command()
def reindex(
    home: Home = None,
    descriptor: Annotated[
        str | None, typer.Option(help="name@version of models.yaml to build beside the live one")
    ] = None,
    model_name: Annotated[str | None, typer.Option(help="default: the default model")] = None,
    cpus: Annotated[int, typer.Option(help="CPUs that the job may use", min=1, max=100_000)] = 1,
    gpus: Annotated[int, typer.Option(help="GPUs that the job may use", min=0, max=10_000)] = 0,
    niceness: Annotated[int, typer.Option(help="of its processes: 0 runs level with the service", min=0, max=19)] = 10,
    segment: Annotated[
        int, typer.Option(help="units of 16 pictures indexed before their links are made", min=1)
    ] = 1024,
    detach: Annotated[bool, typer.Option("--detach", help="do not wait for the end")] = False,
    switch: Annotated[bool, typer.Option("--switch", help="make the built descriptor live")] = False,
    rollback: Annotated[bool, typer.Option("--rollback", help="make the previous descriptor live again")] = False,
    force: Annotated[bool, typer.Option("--force", help="switch though some pictures could not be re-indexed")] = False,
    abandon: Annotated[bool, typer.Option("--abandon", help="give up the descriptor that is being built")] = False,
    drop_previous: Annotated[bool, typer.Option("--drop-previous", help="delete what `--rollback` needs")] = False,
) -> None:
    """Builds the vectors and links of another descriptor beside the live one, and switches without downtime.

    First `--descriptor NAME@VERSION`; searches go on with the live one and uploads are written with both. Then
    `--switch`; `--rollback` goes back at once, until `--drop-previous`.
    """
    from graphs import reindex as work

    chosen = [descriptor is not None, switch, rollback, abandon, drop_previous]
    if sum(chosen) != 1:
        raise typer.BadParameter("give one of --descriptor, --switch, --rollback, --abandon, --drop-previous")
    if switch:
        console.print(
            f"{asyncio.run(work.switch(home, model_name, force=force))} is live; `--rollback` goes back",
            highlight=False,
        )
    elif rollback:
        console.print(f"{asyncio.run(work.rollback(home, model_name))} is live again", highlight=False)
    elif abandon or drop_previous:
        dropped = asyncio.run(work.drop(home, model_name, building=abandon))
        console.print(f"{dropped} is given up; its vectors are being deleted", highlight=False)
    elif descriptor is not None:
        job = asyncio.run(
            work.start(
                home, descriptor, model_name=model_name, cpus=cpus, gpus=gpus, niceness=niceness, segment_units=segment
            )
        )
        assert job.id is not None
        if detach:
            console.print(f"job {job.id}; see it with `safeguard jobs follow {job.id}`")
            return
        _follow(home, job.id)
        _compare(home, model_name)


def _compare(home: Path | None, model_name: str | None) -> None:
    from graphs.reindex import compare

    found = asyncio.run(compare(home, model_name))
    search = "exact search" if found.recall is None else f"recall@10 of its index {found.recall:.3f}"
    console.print(f"{found.other}: {found.rows} vectors, {search}", highlight=False)
    links = found.links
    console.print(
        f"copies by {found.live}: {links.live}, by {found.other}: {links.other}, by both: {links.both}", highlight=False
    )


def _follow(home: Path | None, job_id: int) -> None:
    from graphs.jobs import abandoned, follow
    from graphs.progress import Follower, progress_line

    follower = Follower(console)
    try:
        job = asyncio.run(follow(home, job_id, follower.show))
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
    alone = abandoned(job) or job.status in ("waiting", "cancelling")
    if alone:
        again = "cancel" if job.status == "cancelling" else "resume"
        console.print(f"no process runs it; `safeguard jobs {again} {job_id}` starts one", highlight=False)
    if job.status == "failed" or alone:
        raise typer.Exit(1)


@jobs.command("list")
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


@jobs.command()
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


@jobs.command("follow")
def follow_job(job_id: int, home: Home = None) -> None:
    """Shows a job until it has ended or rests."""
    _follow(home, job_id)


@jobs.command()
def pause(job_id: int, home: Home = None) -> None:
    """Stops a job after the units in work; `resume` goes on."""
    _change(home, job_id, "paused")


@jobs.command()
def resume(job_id: int, home: Home = None) -> None:
    """Goes on with a job that was paused, has failed, or whose process has died."""
    _change(home, job_id, "waiting")


@jobs.command()
def cancel(job_id: int, home: Home = None) -> None:
    """Ends a job. What is done stays; what is half done is taken back."""
    _change(home, job_id, "cancelling")


def _change(home: Path | None, job_id: int, wanted: str) -> None:
    from graphs.jobs import change
    from storage.job_tables import JobStatus

    job = asyncio.run(change(home, job_id, JobStatus(wanted)))
    console.print(f"job {job_id} is {job.status}")


@jobs.command("retry")
def retry_job(job_id: int, home: Home = None) -> None:
    """Tries the failed objects of a job again."""
    from graphs.jobs import retry

    console.print(f"{asyncio.run(retry(home, job_id))} objects are tried again")


@keys.command("create")
def create(
    name: str,
    scope: Annotated[list[str], typer.Option(help="repeat for several: image:read, image:write, image:process, …")],
    days: Annotated[float | None, typer.Option(help="days until it expires; never without", min=0.001)] = None,
    per_minute: Annotated[int | None, typer.Option(help="requests a minute; unlimited without", min=1)] = None,
    home: Home = None,
) -> None:
    """Makes a key and prints it: the one time that it can be seen."""
    from graphs.accounts import make_key

    expires = datetime.now(UTC) + timedelta(days=days) if days else None
    print(asyncio.run(make_key(home, name, scope, expires, per_minute)))


@keys.command("list")
def listing(home: Home = None) -> None:
    """All keys: scopes, expiry, revocation. Never the keys themselves."""
    from graphs.accounts import all_keys

    table = Table("name", "scopes", "per minute", "created", "expires", "revoked")
    for key in asyncio.run(all_keys(home)):
        times = (
            moment.strftime("%Y-%m-%d %H:%M") if moment else ""
            for moment in (key.created_at, key.expires_at, key.revoked_at)
        )
        table.add_row(key.name, " ".join(key.scopes), str(key.rate_limit or ""), *times)
    console.print(table)


@keys.command("revoke")
def revoke(name: str, home: Home = None) -> None:
    """Makes a key useless at once."""
    from graphs.accounts import drop_key

    asyncio.run(drop_key(home, name))
    console.print(f"{name} is revoked")


def main() -> None:
    """Runs the command line; an error of ours is one line, not a stack trace."""
    try:
        app()
    except (SafeGuardError, ModelsFileError, ValidationError) as error:
        Console(stderr=True).print(f"[red]error:[/red] {error}", highlight=False)
        raise SystemExit(1) from error


if __name__ == "__main__":
    main()
