"""Reading images, their links and what was seen in them. Changes nothing; imports tables and errors only."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import case, func, literal, select, text, true, union_all
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.orm import aliased
from sqlmodel import col

from storage.database import reading
from storage.errors import NotFound
from storage.generations import State
from storage.tables import Detection, Generation, Image, ImageMatch, Status, columns_of

_BATCH = 1000


@dataclass(frozen=True)
class StoredMatch:
    """A link as seen from one of its two images."""

    image_id: int
    name: str
    s3_path: str
    relation: str
    method: str
    score: float
    threshold: float
    evidence: dict[str, Any]
    created_at: datetime


async def get(engine: AsyncEngine, image_id: int) -> Image:
    """The image with that id.

    Raises:
        NotFound: there is none, or its upload has not finished.
    """
    statement = select(*columns_of(Image)).where(col(Image.id) == image_id, col(Image.uploaded_at).is_not(None))
    async with reading(engine) as connection:
        row = (await connection.execute(statement)).one_or_none()
    if row is None:
        raise NotFound(f"there is no image {image_id}")
    return Image(**row._mapping)


async def stream(
    engine: AsyncEngine, status: Status, *, after: int = 0, limit: int | None = None
) -> AsyncIterator[list[tuple[int, str, str]]]:
    """Images of one status by id, through a server-side cursor: constant memory for any number.

    Args:
        after: only ids above this one.
        limit: at most so many.
    Yields:
        Batches of (id, name, s3_path).
    """
    statement = (
        select(col(Image.id), col(Image.name), col(Image.s3_path))
        .where(col(Image.status) == status, col(Image.uploaded_at).is_not(None), col(Image.id) > after)
        .order_by(col(Image.id))
        .limit(limit)
        .execution_options(yield_per=_BATCH)
    )
    async with engine.connect() as connection:
        rows = await connection.stream(statement)
        async for batch in rows.partitions(_BATCH):
            yield [(row.id, row.name, row.s3_path) for row in batch]


def _links(image_id: int) -> Any:
    columns: list[Any] = [one for one in columns_of(ImageMatch) if one.key not in ("image_a", "image_b")]
    # Two index scans: (image_a, image_b) leads the primary key, (image_b, image_a) an index. An OR would scan the table.
    forward: Any = select(col(ImageMatch.image_b).label("other"), *columns).where(col(ImageMatch.image_a) == image_id)
    reverse: Any = select(col(ImageMatch.image_a).label("other"), *columns).where(col(ImageMatch.image_b) == image_id)
    return union_all(forward, reverse).subquery()


def matches_query(image_id: int) -> Any:
    """What ``matches`` asks the database.

    A link of a descriptor counts while that is live for the model of one of the two images, or as long as neither model
    has generations. Of several links of a pair the one with the better relation, then score, is taken.
    """
    links = _links(image_id)
    rank = case({"exact": 0, "copy": 1, "external": 2}, value=links.c.relation, else_=literal(3))
    own_model = select(col(Image.model_name)).where(col(Image.id) == image_id).scalar_subquery()
    other: Any = aliased(Image)
    is_live = (col(Generation.state) == State.LIVE) & (col(Generation.descriptor) == links.c.descriptor)
    live = (
        select(func.bool_or(is_live))
        .where(col(Generation.model_name).in_([own_model, other.model_name]))
        .scalar_subquery()
    )
    shown = (links.c.descriptor == "") | func.coalesce(live, true())
    best = (
        select(links, other.name, other.s3_path, rank.label("rank"))
        .join(other, other.id == links.c.other)
        .where(other.status == Status.PROCESSED, shown)
        .distinct(links.c.other)
        .order_by(links.c.other, rank, links.c.score.desc())
        .subquery()
    )
    return select(best).order_by(best.c.rank, best.c.score.desc(), best.c.other)


async def matches(engine: AsyncEngine, image_id: int) -> list[StoredMatch]:
    """All processed images linked to this one with their evidence, best first; either side of a link sees it.

    Each image is there once, with a link that holds now: of the live descriptor, or of none. Order: relation (exact,
    copy, external, semantic), then score, then id.

    Raises:
        NotFound: there is no such image.
    """
    return [
        StoredMatch(
            row.other, row.name, row.s3_path, row.relation, row.method, row.score, row.threshold,
            row.evidence, row.created_at,
        )
        for row in await _linked(engine, image_id, matches_query(image_id))
    ]  # fmt: skip


async def related(engine: AsyncEngine, image_id: int) -> list[tuple[int, str]]:
    """(id, s3_path) of the processed images linked to this one, best first.

    Raises:
        NotFound: there is no such image.
    """
    statement = matches_query(image_id)
    columns = statement.selected_columns
    statement = statement.with_only_columns(columns.other, columns.s3_path)
    return [(row.other, row.s3_path) for row in await _linked(engine, image_id, statement)]


async def _linked(engine: AsyncEngine, image_id: int, statement: Any) -> Sequence[Any]:
    """The rows of ``matches_query``; NotFound where there are none because there is no such image."""
    async with reading(engine) as connection:
        rows = (await connection.execute(statement)).all()
    if not rows:
        await get(engine, image_id)
    return rows


async def detections(engine: AsyncEngine, image_id: int) -> list[Detection]:
    """People and objects in the image, surest first.

    Raises:
        NotFound: there is no such image.
    """
    await get(engine, image_id)
    statement = (
        select(*columns_of(Detection)).where(col(Detection.image_id) == image_id).order_by(col(Detection.ordinal))
    )
    async with reading(engine) as connection:
        return [Detection(**row._mapping) for row in (await connection.execute(statement)).all()]


async def existing(engine: AsyncEngine, ids: list[int]) -> dict[int, tuple[str, str]]:
    """Which of ``ids`` are stored: id -> (name, s3_path). The vector index may know pictures that are gone."""
    statement = select(col(Image.id), col(Image.name), col(Image.s3_path)).where(
        col(Image.id).in_(ids), col(Image.uploaded_at).is_not(None)
    )
    async with reading(engine) as connection:
        return {row.id: (row.name, row.s3_path) for row in (await connection.execute(statement)).all()}


File = tuple[str, bytes]
"""Address and SHA-256 (32 bytes) of a picture: a corpus may put another one in the same place."""


async def files(engine: AsyncEngine, ids: list[int]) -> dict[int, File]:
    """The files of stored images, by id."""
    statement = select(col(Image.id), col(Image.s3_path), col(Image.sha256)).where(
        col(Image.id).in_(ids), col(Image.uploaded_at).is_not(None)
    )
    async with reading(engine) as connection:
        return {row.id: (row.s3_path, row.sha256) for row in (await connection.execute(statement)).all()}


async def sample(engine: AsyncEngine, model_name: str, count: int) -> list[tuple[int, str]]:
    """Some processed images of a model at random: (id, s3_path). Large tables are sampled by blocks, not read whole."""
    processed = (col(Image.model_name) == model_name, col(Image.status) == Status.PROCESSED)
    async with reading(engine) as connection:
        estimated = await connection.scalar(
            text("SELECT reltuples::bigint FROM pg_class WHERE oid = 'image'::regclass")
        )
        source: Any = Image
        if int(estimated or 0) > 200 * count:
            share = min(100.0, 100.0 * 20 * count / int(estimated or 1))
            source = aliased(Image, Image.__table__.tablesample(func.system(share)))  # type: ignore[attr-defined]
            processed = (source.model_name == model_name, source.status == Status.PROCESSED)
        statement = select(source.id, source.s3_path).where(*processed).order_by(func.random()).limit(count)
        return [(row.id, row.s3_path) for row in (await connection.execute(statement)).all()]


_NEWEST_TWINS = 1000
_SAME_BYTES = text(f"""
SELECT asked.sha256, found.id FROM unnest(CAST(:digests AS bytea[])) AS asked(sha256)
CROSS JOIN LATERAL (SELECT id FROM image WHERE image.sha256 = asked.sha256 AND uploaded_at IS NOT NULL
                    ORDER BY id DESC LIMIT {_NEWEST_TWINS}) AS found
