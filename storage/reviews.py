"""The queue of images that a person should look at: each under a lease that nobody else gets. Below the deployments."""

from dataclasses import dataclass
from datetime import datetime
from typing import NoReturn
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from storage.database import reading
from storage.errors import NotFound
from storage.moderation import stale_lease


@dataclass(frozen=True)
class Lease:
    """A reviewer's right to decide on one image until it is given to another; ``token`` proves it."""

    image_id: int
    token: UUID
    until: datetime


@dataclass(frozen=True)
class WaitingGroup:
    """Images of the queue that one rule put there; ``leased`` of them are with a reviewer now."""

    severity: int
    rule: str | None
    waiting: int
    leased: int
    oldest: datetime


@dataclass(frozen=True)
class WaitingImage:
    """One image of the queue; ``reviewer`` and ``until`` while it is with somebody."""

    image_id: int
    name: str
    severity: int
    rule: str | None
    reason: str
    since: datetime
    reviewer: str | None
    until: datetime | None


_LOCKS = 0x5AFE4E71
_TURN = text(f"SELECT pg_advisory_xact_lock({_LOCKS}, hashtext(:reviewer))")
_GIVE = """
UPDATE moderation SET reviewer = :reviewer, review_token = {token},
       review_until = now() + make_interval(secs => :lease_s)
WHERE image_id = (
    SELECT held.image_id FROM moderation held
    WHERE held.verdict = 'review' AND {which}
          AND EXISTS (SELECT FROM image WHERE image.id = held.image_id AND image.status = 'PROCESSED')
    ORDER BY held.severity DESC, held.image_id LIMIT 1 FOR UPDATE SKIP LOCKED)
RETURNING image_id, review_token AS token, review_until AS until
"""
_MINE = "held.reviewer = :reviewer AND held.review_token IS NOT NULL"
_FREE = """(held.review_until IS NULL OR held.review_until <= now()
           OR (held.review_token IS NULL AND held.reviewer <> :reviewer))"""
_GIVEN_BACK = "held.reviewer = :reviewer AND held.review_token IS NULL"
_IN_TURN = tuple(
    text(_GIVE.format(token=token, which=which))
    for token, which in (
        ("review_token", _MINE), ("gen_random_uuid()", _FREE), ("gen_random_uuid()", _GIVEN_BACK),
    )
)  # fmt: skip
_HELD = "image_id = :id AND verdict = 'review' AND reviewer = :reviewer AND review_token = :token"
_RENEW = text(f"""
UPDATE moderation SET review_until = now() + make_interval(secs => :lease_s) WHERE {_HELD}
RETURNING image_id, review_token AS token, review_until AS until
""")
_RELEASE = text(f"""
UPDATE moderation SET review_token = NULL, review_until = now() + make_interval(secs => :rest_s) WHERE {_HELD}
RETURNING image_id
""")
_BY_REVIEWER = text(f"""
SELECT image_id, review_token AS token, review_until AS until FROM moderation held
WHERE held.image_id = :id AND held.verdict = 'review' AND {_MINE}
""")
_STATE = text("""
SELECT image.id, decision.verdict, decision.actor
FROM image LEFT JOIN moderation ON moderation.image_id = image.id LEFT JOIN decision ON decision.id = decision_id
WHERE image.id = :id AND image.uploaded_at IS NOT NULL
""")
_GROUPS = text("""
SELECT severity, rule, count(*) AS waiting, min(changed_at) AS oldest,
       count(*) FILTER (WHERE review_token IS NOT NULL AND review_until > now()) AS leased
FROM moderation WHERE verdict = 'review' GROUP BY severity, rule ORDER BY severity DESC, rule
""")
_LISTING = text("""
SELECT held.image_id, image.name, held.severity, held.rule, decision.reason, held.changed_at AS since,
       CASE WHEN held.review_token IS NOT NULL AND held.review_until > now() THEN held.reviewer END AS reviewer,
       CASE WHEN held.review_token IS NOT NULL AND held.review_until > now() THEN held.review_until END AS until
FROM moderation held JOIN image ON image.id = held.image_id JOIN decision ON decision.id = held.decision_id
WHERE held.verdict = 'review' AND held.severity <= :severity AND (held.severity < :severity OR held.image_id > :after)
ORDER BY held.severity DESC, held.image_id LIMIT :limit
""")


