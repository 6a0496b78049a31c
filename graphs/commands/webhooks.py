"""The group `webhooks`: who is told of events, how it goes, and what is sent again."""

import asyncio
from datetime import UTC, datetime
from typing import Annotated

import typer
from rich.table import Table

from graphs.commands.console import Home, console, say
from storage.event_tables import DeliveryState

group = typer.Typer(
    no_args_is_help=True,
    help="Webhooks: add, list, show, remove, enable, disable, rotate, test, deliveries, replay.",
)
_SECRET = "The secret, to check signatures with; it is not shown again:"


def register(app: typer.Typer) -> None:
    """Adds the group to the command line."""
    app.add_typer(group, name="webhooks")


def _moment(moment: datetime | None) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S") if moment else ""


@group.command()
def add(
    url: Annotated[str, typer.Argument(help="https://…; leads nowhere private unless the settings allow it")],
    type: Annotated[
        list[str] | None, typer.Option(help="wanted event, e.g. image.decided; repeat for several; all without")
    ] = None,
    description: Annotated[str, typer.Option(help="for people")] = "",
    home: Home = None,
) -> None:
    """Adds a webhook and prints its secret: the one time that it can be seen."""
    from graphs import webhooks

    made = asyncio.run(webhooks.add(home, url, type or [], description))
    say(f"webhook {made.id}; try it with `safeguard webhooks test {made.id}`")
    say(_SECRET)
    print(made.secret)


@group.command("list")
def listing(home: Home = None) -> None:
    """All webhooks, and since when one fails."""
    from graphs import webhooks

    table = Table("webhook", "state", "waiting", "dead", "failing since (UTC)", "events", "address")
    for one, backlog in asyncio.run(webhooks.every(home)):
        state = "enabled" if one.enabled else "disabled"
        counts = (str(backlog.waiting), str(backlog.dead))
        table.add_row(
            str(one.id), state, *counts, _moment(one.failing_since), " ".join(one.types) or "all", one.url
        )  # fmt: skip
    console.print(table)


@group.command()
def show(webhook_id: int, home: Home = None) -> None:
    """One webhook: how it goes, and its last error."""
    from graphs import webhooks

    one, backlog = asyncio.run(webhooks.show(home, webhook_id))
    state = "enabled" if one.enabled else f"disabled: {one.disabled_reason}"
    say(f"{one.url}  {state}")
    say(f"events: {' '.join(one.types) or 'all'}" + (f"; {one.description}" if one.description else ""))
    say(f"{backlog.waiting} waiting, {backlog.dead} dead; last success {_moment(one.last_success_at) or 'never'}")
    if one.failing_since:
        say(f"failing since {_moment(one.failing_since)}, {one.failures} times in a row: {one.last_error}")


@group.command()
def remove(webhook_id: int, home: Home = None) -> None:
    """Deletes a webhook with what waits for it."""
    from graphs import webhooks

    asyncio.run(webhooks.remove(home, webhook_id))
    say(f"webhook {webhook_id} is deleted")


@group.command()
def enable(webhook_id: int, home: Home = None) -> None:
    """Sends again, at once what waits; `replay --since` sends what happened meanwhile."""
    from graphs import webhooks

    asyncio.run(webhooks.switch(home, webhook_id, enabled=True))
    say(f"webhook {webhook_id} is enabled")


@group.command()
def disable(webhook_id: int, home: Home = None) -> None:
    """Sends nothing until `enable`; what waits stays."""
    from graphs import webhooks

    asyncio.run(webhooks.switch(home, webhook_id, enabled=False))
    say(f"webhook {webhook_id} is disabled")


@group.command()
def rotate(webhook_id: int, home: Home = None) -> None:
    """Gives a webhook another secret and prints it; the old one signs too for a while."""
    from graphs import webhooks

    rotated = asyncio.run(webhooks.rotate(home, webhook_id))
    if rotated.old_secret_until:
        say(f"the old secret signs too until {_moment(rotated.old_secret_until)} UTC")
    say(_SECRET)
    print(rotated.secret)


@group.command()
def test(webhook_id: int, home: Home = None) -> None:
    """Sends a test event and says what came of it. Exit code 1 if it was not taken."""
    from graphs import webhooks

    record = asyncio.run(webhooks.test(home, webhook_id))
    if record.state == DeliveryState.DELIVERED:
        say(f"event {record.event_id} was taken: {record.last_status}")
        return
    say(f"event {record.event_id} was not taken: {record.last_error or 'not sent yet; does the service run?'}")
    raise typer.Exit(1)


@group.command()
def deliveries(
    webhook_id: int,
    state: Annotated[DeliveryState | None, typer.Option(help="only these")] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000)] = 20,
    home: Home = None,
) -> None:
    """What became of the newest events."""
    from graphs import webhooks

    table = Table("event", "type", "image", "happened (UTC)", "state", "tries", "next try (UTC)", "last error")
    for one in asyncio.run(webhooks.deliveries(home, webhook_id, state, limit=limit)):
        image, tries = str(one.image_id or ""), str(one.attempt)
        times = (_moment(one.created_at), one.state, tries, _moment(one.next_try_at))
        table.add_row(str(one.event_id), one.type, image, *times, one.last_error or "")
    console.print(table)


@group.command()
def replay(
    webhook_id: int,
    dead: Annotated[bool, typer.Option("--dead", help="what was given up")] = False,
    since: Annotated[
        str | None, typer.Option(help="all that it wants since then, e.g. 2024-11-01T10:00:00+00:00")
    ] = None,
    event: Annotated[int | None, typer.Option(help="this one, whatever it wants", min=1, max=2**63 - 1)] = None,
    home: Home = None,
) -> None:
    """Sends events again, with their old webhook-id: a receiver that drops repeats takes only what it lacks."""
    from graphs import webhooks

    moment = None
    if since is not None:
        try:
            moment = datetime.fromisoformat(since)
        except ValueError as error:
            raise typer.BadParameter(f"--since: {since!r} is no time such as 2024-11-01T10:00:00+00:00") from error
    count = asyncio.run(webhooks.replay(home, webhook_id, dead=dead, since=moment, event_id=event))
    say(f"{count} events are sent again")
