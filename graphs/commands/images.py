"""The command `failures`: images that fail or are tried again and again."""

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from graphs.commands.console import Home, console, say


def register(app: typer.Typer) -> None:
    """Adds the command to the command line."""
    app.command()(failures)


def failures(
    home: Home = None,
    among: Annotated[int, typer.Option(help="of the newest failures so many are looked at", min=1, max=100_000)] = 1000,
    most: Annotated[int, typer.Option(help="lines at most", min=1, max=1000)] = 20,
) -> None:
    """Images that FAILED, and those that are tried again; the same file sent again and again is one line."""
    asyncio.run(_show(home, among, most))


async def _show(home: Path | None, among: int, most: int) -> None:
    from graphs.opening import opened
    from storage.troubled import troubled

    async with opened(home) as (_, engine):
        found = await troubled(engine, among=among, most=most)
    if not found:
        console.print("no image has failed or is tried again")
        return
    for one in found:  # lines, because a table would cut names and reasons short
        what = f"{one.images} × {one.status}: newest {one.newest} {one.name!r} for {one.model_name}"
        when = f"sent {one.last_at:%m-%d %H:%M:%S}, attempts {one.attempts}, SHA-256 {one.sha256.hex()[:16]}"
        say(f"{what}, {when}: {one.reason or 'no reason was given'}")
