"""The command `failures`: images that fail or are tried again and again."""

import asyncio
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from graphs.commands.console import Home, console, printable


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
    table = Table("images", "status", "newest", "name", "model", "attempts", "last upload", "SHA-256", "reason")
    for one in found:
        name, reason = escape(printable(one.name)), escape(printable(one.reason or ""))
        counts = str(one.images), one.status, str(one.newest)
        table.add_row(
            *counts, name, one.model_name, str(one.attempts), f"{one.last_at:%m-%d %H:%M:%S}", one.sha256.hex()[:16],
            reason,
        )  # fmt: skip
    console.print(table, soft_wrap=True)
