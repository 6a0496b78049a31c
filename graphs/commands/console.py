"""What every command shares: where it prints, and the option that names the installation."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

console = Console()
Home = Annotated[
    Path | None,
    typer.Option(help="folder for all state; default: $SAFEGUARD_HOME, /var/lib/safeguard for root, ~/.safeguard"),
]


def printable(words: str) -> str:
    """A text of somebody else's without what could steer a terminal."""
    return "".join(one if one.isprintable() else "\N{REPLACEMENT CHARACTER}" for one in words)


def say(line: str) -> None:
    """Prints a line as it is, without what could steer a terminal: parts of it may be somebody else's."""
    console.print(printable(line), highlight=False, markup=False, soft_wrap=True)
