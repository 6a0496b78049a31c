"""The group `banks`: banks and their members; lists of hashes in and out; thresholds of one bank."""

import asyncio
import sys
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from configs.facts import BankKind
from graphs.commands.console import Home, console, say
from storage.bank_export import Form

if TYPE_CHECKING:
    from storage.bank_import import Imported
    from storage.banks import BankState

group = typer.Typer(no_args_is_help=True, help="Banks: make, change, fill, import, export, calibrate.")
_Bank = Annotated[str, typer.Argument(help="its name, or its number")]
_Relations = Annotated[
    list[str] | None, typer.Option("--relation", help="that counts: exact, copy, semantic; repeat for several")
]
_Distance = Annotated[int | None, typer.Option(help="bits of 256 that a picture may differ from a PDQ hash")]
_Score = Annotated[float | None, typer.Option(help="without, the threshold that made the link", min=0.0, max=1.0)]


def register(app: typer.Typer) -> None:
    """Adds the group to the command line."""
    app.add_typer(group, name="banks")


def _look_back(number: int | None) -> str:
    return "" if number is None else f"; look-back {number} looks at past images"


def _given(**options: Any) -> dict[str, Any]:
    return {name: value for name, value in options.items() if value is not None}


@group.command("list")
def listing(home: Home = None) -> None:
    """All banks and how many members they have."""
    from graphs.banks import every

    table = Table("bank", "name", "kind", "in force", "images", "hashes", "in quarantine")
    for one in asyncio.run(every(home)):
        counts = (str(count) for count in (one.images, one.hashes, one.quarantined))
        table.add_row(str(one.id), escape(one.bank.name), one.bank.kind, _in_force(one), *counts)
    console.print(table)


def _in_force(state: "BankState") -> str:
    if state.bank.enabled:
        return "yes"
    until = state.bank.disabled_until
    return f"from {until:%Y-%m-%d %H:%M %Z}" if until else "no"


@group.command()
def create(
    name: str,
    kind: Annotated[BankKind, typer.Option(help="of its pictures")] = BankKind.UNACCEPTABLE,
    description: str = "",
    relation: _Relations = None,
    pdq_distance: _Distance = None,
    copy_score: _Score = None,
    semantic_score: _Score = None,
    home: Home = None,
) -> None:
    """Makes an empty bank, in force at once."""
    from graphs.banks import create as run
    from storage.banks import NewBank

    given = _given(relations=relation, pdq_distance=pdq_distance, copy_score=copy_score, semantic_score=semantic_score)
    made = asyncio.run(run(home, NewBank(name, kind.value, description, **given)))
    say(f"bank {made.id} is made: {made.bank.name}")


@group.command()
def change(
    bank: _Bank,
    name: Annotated[str | None, typer.Option(help="another name")] = None,
    description: str | None = None,
    enable: Annotated[bool | None, typer.Option("--enable/--disable", help="whether its matches count")] = None,
    until: Annotated[
        str | None, typer.Option(help="disabled until then, with a time zone: 2030-01-01T00:00:00+03:00")
    ] = None,
    relation: _Relations = None,
    pdq_distance: _Distance = None,
    copy_score: _Score = None,
    semantic_score: _Score = None,
    link_scores: Annotated[
        bool, typer.Option("--link-scores", help="no scores of its own: the thresholds of the links")
    ] = False,
    home: Home = None,
) -> None:
    """Changes a bank; what decides whether a picture matches is applied to past images too."""
    from graphs.banks import change as run

    changes = _given(
        name=name, description=description, enabled=enable, relations=relation, pdq_distance=pdq_distance,
        copy_score=copy_score, semantic_score=semantic_score,
    )  # fmt: skip
    if until is not None:
        try:
            changes["disabled_until"] = datetime.fromisoformat(until)
        except ValueError as error:
            raise typer.BadParameter(f"{until!r} is no time; such as 2030-01-01T00:00:00+03:00") from error
    if link_scores:
        changes |= {"copy_score": None, "semantic_score": None}
    state, look_back = asyncio.run(run(home, bank, changes))
    say(f"bank {state.id} is changed{_look_back(look_back)}")


