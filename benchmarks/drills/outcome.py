"""What a run left behind, read from PostgreSQL and S3, and what must be true of it."""

import asyncio
import hashlib
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from sqlalchemy import text

from graphs.check import check
from graphs.opening import opened
from storage.audit_check import verify
from storage.deliveries import message_id
from storage.errors import SafeGuardError
from storage.objects import ObjectStore
from storage.tables import Relation

_READS = 16
_MOST_NAMED = 3
_IMAGES = text("""
SELECT image.id, image.name, image.s3_path, image.sha256, image.status, image.failure, image.attempt,
       image.uploaded_at IS NOT NULL AS stored, held.verdict, held.rule, coalesce(told.times, 0) AS finished
FROM image
LEFT JOIN moderation AS held ON held.image_id = image.id
LEFT JOIN (SELECT image_id, count(*) AS times FROM event WHERE type = 'image.processed' GROUP BY image_id) AS told
    ON told.image_id = image.id
""")
_LINKS = text("""
SELECT least(one.name, other.name) AS first, greatest(one.name, other.name) AS second, link.descriptor, link.relation
FROM image_match AS link JOIN image AS one ON one.id = link.image_a JOIN image AS other ON other.id = link.image_b
""")
_DELIVERIES = text("SELECT event.id, event.created_at, state FROM delivery JOIN event ON event.id = event_id")


Key = tuple[str, str, str]
"""Of a link: the names of both pictures and the descriptor."""


@dataclass(frozen=True)
class Picture:
    """One row that claims to be stored.

    Args:
        finished: how often it became PROCESSED, by the events of the outbox.
        whole: whether the object holds the bytes that were uploaded.
    """

    id: int
    status: str
    failure: str | None
    attempts: int
    finished: int
    verdict: str | None
    rule: str | None
    whole: bool = True


@dataclass
class Outcome:
    """Pictures by name, since ids differ between two runs.

    Args:
        unstored: rows whose upload did not come to an end.
        links: relation by the names of both and the descriptor.
        findings: of the consistency check and of the audit.
    """

    pictures: dict[str, list[Picture]] = field(default_factory=dict)
    unstored: int = 0
    links: dict[Key, str] = field(default_factory=dict)
    findings: list[str] = field(default_factory=list)


async def _read(home: Path) -> Outcome:
    outcome = Outcome()
    async with opened(home) as (settings, engine):
        async with engine.connect() as connection:
            rows = (await connection.execute(_IMAGES)).all()
            for link in (await connection.execute(_LINKS)).all():
                outcome.links[link.first, link.second, link.descriptor] = link.relation
        objects, room = ObjectStore(settings), asyncio.Semaphore(_READS)

        async def whole(key: str, digest: bytes) -> bool:
            async with room:
                try:
                    return hashlib.sha256(await objects.get(key)).digest() == digest
                except SafeGuardError:
                    return False

        stored = [row for row in rows if row.stored]
        intact = await asyncio.gather(*(whole(row.s3_path, row.sha256) for row in stored))
        objects.close()
        audited = await verify(engine, known=None)
    outcome.unstored = len(rows) - len(stored)
    for row, good in zip(stored, intact, strict=True):
        seen = Picture(row.id, row.status, row.failure, row.attempt, row.finished, row.verdict, row.rule, good)
        outcome.pictures.setdefault(row.name, []).append(seen)
    if audited.broken:
        outcome.findings.append(f"the audit is broken: {audited}")
    return outcome


def examine(home: Path) -> Outcome:
    """Looks at everything that an installation holds; nothing may be under way."""
    outcome = asyncio.run(_read(home))
    for kind, tally in check(home, repair=False, grace_s=0.0).found.items():
        outcome.findings.append(f"{tally.count} times {kind}, such as {', '.join(tally.examples[:_MOST_NAMED])}")
    return outcome


async def _deliveries(home: Path) -> dict[str, str]:
    async with opened(home) as (_, engine), engine.connect() as connection:
        rows = (await connection.execute(_DELIVERIES)).all()
        return {message_id(row.id, row.created_at): row.state for row in rows}


