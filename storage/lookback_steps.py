"""The steps of a look-back: each is one transaction that moves the cursor together with its effects. Below the deployments.

A look-back of members takes them in batches, by id. For each batch past images are searched, a range of ids a step, and
then all images that the batch touches (its own pictures, those linked to it, those near its hashes, those with its
bytes) are judged anew, a page a step; at the end the rows of removed members go. The cursor:

    {"end": last image id, "member": last member that is done, "bank_gone": when the bank was removed,
     "batch": {"through": its last member, "phase": "search" or "touch", "after": image id, "span": images of a step,
               "gone": {member: when it was removed}}}

One that judges all images has ``{"end", "after"}``. Who loses the lease stores nothing.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from storage.audit import record
from storage.bank_changes import hold_banks
from storage.decisions import decide
from storage.errors import StaleClaim
from storage.generations import hold
from storage.links import Link, store_links
from storage.lookback_claims import HeldLookBack
from storage.outbox import EventType, emit

_FEW = 20
"""Reasons of skipped members that are kept."""

_ADVANCE = text("""
UPDATE look_back SET cursor = CAST(:cursor AS jsonb), attempt = 1, members = coalesce(members, :members),
       lease_expires_at = now() + make_interval(secs => :lease_s), worked_s = worked_s + :worked_s,
       members_done = members_done + :members_done, skipped = skipped + :skipped,
       skips = CASE WHEN jsonb_array_length(skips) < :few THEN skips || CAST(:skips AS jsonb) ELSE skips END
WHERE id = :id AND lease_token = :token AND state = 'waiting' AND lease_expires_at > now() RETURNING id
""")
_COUNT = text("""
UPDATE look_back SET images_done = images_done + :images, verdicts_changed = verdicts_changed + :changed WHERE id = :id
""")
_FINDINGS = text("""
INSERT INTO hash_finding (image_id, member_id, distance)
SELECT r.image_id, r.member_id, r.distance
FROM jsonb_to_recordset(CAST(:rows AS jsonb)) AS r(image_id bigint, member_id bigint, distance int)
     JOIN bank_member ON bank_member.id = r.member_id
     JOIN (SELECT id FROM image WHERE id = ANY(CAST(:ids AS bigint[])) ORDER BY id FOR KEY SHARE) AS present
          ON present.id = r.image_id
ON CONFLICT (image_id, member_id) DO UPDATE SET distance = excluded.distance
""")
_TOUCHED = text("""
WITH batch AS MATERIALIZED (
    SELECT id, image_id, sha256 FROM bank_member WHERE bank_id = :bank AND id > :first AND id <= :last),
touched AS (
    SELECT image_id AS id FROM batch WHERE image_id > :after
    UNION SELECT link.image_b FROM batch JOIN image_match link ON link.image_a = batch.image_id AND image_b > :after
    UNION SELECT link.image_a FROM batch JOIN image_match link ON link.image_b = batch.image_id AND image_a > :after
    UNION SELECT finding.image_id FROM batch
          JOIN hash_finding finding ON finding.member_id = batch.id AND finding.image_id > :after
    UNION SELECT image.id FROM batch JOIN image ON image.sha256 = batch.sha256 AND image.id > :after)
SELECT id FROM touched ORDER BY id LIMIT :page
""")
_FORGET = text("""
DELETE FROM bank_member AS member USING jsonb_each_text(CAST(:gone AS jsonb)) AS known(id, at)
WHERE member.id = known.id::bigint
      AND (SELECT coalesce(member.removed_at, bank.removed_at)::text FROM bank WHERE bank.id = member.bank_id) = known.at