async def take(engine: AsyncEngine, reviewer: str, *, lease_s: float) -> Lease | None:
    """Gives a reviewer the gravest waiting image, of equally grave ones the earliest, for a time.

    Whoever has one already gets the same again, for a new time. One that the reviewer gave back comes only when nothing
    else waits, until others have had the time to take it.

    Args:
        reviewer: name of the person's key.
        lease_s: seconds for which nobody else gets it.
    Returns:
        None if no image waits.
    """
    async with engine.begin() as connection:
        await connection.execute(_TURN, {"reviewer": reviewer})  # two calls of one reviewer get the same image
        for statement in _IN_TURN:
            row = (await connection.execute(statement, {"reviewer": reviewer, "lease_s": lease_s})).one_or_none()
            if row is not None:
                return Lease(row.image_id, row.token, row.until)
    return None


async def renew(engine: AsyncEngine, image_id: int, token: UUID, *, reviewer: str, lease_s: float) -> Lease:
    """Extends a lease, also one that is over, as long as the image was given to nobody else.

    Raises:
        NotFound: there is no such image.
        StaleClaim: the lease is not, or no longer, the caller's.
    """
    arguments = {"id": image_id, "token": token, "reviewer": reviewer, "lease_s": lease_s}
    async with engine.begin() as connection:
        row = (await connection.execute(_RENEW, arguments)).one_or_none()
        if row is None:
            await _refuse(connection, image_id)
        return Lease(row.image_id, row.token, row.until)


async def release(engine: AsyncEngine, image_id: int, token: UUID, *, reviewer: str, rest_s: float) -> None:
    """Gives an image back undecided.

    Args:
        rest_s: seconds for which others come first.
    Raises:
        NotFound, StaleClaim: as ``renew``.
    """
    arguments = {"id": image_id, "token": token, "reviewer": reviewer, "rest_s": rest_s}
    async with engine.begin() as connection:
        if (await connection.execute(_RELEASE, arguments)).one_or_none() is None:
            await _refuse(connection, image_id)


async def held_by(engine: AsyncEngine, image_id: int, reviewer: str) -> Lease:
    """The lease that a reviewer has on an image, for one who does not keep the token.

    Raises:
        NotFound: there is no such image.
        StaleClaim: there is none.
    """
    async with reading(engine) as connection:
        row = (await connection.execute(_BY_REVIEWER, {"id": image_id, "reviewer": reviewer})).one_or_none()
        if row is None:
            await _refuse(connection, image_id)
        return Lease(row.image_id, row.token, row.until)


async def _refuse(connection: AsyncConnection, image_id: int) -> NoReturn:
    state = (await connection.execute(_STATE, {"id": image_id})).one_or_none()
    if state is None:
        raise NotFound(f"there is no image {image_id}")
    raise stale_lease(image_id, state.verdict, state.actor)


async def groups(engine: AsyncEngine) -> list[WaitingGroup]:
    """How many images wait for which rule, the gravest first. Counts the whole queue."""
    async with reading(engine) as connection:
        return [WaitingGroup(**row._mapping) for row in (await connection.execute(_GROUPS)).all()]


async def listing(
    engine: AsyncEngine, *, after: tuple[int, int] | None = None, limit: int = 100
) -> list[WaitingImage]:  # fmt: skip
    """A page of the queue in the order in which images are given out.

    Args:
        after: severity and image id of the last one of the page before.
    """
    severity, image_id = after or (10, 0)
    arguments = {"severity": severity, "after": image_id, "limit": limit}
    async with reading(engine) as connection:
        return [WaitingImage(**row._mapping) for row in (await connection.execute(_LISTING, arguments)).all()]