def deliveries(home: Path) -> dict[str, str]:
    """The state of all deliveries to the one webhook, by ``webhook-id``."""
    return asyncio.run(_deliveries(home))


def named(what: str, some: Collection[object]) -> list[str]:
    """One line of a report with the first few; none where there are none."""
    shown = ", ".join(str(one) for one in sorted(some, key=str)[:_MOST_NAMED])
    return [f"{len(some)} {what}, such as {shown}"] if some else []


def broken_promises(outcome: Outcome, accepted: Mapping[str, int]) -> list[str]:
    """What is not as it was acknowledged: each accepted upload is PROCESSED exactly once, or FAILED with a reason.

    Args:
        accepted: ids that the service gave, by name.
    """
    pictures = {name: some[0] for name, some in outcome.pictures.items() if len(some) == 1}
    ended = {"PROCESSED", "FAILED"}
    return [
        *named("pictures are stored twice", [name for name, some in outcome.pictures.items() if len(some) > 1]),
        *named("accepted uploads are lost", accepted.keys() - outcome.pictures.keys()),
        *named("pictures are stored that nobody was told of", outcome.pictures.keys() - accepted.keys()),
        *named(
            "pictures have another id than the client was told",
            [name for name, one in pictures.items() if one.id != accepted.get(name, one.id)],
        ),
        *named("objects are missing or hold other bytes", [name for name, one in pictures.items() if not one.whole]),
        *named(
            "pictures did not come to an end",
            [f"{name} ({one.status})" for name, one in pictures.items() if one.status not in ended],
        ),
        *named(
            "pictures are FAILED without a reason",
            [name for name, one in pictures.items() if one.status == "FAILED" and not one.failure],
        ),
        *named(
            "pictures were finished another number of times than once",
            [
                f"{name} ({one.finished} times)"
                for name, one in pictures.items()
                if one.status in ended and one.finished != (one.status == "PROCESSED")
            ],
        ),
        *([f"{outcome.unstored} rows of uploads that did not come to an end are left"] if outcome.unstored else []),
        *outcome.findings,
    ]


Allows = Callable[[str, str, bool], bool]
"""Whether two pictures may have a weak link, or have none (False), because of the order in which they were processed."""


def differences(calm: Outcome, rough: Outcome, allows: Allows = lambda *_: False) -> list[str]:
    """Links and verdicts of the pictures of ``rough`` that are others than in the undisturbed run.

    Pictures that are FAILED in either have none.

    Args:
        allows: asked for each weak link that is there in one of them alone.
    """
    both = {
        name
        for name, some in rough.pictures.items()
        if name in calm.pictures and all(one.status == "PROCESSED" for one in [*some, *calm.pictures[name]])
    }

    def within(outcome: Outcome) -> dict[Key, str]:
        return {key: relation for key, relation in outcome.links.items() if key[0] in both and key[1] in both}

    wanted, held = within(calm), within(rough)

    def alone(some: dict[Key, str], others: dict[Key, str], linked: bool) -> list[Key]:
        return [
            key
            for key, relation in some.items()
            if key not in others and not (relation == Relation.SEMANTIC and allows(key[0], key[1], linked))
        ]

    judged = {name: (calm.pictures[name][0], rough.pictures[name][0]) for name in both}
    return [
        *named("links are missing", alone(wanted, held, False)),
        *named("links are new", alone(held, wanted, True)),
        *named(
            "links are of another kind",
            [
                f"{key}: {held[key]} for {wanted[key]}"
                for key in wanted.keys() & held.keys()
                if wanted[key] != held[key]
            ],
        ),
        *named(
            "verdicts are others",
            [
                f"{name}: {after.verdict} by {after.rule} for {before.verdict} by {before.rule}"
                for name, (before, after) in judged.items()
                if (before.verdict, before.rule) != (after.verdict, after.rule)
            ],
        ),
    ]
