"""The group `lookbacks`: work over past images that follows a change of banks or policies."""

import asyncio
from datetime import UTC, datetime
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from graphs.commands.console import Home, console, say
from storage.lookback_progress import per_second, share_done
from storage.lookback_tables import LookBack, LookBackState

group = typer.Typer(no_args_is_help=True, help="Look-backs over past images: list, show, follow, start, cancel, retry.")


def register(app: typer.Typer) -> None:
    """Adds the group to the command line."""
    app.add_typer(group, name="lookbacks")


def _moment(moment: datetime | None) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S") if moment else ""


def _line(one: LookBack) -> str:
    of_members = "" if one.members is None else f", {one.members_done} of {one.members} members"
    skipped = f", {one.skipped} skipped" if one.skipped else ""
    return (
        f"look-back {one.id} {one.state}: {share_done(one):.0%}{of_members}{skipped}, {one.images_done} images judged,"
        f" {one.verdicts_changed} verdicts changed, {per_second(one):.1f} images/s"
    )


@group.command("list")
def listing(home: Home = None) -> None:
    """The newest hundred."""
    from graphs import lookbacks

    table = Table("look-back", "state", "done", "images", "changed", "begun (UTC)", "by", "cause")
    for one in asyncio.run(lookbacks.every(home)):
        counts = (f"{share_done(one):.0%}", str(one.images_done), str(one.verdicts_changed))
        table.add_row(str(one.id), one.state, *counts, _moment(one.created_at), Text(one.created_by), Text(one.cause))
    console.print(table)


@group.command()
def show(lookback_id: int, home: Home = None) -> None:
    """How far one is, and what went wrong."""
    from graphs import lookbacks

    one = asyncio.run(lookbacks.show(home, lookback_id))
    say(f"{one.kind}: {one.cause}, by {one.created_by}, {_moment(one.created_at)}")
    _end(one)


@group.command()
def follow(lookback_id: int, home: Home = None) -> None:
    """Shows one until it has ended. Exit code 1 if it was given up or cancelled."""
    from graphs import lookbacks

    said: list[str] = []

    def seen(one: LookBack) -> None:
        if not said or said[-1] != _line(one):
            said.append(_line(one))
            if one.state == LookBackState.WAITING:
                say(said[-1])

    try:
        one = asyncio.run(lookbacks.follow(home, lookback_id, seen))
    except KeyboardInterrupt:
        say(f"look-back {lookback_id} goes on; `safeguard lookbacks cancel {lookback_id}` stops it")
        return
    _end(one)
    if one.state != LookBackState.DONE:
        raise typer.Exit(1)


def _end(one: LookBack) -> None:
    say(_line(one))
    for reason in one.skips:
        say(f"skipped {reason}")
    if one.skipped > len(one.skips):
        say(f"… and {one.skipped - len(one.skips)} more")
    if one.failure:
        say(one.failure)
    if one.state in (LookBackState.DEAD, LookBackState.CANCELLED):
        say(f"`safeguard lookbacks retry {one.id}` lets it go on where it stands")


@group.command()
def start(
    bank: Annotated[
        int | None, typer.Option(help="id of a bank: all its members are searched for again", min=1)
    ] = None,
    reason: Annotated[str, typer.Option(help="for people")] = "asked for by hand",
    home: Home = None,
) -> None:
    """Looks back on request: for the members of a bank, or, without one, judging all images anew."""
    from graphs import lookbacks

    made = asyncio.run(lookbacks.start(home, bank, reason))
    say(f"look-back {made}; see it with `safeguard lookbacks follow {made}`")


@group.command()
def cancel(lookback_id: int, home: Home = None) -> None:
    """Ends one where it stands; what it has decided stays."""
    from graphs import lookbacks

    say(f"look-back {lookback_id} is {asyncio.run(lookbacks.cancel(home, lookback_id)).state}")


@group.command()
def retry(lookback_id: int, home: Home = None) -> None:
    """Lets one that was given up or cancelled go on from where it stands."""
    from graphs import lookbacks

    say(f"look-back {lookback_id} is {asyncio.run(lookbacks.retry(home, lookback_id)).state}")
