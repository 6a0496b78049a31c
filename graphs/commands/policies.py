"""The group `policies`: check, try, apply, list, show and take back; and `replay`, which makes decisions again."""

import asyncio
import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table

from graphs.commands.console import Home, console

if TYPE_CHECKING:
    from configs.policies import Policy
    from storage.policy_changes import Applied
    from storage.policy_trials import Trial
    from storage.replays import Replay

group = typer.Typer(no_args_is_help=True, help="Policies: check, test on past images, apply, list, show, roll back.")
_File = Annotated[Path, typer.Argument(help="a policy as YAML; see docs/policies.md")]
_Note = Annotated[str, typer.Option(help="why, for people")]
_NewOnly = Annotated[
    bool, typer.Option("--new-only", help="past images keep their verdicts until they are next decided on")
]


def register(app: typer.Typer) -> None:
    """Adds the group and `replay` to the command line."""
    app.add_typer(group, name="policies")
    app.command()(replay)


@contextmanager
def _mistakes_of(file: Path) -> Iterator[None]:
    """Prints every mistake of a policy on a line that begins with its place, and ends with exit code 1."""
    from storage.policies import InvalidPolicy

    try:
        yield
    except InvalidPolicy as error:
        for line in error.mistakes.lines(str(file)):
            print(line)
        raise typer.Exit(1) from error


@group.command("check")
def check(file: _File, home: Home = None) -> None:
    """Says every mistake of a policy with its line and column. Exit code 1 if there is one. Changes nothing."""
    from graphs.policies import check as run
    from graphs.policies import read_file

    with _mistakes_of(file):
        checked = asyncio.run(run(home, read_file(file)))
    count = len(checked.policy.rules)
    print(f"{file}: {count} rule{'' if count == 1 else 's'}, no mistake found")
    if checked.unchecked:
        reason = " (the database does not answer)" if "banks" in checked.unchecked else ""
        print(f"not checked{reason}: names of {', '.join(checked.unchecked)}")


@group.command("test")
def test(
    file: _File,
    last: Annotated[int, typer.Option(help="images that were processed, newest first", min=1)] = 10_000,
    since: Annotated[datetime | None, typer.Option(help="only images uploaded then or later, UTC")] = None,
    home: Home = None,
) -> None:
    """Shows what a policy would have decided on past images. Changes nothing."""
    from graphs.policies import read_file, try_out

    moment = since.replace(tzinfo=UTC) if since else None
    with _mistakes_of(file), console.status("judging") as line:
        policy, found = asyncio.run(
            try_out(
                home, read_file(file), last=last, since=moment,
                seen=lambda one: line.update(f"{one.images} images judged"),
            )
        )  # fmt: skip
    _show(policy, found)


def _show(policy: "Policy", found: "Trial") -> None:
    console.print(
        f"{found.images} images judged, {found.changed} would change; {found.human} more stay as a person has decided",
        highlight=False,
    )
    table = Table("now", "with this policy", "images")
    for (before, after), images in sorted(found.verdicts.items(), key=lambda one: (one[0][0] or "", one[0][1])):
        table.add_row(before or "none yet", after, str(images))
    console.print(table)
    table = Table("rule", "action", "decides", "true of")
    for rule in policy.rules:
        table.add_row(escape(rule.name), rule.action, str(found.decided[rule.name]), str(found.fired[rule.name]))
    table.add_row("[dim]no rule[/dim]", policy.default, str(found.decided[None]), "")
    console.print(table)
    for one in found.examples:
        now = f"{one.before or 'none yet'} by {one.before_rule or 'no rule'}"
        console.print(
            f"image {one.image_id}: {now} -> {one.verdict} by {one.rule or 'no rule'}: {one.reason}",
            highlight=False, markup=False, soft_wrap=True,
        )  # fmt: skip


@group.command("apply")
def apply(file: _File, note: _Note = "", new_only: _NewOnly = False, home: Home = None) -> None:
    """Makes a policy the active one; where it has mistakes, the one before stays active."""
    from graphs.policies import apply as run
    from graphs.policies import read_file

    with _mistakes_of(file):
        done = asyncio.run(run(home, read_file(file), note=note, rejudge=not new_only))
    _tell(done)


@group.command("rollback")
def rollback(
    version: Annotated[int, typer.Argument(help="as `policies list` shows it", min=1, max=2**63 - 1)],
    note: _Note = "",
    new_only: _NewOnly = False,
    home: Home = None,
) -> None:
    """Makes an earlier version active again, under its own number."""
    from graphs.policies import roll_back

    _tell(asyncio.run(roll_back(home, version, note=note, rejudge=not new_only)))


def _tell(done: "Applied") -> None:
    if not done.changed:
        print(f"policy {done.version} was active already; nothing has changed")
    elif done.look_back is None:
        print(f"policy {done.version} is active for new images; past ones keep their verdicts until decided on again")
    else:
        print(f"policy {done.version} is active; look-back {done.look_back} judges past images by it")


@group.command("list")
def list_versions(home: Home = None) -> None:
    """The newest hundred versions."""
    from graphs.policies import versions

    table = Table("policy", "", "applied", "by", "note")
    for one in asyncio.run(versions(home)):
        state = "active" if one.active else ""
        created = one.created_at.astimezone(UTC).strftime("%Y-%m-%d %H:%M")
        table.add_row(str(one.id), state, created, escape(one.created_by), escape(one.note))
    console.print(table)


@group.command("show")
def show(
    version: Annotated[int | None, typer.Argument(help="default: the active one", min=1, max=2**63 - 1)] = None,
    home: Home = None,
) -> None:
    """Prints the text of a policy, as it was applied."""
    from graphs.policies import version as look

    print(asyncio.run(look(home, version)).source, end="")


def replay(
    decision: Annotated[str | None, typer.Argument(help="id of a decision, or image/ID for the last one on it")] = None,
    every: Annotated[bool, typer.Option("--all", help="every decision; prints those that differ")] = False,
    home: Home = None,
) -> None:
    """Makes a decision again from the facts and the policy that are kept. Exit code 1 if not the same comes out."""
    from graphs.policies import replay as run
    from storage.errors import InvalidInput

    if every != (decision is None):
        raise typer.BadParameter("name a decision, or give --all")
    if every:
        asyncio.run(_replay_all(home))
        return
    asked = re.fullmatch(r"(image/)?([1-9][0-9]{0,18})", decision or "")
    if asked is None or int(asked[2]) >= 2**63:
        raise InvalidInput(f"{decision!r} is neither the id of a decision nor image/ID", "decision")
    number = int(asked[2])
    found = asyncio.run(run(home, None if asked[1] else number, number if asked[1] else None))
    by = "a person" if found.policy_id is None else f"policy {found.policy_id}"
    print(f"decision {found.decision_id} on image {found.image_id}: {found.verdict} by {by}, {found.rule or 'no rule'}")
    print(f"reason: {found.reason}")
    if found.policy_id is None:
        print(f"{found.actor} has decided: nothing is judged again, only the digest of the facts is compared")
    _differences(found)
    if not found.same:
        raise typer.Exit(1)
    print("the same comes out")


def _differences(found: "Replay", before: str = "") -> None:
    for one in found.differences:
        print(f"{before}{one.what}: recorded {one.recorded!r}, replayed {one.replayed!r}")


async def _replay_all(home: Path | None) -> None:
    from graphs.policies import replay_all

    count = differing = 0
    async for one in replay_all(home):
        count += 1
        differing += not one.same
        _differences(one, f"decision {one.decision_id} on image {one.image_id}: ")
    print(f"{count} decisions, {differing} differ")
    if differing:
        raise typer.Exit(1)
