"""The commands that work on a whole corpus: `backfill` and `reindex`."""

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from graphs.commands.console import Home, console
from graphs.commands.following import follow


def register(app: typer.Typer) -> None:
    """Adds the commands of this module to the command line."""
    for command in (backfill, reindex):
        app.command()(command)


def backfill(
    source: Annotated[str, typer.Argument(help="s3://bucket/prefix of the corpus; its objects stay where they are")],
    home: Home = None,
    model_name: Annotated[str | None, typer.Option(help="default: the default model")] = None,
    cpus: Annotated[int, typer.Option(help="CPUs that the job may use", min=1, max=100_000)] = 1,
    gpus: Annotated[int, typer.Option(help="GPUs that the job may use", min=0, max=10_000)] = 0,
    reads_per_s: Annotated[
        float | None, typer.Option(help="objects that it may read a second; unlimited without", min=0.001, max=1e9)
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
        follow(home, job.id)


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
        follow(home, job.id)
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
