"""The commands that start, stop, look at, check and tune an installation."""

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from graphs.commands.console import Home, console, say


def register(app: typer.Typer) -> None:
    """Adds the commands of this module to the command line."""
    for command in (up, update, prepare, down, status, replicas, demo, calibrate, check):
        app.command()(command)


def up(
    home: Home = None,
    foreground: Annotated[
        bool,
        typer.Option("--foreground", help="stay; stop everything at SIGTERM, and end where Ray does: for containers"),
    ] = False,
) -> None:
    """Starts PostgreSQL, S3, Ray and the service; returns when pictures can be uploaded. A second `up` finds the first."""
    from graphs.foreground import stay
    from graphs.service import up as start

    running = start(home, say=lambda line: console.print(f"[dim]{line}[/dim]"))
    console.print(f"SafeGuard runs at  {running.url}   (try {running.url}/docs)", highlight=False)
    console.print(
        f"Ray dashboard      {running.dashboard}   (token in {running.settings.home / 'ray.token'})", highlight=False
    )
    console.print(f"First API key in   {running.key_file}", highlight=False)
    if foreground:
        raise typer.Exit(stay(home))


def update(home: Home = None) -> None:
    """Replaces every replica by one of the code, models and settings that lie here now; no request fails meanwhile."""
    from graphs.updating import update as run

    release = run(home, say=lambda line: console.print(f"[dim]{line}[/dim]", highlight=False))
    console.print(f"every replica runs release {release}", highlight=False)


def prepare(home: Home = None) -> None:
    """Brings schema, buckets and the first policy to this version, without Ray: before Serve is deployed by somebody else."""
    from graphs.service import prepare as run

    run(home, say=lambda line: console.print(f"[dim]{line}[/dim]"))
    console.print("prepared; make a key with `safeguard keys create`")


def down(home: Home = None) -> None:
    """Stops everything that `up` started. Pictures, links and vectors stay."""
    from graphs.service import down as stop

    stop(home)
    console.print("stopped; all data are kept")


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


def replicas(
    replica: Annotated[str | None, typer.Argument(help="id, as in the label of an alert; default: all")] = None,
    home: Home = None,
    end: Annotated[bool, typer.Option("--end", help="end its process: Ray starts another one")] = False,
) -> None:
    """Says of each replica where it runs, what its process has done for a second, and where its log is."""
    from graphs.replicas import end as kill
    from graphs.replicas import replicas as look

    if end:
        if replica is None:
            raise typer.BadParameter("--end needs the id of one replica")
        one = kill(home, replica)
        console.print(f"ended {one.deployment} {one.id}, process {one.pid}", highlight=False)
        return
    for one in look(home, replica):  # lines, because a table would cut ids short
        seen = one.activity
        doing = f": {seen.cpu:.0%} CPU, {seen.memory_bytes / 2**20:.0f} MiB, {seen.state}" if seen else ""
        say(f"{one.deployment} {one.id} {one.state} on {one.node}, process {one.pid or 'none'}{doing}; log {one.log}")


def demo(
    home: Home = None, output: Annotated[Path, typer.Option(help="folder for the contact sheet")] = Path("demo_output")
) -> None:
    """Starts the service, uploads real pictures and edited copies, and shows which are copies of which."""
    from benchmarks.demo import run
    from graphs.service import up as start

    run(start(home, say=lambda line: console.print(f"[dim]{line}[/dim]")), output, console)


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


def check(
    home: Home = None,
    repair: Annotated[bool, typer.Option("--repair", help="mend what is found; no image is ever deleted")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="print the report as JSON")] = False,
    grace: Annotated[
        float | None,
        typer.Option(
            help="seconds for which an object without a row counts as an upload under way",
            min=0.0,
            max=31_536_000,
        ),
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
