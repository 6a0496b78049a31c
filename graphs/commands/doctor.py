"""The command `doctor`: what is open, weak or about to fail."""

import json

import typer
from rich.markup import escape
from rich.table import Table

from graphs.commands.console import Home, console, printable


def register(app: typer.Typer) -> None:
    """Adds the command to the command line."""
    app.command()(doctor)


def doctor(
    home: Home = None,
    as_json: bool = typer.Option(False, "--json", help="print the findings as JSON"),
) -> None:
    """Says what is open, weak or about to fail, and what to do about it. Exit code 1 if something must be mended."""
    from graphs.doctor import Level, examine

    findings = examine(home)
    if as_json:
        print(json.dumps([vars(one) for one in findings], indent=2, ensure_ascii=False))
    else:
        colours = {Level.OK: "green", Level.NOTE: "yellow", Level.BAD: "red"}
        table = Table("", "about", "found", "what to do")
        for one in findings:
            table.add_row(
                f"[{colours[one.level]}]{one.level}[/]",
                one.area,
                escape(printable(one.what)),
                escape(printable(one.do)),
            )
        console.print(table)
    if any(one.level == Level.BAD for one in findings):
        raise typer.Exit(1)
