"""Reviews and decisions of people at the command line of one installation. May import storage and configs."""

import getpass
import os
from pathlib import Path

from configs.policies import Verdict
from graphs.opening import opened
from storage import clusters, human_decisions, reviews
from storage.clusters import Cluster
from storage.errors import NotFound
from storage.human_decisions import Ruling, check_text
from storage.moderation import Standing, standing
from storage.reviews import WaitingGroup, WaitingImage

_LONGEST_NAME = 120


def reviewer(name: str | None) -> str:
    """Who decides, as it is recorded: ``command line: NAME``.

    Args:
        name: None takes the user of the operating system.
    Raises:
        InvalidInput: the name is blank, too long, or holds what the database cannot.
    """
    if name is None:
        try:
            name = getpass.getuser()
        except (KeyError, OSError):
            name = f"user {os.getuid()}"
    return f"command line: {check_text(name, 'name', _LONGEST_NAME)}"


async def next_image(home: Path | None, who: str) -> Standing | None:
    """The gravest waiting image, kept for ``who``; None if none waits. See ``storage.reviews.take``."""
    async with opened(home) as (settings, engine):
        while (lease := await reviews.take(engine, who, lease_s=settings.review_lease_s)) is not None:
            try:
                held = await standing(engine, lease.image_id)
            except NotFound:
                continue  # deleted since
            if held.decision.verdict == Verdict.REVIEW:
                return held
    return None


async def waiting(home: Path | None, limit: int) -> tuple[list[WaitingGroup], list[WaitingImage]]:
    """Counts by rule, and the head of the queue."""
    async with opened(home) as (_, engine):
        return await reviews.groups(engine), await reviews.listing(engine, limit=limit)


async def give_back(home: Path | None, image_id: int, who: str) -> None:
    """See ``storage.reviews.release``; the lease is the one that ``who`` has.

    Raises:
        NotFound: there is no such image.
        StaleClaim: it is not, or no longer, with ``who``.
    """
    async with opened(home) as (settings, engine):
        lease = await reviews.held_by(engine, image_id, who)
        await reviews.release(engine, image_id, lease.token, reviewer=who, rest_s=settings.review_lease_s)


async def cluster(home: Path | None, image_id: int) -> Cluster:
    """See ``storage.clusters.cluster``."""
    async with opened(home) as (_, engine):
        return await clusters.cluster(engine, image_id)


async def decide(
    home: Path | None, image_id: int, ruling: Ruling, *, digest: str | None, leased: bool
) -> tuple[Standing, int]:
    """See ``storage.human_decisions.rule``.

    Args:
        leased: only while the image is with the one who decides.
    Returns:
        What holds for the image, and how many were decided on.
    """
    async with opened(home) as (_, engine):
        lease = (await reviews.held_by(engine, image_id, ruling.actor)).token if leased else None
        decided = await human_decisions.rule(engine, image_id, ruling, cluster=digest, lease=lease)
        return await standing(engine, image_id), len(decided)


async def reverse(
    home: Path | None, image_id: int, reason: str, *, who: str, digest: str | None
) -> tuple[Standing, int]:
    """See ``storage.human_decisions.reverse``; returns as ``decide``."""
    async with opened(home) as (_, engine):
        decided = await human_decisions.reverse(engine, image_id, reason, actor=who, cluster=digest)
        return await standing(engine, image_id), len(decided)