""")
_FORGET_BANK = text("DELETE FROM bank WHERE id = :bank AND removed_at::text = :at")
_PAGE = text("""
SELECT id FROM image WHERE id > :after AND id <= :end AND status = 'PROCESSED' ORDER BY id LIMIT :page
""")
_DONE = text("""
UPDATE look_back SET state = 'done', finished_at = now(), lease_token = NULL, lease_expires_at = NULL, failure = NULL
WHERE id = :id AND lease_token = :token AND state = 'waiting' AND lease_expires_at > now()
RETURNING members_done, skipped, images_done, verdicts_changed
""")


@dataclass(frozen=True)
class Found:
    """What a search among a range of images has found.

    Args:
        links: image id of the member and the link.
        hashes: image id -> member id -> distance in bits.
        model_name: whose descriptors the links are of.
        skips: members that could not be searched for, and why.
    """

    links: list[tuple[int, Link]] = field(default_factory=list)
    hashes: dict[int, dict[int, int]] = field(default_factory=dict)
    model_name: str | None = None
    skips: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Pace:
    """How a step is timed: the lease that it renews, and what it took so far, both in seconds."""

    lease_s: float
    worked_s: float = 0.0


async def _advance(
    connection: AsyncConnection, held: HeldLookBack, cursor: Mapping[str, Any], pace: Pace, *, members: int | None = None,
    members_done: int = 0, skips: Sequence[str] = (),
) -> HeldLookBack:  # fmt: skip
    arguments = {
        "id": held.id, "token": held.token, "cursor": json.dumps(cursor), "lease_s": pace.lease_s,
        "worked_s": pace.worked_s, "members": members, "members_done": members_done, "skipped": len(skips),
        "skips": json.dumps(list(skips)), "few": _FEW,
    }  # fmt: skip
    if (await connection.execute(_ADVANCE, arguments)).scalar_one_or_none() is None:
        raise StaleClaim(f"look-back {held.id} is not, or no longer, this replica's; nothing was changed")
    return held.at(dict(cursor))


async def _judge(connection: AsyncConnection, held: HeldLookBack, image_ids: Sequence[int]) -> None:
    # The audit's lock is held from here on: the count waits for nobody, since its row is this transaction's already.
    made = await decide(connection, image_ids, cause=f"look-back {held.id}")
    changed = sum(one.verdict != one.previous for one in made)
    await connection.execute(_COUNT, {"id": held.id, "images": len(image_ids), "changed": changed})


async def begin_batch(
    engine: AsyncEngine, held: HeldLookBack, cursor: Mapping[str, Any], pace: Pace, *, members: int | None
) -> HeldLookBack:
    """Moves the cursor only: to its first place, or to a batch.

    Raises:
        StaleClaim: the lease is lost; as all steps.
    """
    async with engine.begin() as connection:
        return await _advance(connection, held, cursor, pace, members=members)


async def store_found(
    engine: AsyncEngine, held: HeldLookBack, cursor: Mapping[str, Any], pace: Pace, found: Found
) -> HeldLookBack:
    """Stores links and findings, and judges the images that they are of."""
    async with engine.begin() as connection:
        await hold_banks(connection, None)
        after = await _advance(connection, held, cursor, pace, skips=found.skips)
        written = await hold(connection, [found.model_name] if found.model_name else [])
        kept = written.get(found.model_name or "")
        links = [
            (image_id, link)
            for image_id, link in found.links
            if kept is None or link.descriptor in kept or not link.descriptor
        ]
        await store_links(connection, links)
        rows = [
            {"image_id": image_id, "member_id": member, "distance": distance}
            for image_id, near in sorted(found.hashes.items())
            for member, distance in near.items()
        ]
        if rows:
            await connection.execute(_FINDINGS, {"rows": json.dumps(rows), "ids": sorted(found.hashes)})
        touched = {link.image_id for _, link in links} | found.hashes.keys()
        if touched:
            await _judge(connection, held, sorted(touched))
    return after


async def touch(
    engine: AsyncEngine, held: HeldLookBack, pace: Pace, *, batch_members: int, page: int = 200
) -> HeldLookBack:
    """Judges the next images that the batch touches; after the last of them the batch is done."""
    batch, first = held.cursor["batch"], held.cursor["member"]
    async with engine.begin() as connection:
        await hold_banks(connection, None)
        arguments = {
            "bank": held.bank_id, "first": first, "last": batch["through"], "after": batch["after"], "page": page,
        }  # fmt: skip
        touched = list((await connection.execute(_TOUCHED, arguments)).scalars())
        if len(touched) == page:
            cursor = {**held.cursor, "batch": {**batch, "after": touched[-1]}}
            after = await _advance(connection, held, cursor, pace)
        else:
            cursor = {name: value for name, value in held.cursor.items() if name != "batch"}
            cursor["member"] = batch["through"]
            after = await _advance(connection, held, cursor, pace, members_done=batch_members)
            if batch["gone"]:
                await connection.execute(_FORGET, {"gone": json.dumps(batch["gone"])})
        if touched:
            await _judge(connection, held, touched)
    return after


async def judge_page(engine: AsyncEngine, held: HeldLookBack, pace: Pace, *, page: int = 200) -> HeldLookBack | None:
    """Judges the next processed images of all; None after the last."""
    async with engine.begin() as connection:
        await hold_banks(connection, None)
        ids = list((await connection.execute(_PAGE, {**held.cursor, "page": page})).scalars())
        if not ids:
            return None
        after = await _advance(connection, held, {**held.cursor, "after": ids[-1]}, pace)
        await _judge(connection, held, ids)
    return after


async def finish(engine: AsyncEngine, held: HeldLookBack) -> None:
    """Ends a look-back: the row of a removed bank goes, and who wants to know is told."""
    async with engine.begin() as connection:
        await hold_banks(connection, None)
        row = (await connection.execute(_DONE, {"id": held.id, "token": held.token})).one_or_none()
        if row is None:
            raise StaleClaim(f"look-back {held.id} is not, or no longer, this replica's; nothing was changed")
        if held.cursor.get("bank_gone"):
            await connection.execute(_FORGET_BANK, {"bank": held.bank_id, "at": held.cursor["bank_gone"]})
        counts = {
            "kind": held.kind, "bank_id": held.bank_id, "cause": held.cause, "members": row.members_done,
            "skipped": row.skipped, "images": row.images_done, "verdicts_changed": row.verdicts_changed,
        }  # fmt: skip
        await emit(connection, EventType.LOOKBACK_FINISHED, None, {"lookback_id": held.id, **counts})
        await record(connection, held.created_by, "lookback.finish", f"lookback/{held.id}", counts)
