"""The command line: ``python safeguard.py up | down | status | …``. The commands are in graphs/commands/."""

import typer
from pydantic import ValidationError
from rich.console import Console
from rich.markup import escape

from configs.models import ModelsFileError
from graphs.commands import MODULES
from storage.errors import SafeGuardError

app = typer.Typer(no_args_is_help=True, add_completion=False, help="SafeGuard finds semantic copies of images.")
for module in MODULES:
    module.register(app)


def main() -> None:
    """Runs the command line; an error of ours is one line, not a stack trace."""
    try:
        app()
    except (SafeGuardError, ModelsFileError, ValidationError) as error:
        Console(stderr=True).print(f"[red]error:[/red] {escape(str(error))}", highlight=False)
        raise SystemExit(1) from error


if __name__ == "__main__":
    main()