@group.command()
def show(bank: _Bank, home: Home = None) -> None:
    """What holds for a bank."""
    from graphs.banks import show as look

    state = asyncio.run(look(home, bank))
    held = state.bank
    say(f"bank {state.id}, {held.kind}: {held.name}")
    if held.description:
        say(" ".join(held.description.split()))
    say(f"made {held.created_at:%Y-%m-%d %H:%M %Z} by {held.created_by}; in force: {_in_force(state)}")
    say(f"{state.images} images, {state.hashes} hashes, of which {state.quarantined} are in quarantine")
    say(f"counts {', '.join(held.relations)}; PDQ within {held.pdq_distance} bits")
    say(f"least score of copies: {_own(held.copy_score)}; of semantic matches: {_own(held.semantic_score)}")


def _own(score: float | None) -> str:
    return "that of the link" if score is None else f"{score:.4f}"


@group.command()
def remove(
    bank: _Bank, yes: Annotated[bool, typer.Option("--yes", help="do not ask")] = False, home: Home = None
) -> None:
    """Takes a bank out of force and its effects back. Pictures stay."""
    from graphs.banks import remove as run
    from graphs.banks import show as look

    state = asyncio.run(look(home, bank))
    if not yes:
        members = state.images + state.hashes
        typer.confirm(f"Remove bank {state.id}, {state.bank.name}, with {members} members?", abort=True)
    look_back = asyncio.run(run(home, state.id))
    say(f"bank {state.id} counts no more; look-back {look_back} takes its effects back")


@group.command()
def add(
    bank: _Bank,
    images: Annotated[list[int] | None, typer.Argument(help="ids of stored images")] = None,
    pdq: Annotated[str | None, typer.Option(help="a PDQ hash instead, 64 hexadecimal digits")] = None,
    sha256: Annotated[str | None, typer.Option(help="the SHA-256 of a file instead, or beside its PDQ hash")] = None,
    note: Annotated[str | None, typer.Option(help="why")] = None,
    home: Home = None,
) -> None:
    """Adds stored images or a hash; their copies are found among past images too."""
    from graphs.banks import add_hash, add_images
    from storage.bank_members import HashEntry
    from storage.hash_lists import hash_of

    if bool(images) == bool(pdq or sha256):
        raise typer.BadParameter("give either images or a hash")
    if images:
        asyncio.run(add_images(home, bank, images, note, _told))
        return
    entry = HashEntry(hash_of("pdq", pdq) if pdq else None, hash_of("sha256", sha256) if sha256 else None, note or "")
    done = asyncio.run(add_hash(home, bank, entry))
    say("the hash was there already" if not done.added else f"the hash is added{_look_back(done.look_backs[0])}")


def _told(image: int, look_back: int | None) -> None:
    say(
        f"image {image} was a member already" if look_back is None else f"image {image} is added{_look_back(look_back)}"
    )


@group.command()
def forget(
    bank: _Bank,
    image: Annotated[int | None, typer.Option(help="id of a stored image")] = None,
    member: Annotated[int | None, typer.Option(help="number of a member; see `members`")] = None,
    home: Home = None,
) -> None:
    """Takes an image or another member out of a bank, and its effects back."""
    from graphs.banks import forget as run

    if (image is None) == (member is None):
        raise typer.BadParameter("give either --image or --member")
    look_back = asyncio.run(run(home, bank, image=image, member=member))
    say(f"taken out; look-back {look_back} takes its effects back")


@group.command()
def members(
    bank: _Bank,
    quarantined: Annotated[bool, typer.Option("--quarantined", help="only those in quarantine, and why")] = False,
    limit: Annotated[int, typer.Option(min=1, max=100_000)] = 100,
    after: Annotated[int, typer.Option(min=0, help="number of the last member of the page before")] = 0,
    home: Home = None,
) -> None:
    """Members of a bank, a line each: number, image or hashes, note."""
    from graphs.banks import members as look

    found = asyncio.run(look(home, bank, after=after, limit=limit, quarantined=quarantined))
    for one in found:
        hashes = [f"{name} {value.hex()}" for name, value in (("pdq", one.pdq), ("sha256", one.sha256)) if value]
        what = f"image {one.image_id}" if one.image_id is not None else ", ".join(hashes)
        why = f"  in quarantine: {one.quarantine_reason}" if one.quarantined_at else ""
        say(f"{one.id}  {what}  {' '.join(one.note.split())}{why}".rstrip())
    if len(found) == limit:
        say(f"more with --after {found[-1].id}")


