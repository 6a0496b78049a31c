"""What bulk jobs write to PostgreSQL: whole units in one transaction, by COPY. Imports tables, jobs and errors only.

Every call is idempotent: a unit that is stored already is left as it is, so a task may run twice.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from sqlalchemy import delete, select, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine
from sqlmodel import col

from storage.audit import record_many
from storage.bank_changes import Compare, hold_banks, hold_compared
from storage.claims import FoundObject, forget
from storage.database import reading
from storage.errors import Conflict
from storage.finishing import tell_and_decide
from storage.generations import hold
from storage.hash_findings import replace_findings
from storage.job_tables import JobUnit, UnitState
from storage.jobs import holding
from storage.links import Link, links_from
from storage.outbox import EventType, emit_many
from storage.tables import columns_of


@dataclass(frozen=True)
class BulkImage:
    """One picture of a corpus that was read: the row it gets and what was seen in it. ``sha256`` has 32 bytes."""

    image_id: int
    path: str
    etag: str
    sha256: bytes
    size_bytes: int
    media_type: str
    width: int
    height: int
    objects: list[FoundObject] = field(default_factory=list)
    content_scores: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class BulkFailure:
    """One object that is no picture we read, or that could not be read, and why."""

    image_id: int
    path: str
    etag: str
    size: int
    reason: str


@dataclass(frozen=True)
class IndexedUnit:
    """What became of the objects of one unit."""

    number: int
    images: list[BulkImage]
    failures: list[BulkFailure]


_BEGIN = text("""
UPDATE job_unit SET attempt = attempt + 1
WHERE job_id = :job AND number = ANY(CAST(:numbers AS bigint[])) AND state = 'waiting'
RETURNING number, attempt, replaces
""")

_INDEXED = text("""
UPDATE job_unit SET state = 'indexed'
WHERE job_id = :job AND number = ANY(CAST(:numbers AS bigint[])) AND state = 'waiting' RETURNING number
""")

_TRIED = text("DELETE FROM job_trial WHERE job_id = :job AND number = ANY(CAST(:numbers AS bigint[]))")

_DONE = text("""
UPDATE job_unit SET state = 'done', etags = '{}', sizes = '{}', paths = '{}'
WHERE job_id = :job AND number = ANY(CAST(:numbers AS bigint[])) AND state = 'indexed' RETURNING number
""")

_STAGED = {
    "image": (
        "id bigint, name text, model_name text, s3_path text, sha256 bytea, size_bytes bigint, media_type text,"
        " width int, height int, etag text"
    ),
    "detection": (
        "image_id bigint, ordinal int, label text, score float8, x0 float8, y0 float8, x1 float8, y1 float8, model text"
    ),
    "content_score": "image_id bigint, model text, score float8",
    "link": (
        "image_id bigint, other bigint, descriptor text, relation text, method text, score float8, threshold float8,"
        " evidence text"
    ),
    "job_failure": "job_id bigint, image_id bigint, path text, etag text, size bigint, reason text",
}

_LINKS = links_from(
    "SELECT image_id, other, descriptor, relation, method, score, threshold, evidence::jsonb AS evidence"
    " FROM staged_link JOIN image ON image.id = staged_link.image_id FOR KEY SHARE OF image"
)

_IMAGES = text("""
INSERT INTO image (id, name, status, model_name, s3_path, sha256, size_bytes, media_type, width, height, etag,
                   uploaded_at)
SELECT id, name, 'PROCESSING', model_name, s3_path, sha256, size_bytes, media_type, width, height, etag, now()
FROM staged_image
ON CONFLICT (id) DO UPDATE SET status = 'PROCESSING', model_name = excluded.model_name, sha256 = excluded.sha256,
    size_bytes = excluded.size_bytes, media_type = excluded.media_type, width = excluded.width,
    height = excluded.height, etag = excluded.etag, processed_at = NULL, failure = NULL, attempt = 0,
    lease_token = NULL, lease_expires_at = NULL, finished_token = NULL
