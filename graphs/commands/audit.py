"""The group `audit`: follow the chain, print its head, list entries."""

import asyncio
import json
import sys
from typing import Annotated, Any

import typer

from graphs.commands.console import Home, console, printable

group = typer.Typer(no_args_is_help=True, help="The audit: verify its chain, print its head, list entries.")


def register(app: typer.Typer) -> None:
    """Adds the group to the command line."""
    app.add_typer(group, name="audit")


@group.command("verify")
def verify(
    head: Annotated[
        str | None, typer.Option(help="SEQUENCE:HASH that `audit head` printed once and that was kept elsewhere")
    ] = None,
    home: Home = None,
) -> None:
    """Follows the chain from the first entry. Exit code 1 where it is broken, with the place."""
    from graphs.auditing import check

    checked = asyncio.run(check(home, head))
    if checked.broken is not None:
        where = f"{checked.broken.fault} at {checked.broken.sequence}: {checked.broken.detail}"
        console.print(f"[red]broken:[/red] {where}; whole up to {checked.head}", highlight=False, soft_wrap=True)
        raise typer.Exit(1)
    console.print(f"unbroken: {checked.head.sequence} entries; head {checked.head}", highlight=False, soft_wrap=True)


@group.command("head")
def head(home: Home = None) -> None:
    """Prints SEQUENCE:HASH of the newest entry. Keep it elsewhere: `verify --head` needs it to see a cut-off end."""
    from graphs.auditing import newest

    print(asyncio.run(newest(home)))


@group.command("list")
def listing(
    subject: Annotated[str | None, typer.Option(help="such as image/7")] = None,
    action: Annotated[str | None, typer.Option(help="such as key.create")] = None,
    actor: Annotated[str | None, typer.Option(help="name of a key or of a command")] = None,
    after: Annotated[int, typer.Option(help="only entries behind this sequence", min=0, max=2**63 - 1)] = 0,
    limit: Annotated[int | None, typer.Option(help="at most so many; all without", min=1)] = None,
    as_json: Annotated[bool, typer.Option("--json", help="one entry a line, as GET /audit has them")] = False,
    home: Home = None,
) -> None:
    """Entries in the order in which they were written."""
    from graphs.auditing import each
    from storage.audit_log import as_sent

    async def show() -> None:
        async for entry in each(home, after=after, limit=limit, subject=subject, action=action, actor=actor):
            sent = as_sent(entry)
            line = json.dumps(sent, ensure_ascii=False) if as_json else _line(sent)
            sys.stdout.write(line + "\n")

    asyncio.run(show())


def _line(sent: dict[str, Any]) -> str:
    """An entry for people; what could steer a terminal is left out."""
    detail = json.dumps(sent["detail"], ensure_ascii=False)
    words = (str(sent["sequence"]), sent["at"][:19], sent["actor"], sent["action"], sent["subject"], detail)
    return "  ".join(printable(word) for word in words)
