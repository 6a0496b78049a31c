"""The commands that copy an installation into a folder and put such a copy back."""

import asyncio
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from graphs.commands.console import Home, console

Folder = Annotated[Path, typer.Argument(help="folder of the backup")]


def register(app: typer.Typer) -> None:
    """Adds the commands of this module to the command line."""
    for command in (backup, restore):
        app.command()(command)


def backup(
    folder: Folder,
    home: Home = None,
    pictures: Annotated[bool, typer.Option(help="with the objects of all pictures that are ours")] = True,
    vectors: Annotated[bool, typer.Option(help="with the vectors; they can be made anew, which takes longer")] = True,
) -> None:
    """Copies database, pictures and vectors into a folder, with a manifest. An interrupted backup goes on when repeated."""
    from graphs.backup import backup as run
    from graphs.check_report import progress_line

    with progress_line(Console(stderr=True)) as say:
        made = asyncio.run(run(home, folder, with_pictures=pictures, with_vectors=vectors, say=say))
    rows = sum(one.rows for one in made.database.tables)
    console.print(f"{folder}: {rows:,} rows as of {made.database.taken_at}", highlight=False)
    if made.pictures is not None:
        lost = f", {made.pictures.missing:,} pictures were not in the bucket" if made.pictures.missing else ""
        console.print(f"{made.pictures.objects:,} objects{lost}", highlight=False)
    if made.vectors is not None:
        console.print(f"{sum(one.rows for one in made.vectors):,} vectors", highlight=False)
    console.print("It holds hashes of keys and secrets of webhooks: keep it closed.")


def restore(
    folder: Folder,
    home: Home = None,
    force: Annotated[bool, typer.Option("--force", help="take away what the installation holds")] = False,
) -> None:
    """Puts a backup in place of what an installation holds; its service must be stopped. Then `safeguard up`."""
    from graphs.check_report import progress_line
    from graphs.restore import restore as run

    with progress_line(Console(stderr=True)) as say:
        done = run(home, folder, force=force, say=say)
    held = done.manifest.database
    console.print(f"restored {sum(one.rows for one in held.tables):,} rows as of {held.taken_at}", highlight=False)
    if done.removed:
        console.print(f"{done.removed:,} objects that the backup did not have were removed", highlight=False)
    if done.manifest.pictures is None:
        console.print("The backup has no pictures: the bucket must hold them.")
    if done.vectors is None:
        console.print("The backup has no vectors: `safeguard check --repair` has them made anew.")
    console.print("The audit is unbroken. Next: `safeguard up`, then `safeguard check`.")