""")

_REPLACED = [
    text(f"DELETE FROM {table} WHERE {column} IN (SELECT id FROM staged_image)")
    for table, column in (
        ("detection", "image_id"), ("content_score", "image_id"), ("image_match", "image_a"), ("image_match", "image_b")
    )
]  # fmt: skip
"""What is known of an object from before it changed."""

_PROCESSED = text("""
UPDATE image SET status = 'PROCESSED', processed_at = now(), finished_token = gen_random_uuid()
WHERE id = ANY(CAST(:ids AS bigint[])) AND status = 'PROCESSING' AND lease_token IS NULL
""")


_THERE = text("SELECT id FROM image WHERE id = ANY(CAST(:ids AS bigint[])) FOR KEY SHARE")
_REFERENCES = text("""
UPDATE image SET status = 'UPLOADED', attempt = 1, not_before = NULL
WHERE id = ANY(CAST(:ids AS bigint[])) AND EXISTS (SELECT FROM bank_member WHERE bank_member.image_id = image.id)
RETURNING id
""")
"""With one attempt counted the next claim is a second one, which replaces the vectors that are there."""
_DROPPED = text("""
DELETE FROM image WHERE id = ANY(CAST(:ids AS bigint[]))
RETURNING id, sha256, EXISTS (SELECT FROM moderation WHERE image_id = image.id) AS was_there
""")


@dataclass(frozen=True)
class Begun:
    """A unit whose vectors may be written now.

    Args:
        again: vectors of its pictures may be there: they are replaced.
        retried: it was begun before, and broken off.
    """

    again: bool
    retried: bool


async def begin(engine: AsyncEngine, job_id: int, token: UUID, numbers: Sequence[int]) -> dict[int, Begun]:
    """Says that the vectors of some units are about to be written.

    Returns:
        Those units that are not stored yet, by number.
    Raises:
        StaleClaim: another runner has taken over the job.
    """
    async with engine.begin() as connection:
        await holding(connection, job_id, token)
        rows = await connection.execute(_BEGIN, {"job": job_id, "numbers": list(numbers)})
        return {row.number: Begun(row.replaces or row.attempt > 1, row.attempt > 1) for row in rows}


async def without_row(engine: AsyncEngine, image_ids: Sequence[int]) -> list[int]:
    """Which images there are not."""
    if not image_ids:
        return []
    statement = text("SELECT id FROM image WHERE id = ANY(CAST(:ids AS bigint[]))")
    async with reading(engine) as connection:
        there = set((await connection.execute(statement, {"ids": list(image_ids)})).scalars())
    return [image_id for image_id in image_ids if image_id not in there]


async def store_indexed(
    engine: AsyncEngine, job_id: int, token: UUID, model_name: str | None, units: Sequence[IndexedUnit]
) -> int:
    """Makes images, detections, content scores and failures of some units, and counts them, in one transaction.

    The images are PROCESSING without a lease: no worker claims them, searches find them.

    Args:
        model_name: whose images they become; None leaves all images as they are and only counts (a re-index).
    Returns:
        Pictures counted by this call.
    Raises:
        StaleClaim: another runner has taken over the job; nothing was stored.
    """
    async with engine.begin() as connection:
        await holding(connection, job_id, token)
        arguments = {"job": job_id, "numbers": [unit.number for unit in units]}
        fresh = set((await connection.execute(_INDEXED, arguments)).scalars())
        await connection.execute(_TRIED, arguments)
        images = [image for unit in units if unit.number in fresh for image in unit.images]
        failures = [one for unit in units if unit.number in fresh for one in unit.failures]
        gone = 0
        if model_name is not None:
            await _store_images(connection, images, model_name)
        else:
            there = set((await connection.execute(_THERE, {"ids": [one.image_id for one in failures]})).scalars())
            gone = len(failures) - len(there)  # deleted while the job ran: no failure
            failures = [one for one in failures if one.image_id in there]
        await _copy_into(
            connection,
            "job_failure",
            ((job_id, one.image_id, one.path, one.etag, one.size, one.reason) for one in failures),
        )
        await _count(connection, job_id, indexed=len(images), failed=len(failures), objects=-gone, skipped=gone)
    return len(images)


async def _store_images(connection: AsyncConnection, images: Sequence[BulkImage], model_name: str) -> None:
    await _copy(connection, "image", (_image_row(image, model_name) for image in images))
    await connection.execute(_IMAGES)
    for statement in _REPLACED:
        await connection.execute(statement)
    objects = (
        (image.image_id, ordinal, found.label, found.score, *found.box, found.model)
        for image in images
        for ordinal, found in enumerate(image.objects)
    )
    await _copy_into(connection, "detection", objects)
    scores = ((image.image_id, model, score) for image in images for model, score in image.content_scores.items())
    await _copy_into(connection, "content_score", scores)


async def store_links(
    engine: AsyncEngine, job_id: int, token: UUID, unit: int, image_ids: Sequence[int], links: Sequence[tuple[int, Link]],
    *, descriptors: Iterable[str], hashes: Mapping[int, Mapping[int, int]] | None = None, compared: int | None = None,
    again: Compare | None = None, finish: bool = True,
) -> None:  # fmt: skip
    """Stores the links of a unit and makes its images PROCESSED, in one transaction.

    Args:
        descriptors: those that the vectors of the unit were written with.
        hashes: image id -> member id -> distance in bits, of PDQ members of banks that are near.
        compared: version of those members that the images were compared with; None where they were not.
        again: compares the images with the members as they are now, where those have changed.
        finish: make the images PROCESSED and decide on them; a re-index leaves them as they are.
    Raises:
        StaleClaim: another runner has taken over the job; nothing was stored.
        BanksChanged: the hashes of the banks have changed, and nothing compares again; nothing was stored.
        Conflict: the model is written with another descriptor by now, which the images lack; nothing was stored.
    """
    async with engine.begin() as connection:
        _, near = await hold_compared(connection, (compared, hashes or {}), again)
        job = await holding(connection, job_id, token)
        written = (await hold(connection, [job.model_name])).get(job.model_name, set(descriptors))
        if finish and (lacking := written - set(descriptors)):
            raise Conflict(
                f"{job.model_name} is written with {', '.join(sorted(lacking))} by now, which this job does not do:"
                " cancel it and start it anew"
            )
        if (await connection.execute(_DONE, {"job": job_id, "numbers": [unit]})).scalar_one_or_none() is None:
            return
        rows = (
            (
                image_id, one.image_id, one.descriptor, one.relation, one.method, one.score, one.threshold,
                json.dumps(one.evidence),
            )
            for image_id, one in links
            if one.descriptor in written | {""}
        )  # fmt: skip
        if await _copy(connection, "link", rows):
            await connection.execute(_LINKS)
        if finish:
            await connection.execute(_PROCESSED, {"ids": list(image_ids)})
            await replace_findings(connection, image_ids, near)
        await _count(connection, job_id, done=len(image_ids))
        if finish:
            await tell_and_decide(connection, image_ids, cause=f"job {job_id}")


async def half_done(engine: AsyncEngine, job_id: int, *, limit: int = 64) -> list[JobUnit]:
    """Units whose vectors may be stored while their links are not."""
    statement = select(*columns_of(JobUnit)).where(
        col(JobUnit.job_id) == job_id, col(JobUnit.state) != UnitState.DONE, col(JobUnit.attempt) > 0
    )
    async with reading(engine) as connection:
        found = (await connection.execute(statement.order_by(col(JobUnit.number)).limit(limit))).all()
    return [JobUnit(**row._mapping) for row in found]


async def take_back(engine: AsyncEngine, job_id: int, token: UUID, units: Sequence[JobUnit]) -> None:
    """Removes the rows of half-done units, whose vectors must have been removed before; the units leave the ledger.

    So goes an image from before the job, whose object has changed: what its row says is not there any more, and the next
    backfill makes it anew. One that is a member of a bank stays, and waits to be processed like an upload.

    Raises:
        StaleClaim: another runner has taken over the job.
    """
    ids = [image_id for unit in units for image_id in unit.image_ids]
    async with engine.begin() as connection:
        await hold_banks(connection, None)
        await holding(connection, job_id, token)
        kept = set((await connection.execute(_REFERENCES, {"ids": ids})).scalars())
        await forget(connection, list(kept))
        dropped = (await connection.execute(_DROPPED, {"ids": [one for one in ids if one not in kept]})).all()
        numbers = [unit.number for unit in units]
        gone = delete(JobUnit).where(col(JobUnit.job_id) == job_id, col(JobUnit.number).in_(numbers))
        await connection.execute(gone)
        known = sorted((row.id, row.sha256.hex()) for row in dropped if row.was_there)
        await emit_many(connection, [(EventType.IMAGE_DELETED, one, {"sha256": digest}) for one, digest in known])
        entries = [("image.delete", f"image/{one}", {"sha256": digest}) for one, digest in known]
        await record_many(connection, f"job {job_id}", entries)


def _image_row(image: BulkImage, model_name: str) -> tuple[Any, ...]:
    name = image.path.rpartition("/")[2]
    return (
        image.image_id, name, model_name, image.path, image.sha256, image.size_bytes, image.media_type, image.width,
        image.height, image.etag,
    )  # fmt: skip


async def _count(connection: AsyncConnection, job_id: int, **added: int) -> None:
    changed = ", ".join(f"{name} = {name} + :{name}" for name in added)
    await connection.execute(text(f"UPDATE job SET {changed} WHERE id = :job"), {"job": job_id, **added})


async def _copy(connection: AsyncConnection, table: str, rows: Iterable[tuple[Any, ...]]) -> int:
    staged = f"staged_{table}"
    await connection.execute(text(f"CREATE TEMP TABLE IF NOT EXISTS {staged} ({_STAGED[table]}) ON COMMIT DELETE ROWS"))
    held = list(rows)
    if held:
        driver: Any = (await connection.get_raw_connection()).driver_connection
        await driver.copy_records_to_table(staged, records=held)
    return len(held)


async def _copy_into(connection: AsyncConnection, table: str, rows: Iterable[tuple[Any, ...]]) -> None:
    if await _copy(connection, table, rows):
        columns = ", ".join(part.split()[0] for part in _STAGED[table].split(", "))
        await connection.execute(text(f"INSERT INTO {table} ({columns}) SELECT {columns} FROM staged_{table}"))
