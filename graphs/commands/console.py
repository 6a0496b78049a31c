"""What every command shares: where it prints, the option that names the installation, and what ranges let through."""

import math
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

console = Console()
Home = Annotated[
    Path | None,
    typer.Option(help="folder for all state; default: $SAFEGUARD_HOME, /var/lib/safeguard for root, ~/.safeguard"),
]


def a_number(value: float | None) -> float | None:
    """For the ``callback`` of an option with a range: NaN is below no minimum and above no maximum.

    Raises:
        typer.BadParameter: it is NaN.
    """
    if value is not None and math.isnan(value):
        raise typer.BadParameter("nan is not a number")
    return value


def printable(words: str) -> str:
    """A text of somebody else's without what could steer a terminal."""
    return "".join(one if one.isprintable() else "\N{REPLACEMENT CHARACTER}" for one in words)


def say(line: str) -> None:
    """Prints a line as it is, without what could steer a terminal: parts of it may be somebody else's."""
    console.print(printable(line), highlight=False, markup=False, soft_wrap=True)
