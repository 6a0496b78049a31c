"""The group `keys`: API keys, made, listed, rotated and revoked."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer
from rich.table import Table

from graphs.commands.console import Home, console

group = typer.Typer(no_args_is_help=True, help="API keys: make, list, rotate, revoke.")


def register(app: typer.Typer) -> None:
    """Adds the group to the command line."""
    app.add_typer(group, name="keys")


@group.command("create")
def create(
    name: str,
    scope: Annotated[list[str], typer.Option(help="repeat for several: image:read, image:write, image:process, …")],
    days: Annotated[
        float | None, typer.Option(help="days until it expires; never without", min=0.001, max=36_500)
    ] = None,
    per_minute: Annotated[int | None, typer.Option(help="requests a minute; unlimited without", min=1)] = None,
    home: Home = None,
) -> None:
    """Makes a key and prints it: the one time that it can be seen."""
    from graphs.accounts import make_key

    expires = datetime.now(UTC) + timedelta(days=days) if days else None
    print(asyncio.run(make_key(home, name, scope, expires, per_minute)))


@group.command("list")
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


@group.command("revoke")
def revoke(name: str, home: Home = None) -> None:
    """Makes a key useless at once, and with it those that it replaced."""
    from graphs.accounts import drop_key

    for one in (name, *asyncio.run(drop_key(home, name))):
        console.print(f"{one} is revoked")


@group.command("rotate")
def rotate(
    name: str,
    overlap: Annotated[float, typer.Option(help="hours for which the old key is still valid", min=0, max=8760)] = 24.0,
    home: Home = None,
) -> None:
    """Replaces a key by a new one with the same rights and prints it; the old one goes on for a while."""
    from graphs.accounts import renew_key

    print(asyncio.run(renew_key(home, name, timedelta(hours=overlap))))
