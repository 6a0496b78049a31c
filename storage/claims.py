"""The claim on an image: a lease with a fencing token, so every picture is finished exactly once. Below the deployments."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from storage.bank_changes import Compare, hold_banks, hold_compared
from storage.errors import InvalidInput, NotFound, StaleClaim
from storage.failures import tell_failures
from storage.finishing import tell_and_decide
from storage.generations import hold
from storage.hash_findings import replace_findings
from storage.links import Link, store_links
from storage.tables import Status

MISSING_PICTURE = "the stored picture is missing"
"""Why an image is FAILED whose object has gone."""


@dataclass(frozen=True)
class Claim:
    """The right to process one image until ``expires_at``; ``token`` proves it."""

    image_id: int
    s3_path: str
    name: str
    model_name: str
    sha256: bytes
    token: UUID
    attempt: int
    expires_at: datetime


@dataclass(frozen=True)
class FoundObject:
    """One detection: box in pixels of the picture as displayed."""

    label: str
    score: float
    box: tuple[float, ...]
    model: str


@dataclass(frozen=True)
class Outcome:
    """All that processing one image found; stored in one transaction.

    Args:
        descriptors: those that its vectors were written with, by name@version.
        hashes: member id -> distance in bits, for each PDQ member of a bank that is near.
        compared: version of those members (``storage.bank_changes``); None where it was compared with none.
    """

    claim: Claim
    links: list[Link] = field(default_factory=list)
    objects: list[FoundObject] = field(default_factory=list)
    content_scores: dict[str, float] = field(default_factory=dict)
    descriptors: frozenset[str] = frozenset()
    hashes: dict[int, int] = field(default_factory=dict)
    compared: int | None = None


_EXPIRE = text("""
UPDATE image SET
    status = CASE WHEN attempt >= :max_attempts THEN 'FAILED' ELSE 'UPLOADED' END,
    failure = CASE WHEN attempt >= :max_attempts
              THEN 'no worker finished it within its lease, ' || attempt || ' times' END,
    lease_token = NULL, lease_expires_at = NULL
WHERE id IN (SELECT id FROM image WHERE status = 'PROCESSING' AND lease_expires_at < now()
             ORDER BY lease_expires_at LIMIT 200 FOR UPDATE SKIP LOCKED)
RETURNING id, status, failure, attempt
""")

CLAIM = text("""
UPDATE image SET status = 'PROCESSING', attempt = attempt + 1, lease_token = gen_random_uuid(),
       lease_expires_at = now() + make_interval(secs => :lease_s), not_before = NULL
WHERE id IN (SELECT id FROM image
             WHERE status = 'UPLOADED' AND uploaded_at IS NOT NULL AND model_name = :model_name
                   AND (not_before IS NULL OR not_before <= now())
             ORDER BY id LIMIT :limit FOR UPDATE SKIP LOCKED)
RETURNING id, s3_path, name, model_name, sha256, lease_token, attempt, lease_expires_at
""")

_RENEW = text("""
UPDATE image SET lease_expires_at = now() + make_interval(secs => :lease_s)
FROM unnest(CAST(:ids AS bigint[]), CAST(:tokens AS uuid[])) AS held(id, token)
WHERE image.id = held.id AND image.lease_token = held.token AND image.status = 'PROCESSING'
      AND image.lease_expires_at > now()
RETURNING image.id
""")

_FINISH = text("""
UPDATE image SET status = 'PROCESSED', processed_at = now(), finished_token = image.lease_token,
       lease_token = NULL, lease_expires_at = NULL, failure = NULL
FROM unnest(CAST(:ids AS bigint[]), CAST(:tokens AS uuid[])) AS held(id, token)
WHERE image.id = held.id AND image.lease_token = held.token AND image.status = 'PROCESSING'
      AND image.lease_expires_at > now()
RETURNING image.id
""")

_OBJECTS = text("""
INSERT INTO detection (image_id, ordinal, label, score, x0, y0, x1, y1, model)
SELECT * FROM jsonb_to_recordset(CAST(:rows AS jsonb)) AS d(
    image_id bigint, ordinal int, label text, score float8, x0 float8, y0 float8, x1 float8, y1 float8, model text)
