"""The steps of a look-back: each is one transaction that moves the cursor together with its effects. Below the deployments.

A look-back of members takes them in batches, by id. For each batch past images are searched, a range of ids a step, and
then all images that the batch touches (its own pictures, those linked to it, those near its hashes, those with its
bytes) are judged anew, a page a step; at the end the rows of removed members go. The cursor:

    {"end": last image id, "member": last member that is done, "bank_gone": when the bank was removed,
     "batch": {"through": its last member, "phase": "search" or "touch", "after": image id, "span": images of a step,
               "gone": {member: when it was removed}, "searched": images, "matched": {member: images}}}

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
from storage.hash_findings import add_findings
from storage.links import Link, store_links
from storage.lookback_claims import HeldLookBack
from storage.lookback_watch import watched
from storage.outbox import EventType, emit
from storage.quarantine import Rule

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
UPDATE look_back SET images_done = images_done + :images, verdicts_changed = verdicts_changed + :changed,
       cursor = CAST(:cursor AS jsonb)
WHERE id = :id
""")
_TOUCHED = text("""
WITH batch AS MATERIALIZED (
    SELECT id, image_id, sha256 FROM bank_member WHERE bank_id = :bank AND id > :first AND id <= :last)
SELECT DISTINCT id FROM (
    SELECT image_id AS id FROM batch WHERE image_id > :after
    UNION ALL SELECT touched.id FROM batch CROSS JOIN LATERAL (
        SELECT DISTINCT image_b AS id FROM image_match
        WHERE image_a = batch.image_id AND image_b > :after ORDER BY image_b LIMIT :page) AS touched
    UNION ALL SELECT touched.id FROM batch CROSS JOIN LATERAL (
        SELECT DISTINCT image_a AS id FROM image_match
        WHERE image_b = batch.image_id AND image_a > :after ORDER BY image_a LIMIT :page) AS touched
    UNION ALL SELECT touched.id FROM batch CROSS JOIN LATERAL (
        SELECT image_id AS id FROM hash_finding
        WHERE member_id = batch.id AND image_id > :after ORDER BY image_id LIMIT :page) AS touched
    UNION ALL SELECT touched.id FROM batch CROSS JOIN LATERAL (
        SELECT id FROM (SELECT id FROM image WHERE sha256 = batch.sha256 AND id > :after OFFSET 0) AS same
        ORDER BY id LIMIT :page) AS touched) AS touched
ORDER BY id LIMIT :page
""")
"""A page reads a page of each member's at most. OFFSET keeps the bytes from being looked for along the ids of all images."""
_FORGET = text("""
DELETE FROM bank_member WHERE id IN (
    SELECT member.id FROM jsonb_each_text(CAST(:gone AS jsonb)) AS known(id, at)
           JOIN bank_member member ON member.id = known.id::bigint JOIN bank ON bank.id = member.bank_id
    WHERE coalesce(member.removed_at, bank.removed_at) = known.at::timestamptz ORDER BY member.id FOR UPDATE OF member)
""")
_FORGET_BANK = text("DELETE FROM bank WHERE id = :bank AND removed_at = CAST(CAST(:at AS text) AS timestamptz)")
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
        seen: images that the batch has searched, with these.
    """

    links: list[tuple[int, Link]] = field(default_factory=list)
    hashes: dict[int, dict[int, int]] = field(default_factory=dict)
    model_name: str | None = None
    skips: list[str] = field(default_factory=list)
    seen: int = 0


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


async def _judge(connection: AsyncConnection, held: HeldLookBack, image_ids: Sequence[int]) -> HeldLookBack:
    # The audit's lock is held from here on: the count waits for nobody, since its row is this transaction's already.
    made = await decide(connection, image_ids, cause=f"look-back {held.id}")
    changed = sum(one.verdict != one.previous for one in made)
    cursor = json.dumps(held.cursor)
    await connection.execute(_COUNT, {"id": held.id, "images": len(image_ids), "changed": changed, "cursor": cursor})
    return held


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
    engine: AsyncEngine, held: HeldLookBack, cursor: Mapping[str, Any], pace: Pace, found: Found, rule: Rule
) -> HeldLookBack:
    """Stores links and findings, and judges the images that they are of.

    Raises:
        TooManyMatches: a member is to be put into quarantine first.
    """
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
        await add_findings(connection, found.hashes)
        touched = sorted({link.image_id for _, link in links} | found.hashes.keys())
        if touched:
            batch = cursor["batch"]
            matched = await watched(connection, held, batch, touched, rule, found.seen)
            after = await _judge(connection, after.at({**cursor, "batch": {**batch, "matched": matched}}), touched)
    return after


async def touch(
    engine: AsyncEngine, held: HeldLookBack, pace: Pace, rule: Rule, *, batch_members: int, page: int = 200
) -> HeldLookBack:
    """Judges the next images that the batch touches; after the last of them the batch is done.

    The rows of removed members go in a step of their own that judges nothing: uploads near them wait for it.

    Raises:
        TooManyMatches: a member is to be put into quarantine first.
    """
    batch, first = held.cursor["batch"], held.cursor["member"]
    async with engine.begin() as connection:
        await hold_banks(connection, None)
        arguments = {
            "bank": held.bank_id, "first": first, "last": batch["through"], "after": batch["after"], "page": page,
        }  # fmt: skip
        touched = list((await connection.execute(_TOUCHED, arguments)).scalars())
        seen = batch.get("searched") or held.cursor["end"]  # one that was not searched for: among all, about
        matched = await watched(connection, held, batch, touched, rule, seen) if touched else {}
        if len(touched) == page or (touched and batch["gone"]):
            cursor = {**held.cursor, "batch": {**batch, "after": touched[-1], "matched": matched}}
            after = await _advance(connection, held, cursor, pace)
        else:
            cursor = {name: value for name, value in held.cursor.items() if name != "batch"}
            cursor["member"] = batch["through"]
            after = await _advance(connection, held, cursor, pace, members_done=batch_members)
            if batch["gone"]:
                await connection.execute(_FORGET, {"gone": json.dumps(batch["gone"])})
        if touched:
            await _judge(connection, after, touched)
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