@group.command("import")
def take_in(
    bank: _Bank,
    file: Annotated[str, typer.Argument(help="a list of hashes; - for the standard input")],
    source: Annotated[str | None, typer.Option(help="where it comes from; the name of the file without")] = None,
    keep_good: Annotated[bool, typer.Option("--keep-good", help="import the good lines although some are bad")] = False,
    home: Home = None,
) -> None:
    """Imports hashes: pdq,sha256,note as CSV, or a file of ThreatExchange. Repeat it if it was broken off."""
    from graphs.banks import list_file
    from graphs.banks import take_in as run
    from storage.bank_import import SHOWN, BadList
    from storage.bank_rules import SOURCE_LENGTH

    def progress(one: "Imported") -> None:
        line.update(f"{one.added} added, {one.already_there} there already")

    said = source if source is not None else Path(file).name[:SOURCE_LENGTH] if file != "-" else ""
    try:
        with list_file(file) as found, console.status("checking") as line:
            done = asyncio.run(run(home, bank, found, source=said, keep_good=keep_good, progress=progress))
    except BadList as error:
        for one in error.members["errors"]:
            say(f"{one['field']}: {one['message']}")
        raise
    for bad in done.errors:
        say(f"line {bad.line}: {bad.message}")
    if done.refused > SHOWN:
        say(f"and {done.refused - SHOWN} more")
    say(f"{done.added} added, {done.already_there} there already, {done.refused} refused, {done.withdrawn} withdrawn")
    if done.look_backs:
        say(f"look-backs {done.look_backs[0]} to {done.look_backs[-1]} look at past images")


@group.command("export")
def write_out(
    bank: _Bank,
    form: Annotated[
        Form,
        typer.Option("--format", help="our CSV, CSV as `threatexchange` prints it, or threat updates as JSON lines"),
    ] = Form.CSV,
    images: Annotated[bool, typer.Option("--images", help="stored images too, by the SHA-256 of their file")] = False,
    output: Annotated[Path | None, typer.Option(help="file; the standard output without")] = None,
    home: Home = None,
) -> None:
    """Writes the hashes of a bank as a list that `import` reads."""
    from graphs.banks import write_out as run
    from storage.errors import InvalidInput

    if output is None:
        asyncio.run(run(home, bank, form, images=images, output=sys.stdout.buffer))
        sys.stdout.buffer.flush()
        return
    try:
        with output.open("wb") as file:
            asyncio.run(run(home, bank, form, images=images, output=file))
    except OSError as error:
        raise InvalidInput(f"{output} cannot be written: {error.strerror}") from error


@group.command()
def release(bank: _Bank, member: int, home: Home = None) -> None:
    """Lets a member that is in quarantine count again."""
    from graphs.banks import release as run

    say(f"member {member} counts again{_look_back(asyncio.run(run(home, bank, member)))}")


@group.command()
def calibrate(
    bank: _Bank,
    model_name: Annotated[str | None, typer.Option(help="whose pictures; default: the default model")] = None,
    precision: Annotated[float, typer.Option(help="wanted of matches with the bank", min=0.5, max=1.0)] = 0.99,
    pictures: Annotated[int, typer.Option(help="of the bank, and of others, at most", min=1, max=20_000)] = 300,
    queries: Annotated[int, typer.Option(help="edited pictures that are asked for", min=30, max=100_000)] = 540,
    seed: int = 1,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="only measure")] = False,
    home: Home = None,
) -> None:
    """Sets the thresholds of a bank for a precision, measured on edited copies of its own pictures."""
    from graphs.bank_calibration import calibrate as run

    with console.status("drawing pictures") as line:
        found, look_back = run(
            home, bank, model_name, precision=precision, pictures=pictures, queries=queries, seed=seed,
            keep=not dry_run, progress=line.update,
        )  # fmt: skip
    say(
        f"copies from {found.copy_score:.4f}: precision {found.precision:.4f}, recall {found.recall:.3f};"
        f" PDQ within {found.pdq_distance} bits: precision {found.pdq_precision:.4f}, recall {found.pdq_recall:.3f}"
    )
    say(f"{found.members} pictures of the bank, {found.strangers} others, {found.queries} queries")
    say("nothing was set" if dry_run else f"set{_look_back(look_back)}")
