"""The group `review` and the command `moderate`: images that a person looks at, and decides on."""

import asyncio
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.table import Table
from rich.text import Text

from graphs.commands.console import Home, console, printable, say

if TYPE_CHECKING:
    from storage.moderation import Standing

group = typer.Typer(no_args_is_help=True, help="Images that a person should look at: next, list, decide, release.")
ImageId = Annotated[int, typer.Argument(help="id of the image", min=1, max=2**63 - 1)]
Reason = Annotated[str, typer.Option(help="for whoever asks later")]
WithCluster = Annotated[bool, typer.Option("--cluster", help="for all copies of it; shows them and asks first")]
Sure = Annotated[bool, typer.Option("--yes", help="does not ask")]
As = Annotated[str | None, typer.Option("--as", help="who decides; default: the user of the operating system")]


def register(app: typer.Typer) -> None:
    """Adds group and command to the command line."""
    app.add_typer(group, name="review")
    app.command("moderate")(moderate)


@group.command("next")
def take(who: As = None, home: Home = None) -> None:
    """Gives you the gravest image that waits; nobody else gets it for a time. Exit code 3 if none waits."""
    from graphs.reviewing import next_image, reviewer

    held = asyncio.run(next_image(home, reviewer(who)))
    if held is None:
        console.print("no image waits for a review")
        raise typer.Exit(3)
    _show(held)
    say(f"preview: /api/v1/image/{held.image_id}/file?preview=blurred")
    say(f"safeguard review decide {held.image_id} allow --reason …   or block; release gives it back")


@group.command("list")
def listing(limit: Annotated[int, typer.Option(help="images", min=1, max=1000)] = 20, home: Home = None) -> None:
    """What waits: how many for which rule, and the first ones."""
    from graphs.reviewing import waiting

    groups, images = asyncio.run(waiting(home, limit))
    table = Table("severity", "rule", "waiting", "with a reviewer", "oldest", title="The queue")
    for one in groups:
        oldest = one.oldest.strftime("%Y-%m-%d %H:%M")
        table.add_row(str(one.severity), _cell(one.rule or "–"), str(one.waiting), str(one.leased), oldest)
    console.print(table)
    table = Table("image", "severity", "rule", "since", "with", "name")
    for image in images:
        table.add_row(
            str(image.image_id), str(image.severity), _cell(image.rule or "–"),
            image.since.strftime("%Y-%m-%d %H:%M"), _cell(image.reviewer or ""), _cell(image.name),
        )  # fmt: skip
    console.print(table)


@group.command("decide")
def decide(
    image_id: ImageId,
    verdict: Literal["allow", "block"],
    reason: Reason,
    cluster: WithCluster = False,
    yes: Sure = False,
    who: As = None,
    home: Home = None,
) -> None:
    """Decides on an image that `review next` gave you."""
    _decide(home, image_id, verdict, reason, who, None, _digest(home, image_id, cluster, yes), leased=True)


@group.command("release")
def release(image_id: ImageId, who: As = None, home: Home = None) -> None:
    """Gives an image back that `review next` gave you: others get it first."""
    from graphs.reviewing import give_back, reviewer

    asyncio.run(give_back(home, image_id, reviewer(who)))
    console.print(f"image {image_id} waits for others")


def moderate(
    image_id: ImageId,
    verdict: Annotated[
        Literal["allow", "review", "block", "reverse"],
        typer.Argument(help="reverse: takes a person's decision back, the policy decides again"),
    ],
    reason: Reason,
    severity: Annotated[int | None, typer.Option(help="10 is the gravest", min=0, max=10)] = None,
    cluster: WithCluster = False,
    yes: Sure = False,
    who: As = None,
    home: Home = None,
) -> None:
    """Decides on an image as a person, whatever a policy says."""
    from graphs.reviewing import reverse, reviewer

    digest = _digest(home, image_id, cluster, yes)
    if verdict != "reverse":
        _decide(home, image_id, verdict, reason, who, severity, digest, leased=False)
    elif severity is not None:
        raise typer.BadParameter("a reversal has none: the policy gives it", param_hint="--severity")
    else:
        _report(*asyncio.run(reverse(home, image_id, reason, who=reviewer(who), digest=digest)))


def _decide(
    home: Path | None, image_id: int, verdict: str, reason: str, who: str | None, severity: int | None,
    digest: str | None, *, leased: bool,
) -> None:  # fmt: skip
    from configs.policies import Verdict
    from graphs.reviewing import decide, reviewer
    from storage.human_decisions import Ruling

    cause = "review" if leased else "moderator"
    ruling = Ruling(Verdict(verdict), reason, reviewer(who), severity, cause)
    _report(*asyncio.run(decide(home, image_id, ruling, digest=digest, leased=leased)))


def _digest(home: Path | None, image_id: int, wanted: bool, yes: bool) -> str | None:
    """Shows the cluster and asks; None where only the image is meant."""
    from graphs.reviewing import cluster

    if not wanted:
        return None
    found = asyncio.run(cluster(home, image_id))
    table = Table("image", "steps", "verdict", "by", "name", title=f"{len(found.images)} images")
    for one in found.images:
        by = "a person" if one.by_person else _cell(one.rule or "–")
        table.add_row(str(one.image_id), str(one.steps), one.verdict or "–", by, _cell(one.name))
    console.print(table)
    verdicts = Counter(one.verdict or "undecided" for one in found.images)
    counts = ", ".join(f"{count} {verdict}" for verdict, count in verdicts.items())
    more = "; there are more, which stay as they are" if found.cut else ""
    say(f"{counts}{more}")
    if not yes:
        typer.confirm(f"decide on these {len(found.images)} images?", abort=True)
    return found.digest


def _report(held: "Standing", count: int) -> None:
    if count > 1:
        console.print(f"{count} images were decided on")
    _show(held)


def _show(held: "Standing") -> None:
    decision = held.decision
    by = f"rule {decision.rule}" if decision.rule else decision.actor
    say(f"image {held.image_id}: {decision.verdict} (severity {decision.severity}, {by}): {decision.reason}")


def _cell(words: str) -> Text:
    return Text(printable(words))