""")

_SCORES = text("""
INSERT INTO content_score (image_id, model, score)
SELECT * FROM jsonb_to_recordset(CAST(:rows AS jsonb)) AS s(image_id bigint, model text, score float8)
""")

_FORGET = [
    text("DELETE FROM detection WHERE image_id = ANY(CAST(:ids AS bigint[]))"),
    text("DELETE FROM content_score WHERE image_id = ANY(CAST(:ids AS bigint[]))"),
]

_RELEASE = text("""
UPDATE image SET
    status = CASE WHEN :permanent OR (attempt >= :max_attempts AND NOT :blameless) THEN 'FAILED' ELSE 'UPLOADED' END,
    failure = CASE WHEN :permanent OR (attempt >= :max_attempts AND NOT :blameless) THEN CAST(:reason AS text) END,
    attempt = CASE WHEN :blameless THEN greatest(attempt - 1, CAST(:written AS int)) ELSE attempt END,
    not_before = now() + make_interval(secs => :retry_delay_s * power(2, least(attempt, 16) - 1)),
    lease_token = NULL, lease_expires_at = NULL
WHERE id = :id AND lease_token = :token AND status = 'PROCESSING'
RETURNING id, status, failure, attempt
""")


async def expire(engine: AsyncEngine, *, max_attempts: int) -> int:
    """Takes back claims whose lease is over: UPLOADED again, or FAILED after the last attempt.

    Returns:
        Claims taken back, at most 200 a call.
    """
    async with engine.begin() as connection:
        rows = (await connection.execute(_EXPIRE, {"max_attempts": max_attempts})).all()
        await tell_failures(connection, rows)
    return len(rows)


async def claim(
    engine: AsyncEngine, model_names: Sequence[str], limit: int, *, lease_s: float, max_attempts: int,
    expired: Callable[[int], None] | None = None,
) -> list[Claim]:  # fmt: skip
    """Claims the oldest waiting images of some queues, after taking back expired claims.

    Args:
        model_names: queues, in order of preference.
        limit: at most so many images.
        lease_s: seconds the claim is valid.
        max_attempts: claims before an image is FAILED.
        expired: told how many expired claims were taken back.
    Returns:
        Claims by id; no other caller gets the same images while the leases last.
    """
    taken_back = await expire(engine, max_attempts=max_attempts)
    if expired is not None:
        expired(taken_back)
    claims: list[Claim] = []
    async with engine.begin() as connection:
        for model_name in model_names:
            wanted = limit - len(claims)
            if wanted <= 0:
                break
            arguments = {"model_name": model_name, "limit": wanted, "lease_s": lease_s}
            claims += [Claim(*row) for row in (await connection.execute(CLAIM, arguments)).all()]
    return sorted(claims, key=lambda held: held.image_id)


def _held(claims: Sequence[Claim]) -> dict[str, Any]:
    ordered = sorted(claims, key=lambda held: held.image_id)
    return {"ids": [held.image_id for held in ordered], "tokens": [held.token for held in ordered]}


async def renew(engine: AsyncEngine, claims: Sequence[Claim], *, lease_s: float) -> set[int]:
    """Extends the leases that are still held.

    Returns:
        Ids of the images whose claim is still the caller's; work on the others should stop.
    """
    async with engine.begin() as connection:
        return set((await connection.execute(_RENEW, {**_held(claims), "lease_s": lease_s})).scalars())


async def finish(engine: AsyncEngine, outcomes: Sequence[Outcome], *, again: Compare | None = None) -> set[int]:
    """Stores results, makes the images PROCESSED and decides on them, in one transaction, each while its claim is valid.

    Links are kept once per pair and descriptor, with the better score; links to images deleted meanwhile are dropped,
    and so are those of a descriptor that the model is no longer written with.

    Args:
        again: compares the images with the hashes of banks as they are now, where those have changed.
    Returns:
        Ids that were finished; nothing of the others was stored: their claims had expired, or their model is written
        with a descriptor by now that they lack.
    Raises:
        BanksChanged: the hashes of the banks are not those that the images were compared with, and nothing compares
            again; nothing was stored.
    """
    async with engine.begin() as connection:
        near: Mapping[int, Mapping[int, int]] = {o.claim.image_id: o.hashes for o in outcomes}
        for version in {o.compared for o in outcomes} or {None}:
            _, near = await hold_compared(connection, (version, near), again)
        written = await hold(connection, [o.claim.model_name for o in outcomes])
        whole = [o.claim for o in outcomes if written.get(o.claim.model_name, set()) <= o.descriptors]
        finished = set((await connection.execute(_FINISH, _held(whole))).scalars())
        accepted = [o for o in outcomes if o.claim.image_id in finished]
        links = [
            (o.claim.image_id, link)
            for o in accepted
            for link in o.links
            if link.descriptor in written.get(o.claim.model_name, {link.descriptor}) | {""}
        ]
        await store_links(connection, links)
        objects = [
            {
                "image_id": o.claim.image_id, "ordinal": ordinal, "label": found.label, "score": found.score,
                "x0": found.box[0], "y0": found.box[1], "x1": found.box[2], "y1": found.box[3], "model": found.model,
            }
            for o in accepted
            for ordinal, found in enumerate(o.objects)
        ]  # fmt: skip
        scores = [
            {"image_id": o.claim.image_id, "model": model, "score": score}
            for o in accepted
            for model, score in o.content_scores.items()
        ]
        for statement, rows in ((_OBJECTS, objects), (_SCORES, scores)):
            if rows:
                await connection.execute(statement, {"rows": json.dumps(rows)})
        await replace_findings(connection, sorted(finished), near)
        await tell_and_decide(connection, sorted(finished), cause="processed")
    return finished


async def forget(connection: AsyncConnection, image_ids: Sequence[int]) -> None:
    """Deletes detections and content scores of images that are to be processed anew: ``finish`` only inserts them."""
    for statement in _FORGET:
        await connection.execute(statement, {"ids": list(image_ids)})


async def release(
    engine: AsyncEngine,
    held: Claim,
    reason: str,
    *,
    retry_delay_s: float,
    max_attempts: int,
    permanent: bool = False,
    blameless: bool = False,
    written: bool = False,
) -> Status | None:
    """Gives a claim back after a failure.

    Args:
        reason: kept with a FAILED image, for its reader: no path, no SQL.
        retry_delay_s: pause before the next claim, times 2^(attempt-1).
        permanent: another attempt cannot succeed (the picture itself is at fault).
        blameless: a part of the platform was down; the attempt is not counted.
        written: vectors may have been stored; the next claim is then a second attempt, which replaces them.
    Returns:
        The status it has now; None if the claim was no longer the caller's.
    """
    arguments = {
        "id": held.image_id, "token": held.token, "reason": reason, "permanent": permanent,
        "blameless": blameless and not permanent, "written": written,
        "retry_delay_s": retry_delay_s, "max_attempts": max_attempts,
    }  # fmt: skip
    async with engine.begin() as connection:
        rows = (await connection.execute(_RELEASE, arguments)).all()
        await tell_failures(connection, rows)
    return Status(rows[0].status) if rows else None


async def deliver(engine: AsyncEngine, image_id: int, token: UUID, related_ids: Sequence[int]) -> None:
    """Stores the result of an outside worker, once; a repeat with the same token changes nothing and is no error.

    Raises:
        NotFound: there is no such image.
        StaleClaim: the token is not that of the present, unexpired claim.
        InvalidInput: a related id does not exist, or is the image itself.
    """
    statement = text(
        "SELECT lease_token, finished_token, lease_expires_at > now() AS valid, status FROM image"
        " WHERE id = :id AND uploaded_at IS NOT NULL FOR NO KEY UPDATE"
    )
    async with engine.begin() as connection:
        await hold_banks(connection, None)
        row = (await connection.execute(statement, {"id": image_id})).one_or_none()
        if row is None:
            raise NotFound(f"there is no image {image_id}")
        if row.finished_token == token:
            return
        if row.lease_token != token or row.status != Status.PROCESSING or not row.valid:
            raise StaleClaim(f"the claim on image {image_id} has expired or was never given; nothing was changed")
        if image_id in related_ids:
            raise InvalidInput(f"image {image_id} cannot be related to itself", "result")
        known = set(
            (
                await connection.execute(
                    text("SELECT id FROM image WHERE id = ANY(CAST(:ids AS bigint[])) AND uploaded_at IS NOT NULL"),
                    {"ids": list(related_ids)},
                )
            ).scalars()
        )
        unknown = sorted(set(related_ids) - known)
        if unknown:
            raise InvalidInput(f"no such images: {', '.join(map(str, unknown[:20]))}", "result")
        await connection.execute(_FINISH, {"ids": [image_id], "tokens": [token]})
        # A worker gives an order, best first, and no scores: the rank stands in for them.
        links = [
            Link(other, "external", "external", 1.0 / (1 + rank), 0.0, {"delivered_by": "worker", "rank": rank + 1})
            for rank, other in enumerate(related_ids)
        ]
        await store_links(connection, [(image_id, link) for link in links])
        await tell_and_decide(connection, [image_id], cause="processed")