""")
# From the members, of which there are fewer than there may be copies of one picture.
_MEMBERS_OF_BYTES = text("""
WITH held AS MATERIALIZED (SELECT DISTINCT image_id FROM bank_member WHERE image_id IS NOT NULL AND removed_at IS NULL)
SELECT image.sha256, image.id FROM held JOIN image ON image.id = held.image_id
WHERE image.sha256 = ANY(CAST(:digests AS bytea[])) AND uploaded_at IS NOT NULL
""")


async def same_bytes(engine: AsyncEngine, digests: list[bytes]) -> dict[bytes, list[int]]:
    """Stored images by the SHA-256 of their file: digest (32 bytes) -> ids, newest first.

    Of each the newest 1,000, and those that are members of banks, however old.
    """
    found: dict[bytes, set[int]] = {}
    async with reading(engine) as connection:
        for digest, image_id in (await connection.execute(_SAME_BYTES, {"digests": list(set(digests))})).all():
            found.setdefault(bytes(digest), set()).add(image_id)
        many = [digest for digest, ids in found.items() if len(ids) == _NEWEST_TWINS]
        if many:
            for digest, image_id in (await connection.execute(_MEMBERS_OF_BYTES, {"digests": many})).all():
                found[bytes(digest)].add(image_id)
    return {digest: sorted(ids, reverse=True) for digest, ids in found.items()}
