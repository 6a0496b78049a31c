"""What a check found, as a table and as JSON, and the line that says how far it is. Imports nothing of ours."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

_EXAMPLES = 5
_LOG_EVERY_S = 10.0


class Kind(StrEnum):
    """What can be wrong; the value is the name in the JSON report."""

    MISSING_OBJECT = "missing_object"
    EXTRA_OBJECT = "extra_object"
    MISSING_DETAILS = "missing_details"
    EXTRA_DETAILS = "extra_details"
    MISSING_VECTORS = "missing_vectors"
    WRONG_VERSION = "wrong_version"
    EXTRA_VECTORS = "extra_vectors"
    DUPLICATE_VECTORS = "duplicate_vectors"


MEANING = {
    Kind.MISSING_OBJECT: ("images whose picture is missing in S3", "the image becomes FAILED with that reason"),
    Kind.EXTRA_OBJECT: ("pictures in S3 that no image knows", "deleted from S3"),
    Kind.MISSING_DETAILS: ("processed images whose details are missing in S3", "processed anew"),
    Kind.EXTRA_DETAILS: ("details in S3 of pictures that no image knows", "deleted from S3"),
    Kind.MISSING_VECTORS: ("processed images without vectors", "processed anew"),
    Kind.WRONG_VERSION: ("processed images with vectors of another version only", "processed anew"),
    Kind.EXTRA_VECTORS: ("vectors of images that are not there", "deleted"),
    Kind.DUPLICATE_VECTORS: ("images with a vector stored twice", "vectors deleted; processed anew"),
}
"""For each kind what it is and what a repair does."""


class Note(StrEnum):
    """What is said and never repaired; the value is the name in the JSON report."""

    UNUSED_TABLES = "unused_tables"
    UNFINISHED_UPLOADS = "unfinished_uploads"
    EXPIRED_LEASES = "expired_leases"
    UNREACHABLE = "unreachable"


NOTES = {
    Note.UNUSED_TABLES: "vector tables that no model uses",
    Note.UNFINISHED_UPLOADS: "uploads without an object: swept away by the running service",
    Note.UNREACHABLE: "pictures of corpora whose bucket is missing, refuses or does not answer: not judged",
    Note.EXPIRED_LEASES: "claims long over: taken back when the queue is next asked for work",
}


@dataclass
class Tally:
    """Findings of one kind: how many, how many of them were repaired, and the first few."""

    count: int = 0
    repaired: int = 0
    examples: list[str] = field(default_factory=list)


@dataclass
class Report:
    """Result of a check.

    Args:
        repair: whether it also repaired.
        checked: how much was looked at, by what it is.
        seconds: that it took.
    """

    repair: bool
    found: dict[Kind, Tally] = field(default_factory=dict)
    notes: dict[Note, Tally] = field(default_factory=dict)
    checked: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0

    def add(self, kind: Kind, example: str, *, repaired: bool = False) -> None:
        """Counts one finding."""
        tally = self.found.setdefault(kind, Tally())
        tally.count += 1
        tally.repaired += repaired
        if len(tally.examples) < _EXAMPLES:
            tally.examples.append(example)

    def note(self, note: Note, count: int, examples: list[str]) -> None:
        """Keeps something worth knowing that is no error."""
        if count:
            self.notes[note] = Tally(count, 0, examples[:_EXAMPLES])

    def looked_at(self, what: str, count: int) -> None:
        """Adds to what was looked at."""
        self.checked[what] = self.checked.get(what, 0) + count

    @property
    def total(self) -> int:
        """Findings of all kinds."""
        return sum(tally.count for tally in self.found.values())

    @property
    def clean(self) -> bool:
        """Whether nothing was found that was not repaired."""
        return all(tally.count == tally.repaired for tally in self.found.values())

    def as_dict(self) -> dict[str, Any]:
        """The machine-readable report."""
        return {
            "clean": self.clean,
            "repair": self.repair,
            "findings": [
                {"kind": kind, "meaning": MEANING[kind][0], "count": tally.count, "repaired": tally.repaired,
                 "repair": MEANING[kind][1], "examples": tally.examples}
                for kind, tally in self.found.items()
            ],
            "information": [
                {"kind": note, "meaning": NOTES[note], "count": tally.count, "examples": tally.examples}
                for note, tally in self.notes.items()
            ],
            "checked": self.checked,
            "seconds": round(self.seconds, 3),
        }  # fmt: skip


def show(report: Report, console: Console) -> None:
    """Prints the report for people."""
    table = Table("found", "count", "for example", "repaired" if report.repair else "what --repair does")
    for kind, tally in report.found.items():
        meaning, repair = MEANING[kind]
        done = f"{tally.repaired}: {repair}" if report.repair else repair
        table.add_row(meaning, f"{tally.count:,}", escape("\n".join(tally.examples)), done)
    for note, tally in report.notes.items():
        table.add_row(f"[dim]{NOTES[note]}", f"{tally.count:,}", escape("\n".join(tally.examples)), "[dim]left alone")
    if table.row_count:
        console.print(table)
    looked = ", ".join(f"{count:,} {what}" for what, count in report.checked.items())
    verdict = "consistent" if not report.total else "all repaired" if report.clean else f"{report.total:,} findings"
    console.print(f"{verdict}; looked at {looked or 'nothing'} in {report.seconds:.1f} s", highlight=False)


@contextmanager
def progress_line(console: Console) -> Iterator[Callable[[str], None]]:
    """Gives a function that says how far something is: one living line on a terminal, a line now and then in a log file."""
    if console.is_terminal:
        with console.status("") as status:
            yield lambda said: status.update(escape(said))
        return
    last = time.monotonic()

    def say(said: str) -> None:
        nonlocal last
        if time.monotonic() - last >= _LOG_EVERY_S:
            last = time.monotonic()
            console.print(f"{time.strftime('%H:%M:%S')} {said}", highlight=False, markup=False)

    yield say
