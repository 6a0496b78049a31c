"""Decisions: the active policy judges the facts of images, and what changed is stored. Below the deployments.

``decide`` belongs into the transaction that changed the facts, after all that: verdict, audit entry and event are
committed together with their cause, or not at all.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from configs.facts import Facts
from configs.policies import ENGINE, Judgement
from storage import lookbacks, policies
from storage.audit import record_many
from storage.facts import facts_of
from storage.lookback_tables import LookBackKind
from storage.outbox import EventType, emit_many

BY_POLICY = "policy"
"""The actor of a decision that no person made."""

_HELD = text("""
SELECT held.image_id, held.verdict, held.human_id, held.rule, held.policy_id, held.severity, held.facts_digest,
       (SELECT reason FROM decision WHERE decision.id = held.decision_id) AS reason
FROM moderation held WHERE held.image_id = ANY(CAST(:ids AS bigint[])) ORDER BY held.image_id FOR UPDATE
""")
PROCESSED = text("""
SELECT id FROM image WHERE id = ANY(CAST(:ids AS bigint[])) AND status = 'PROCESSED' ORDER BY id FOR NO KEY UPDATE
""")
"""Those of some images that can be decided, held until the end of the transaction."""
_MEMBERS = text("""
SELECT id, bank_id, image_id FROM bank_member WHERE image_id = ANY(CAST(:ids AS bigint[])) ORDER BY bank_id, id
""")
_LINKED = text("""
SELECT image_b AS id FROM (SELECT DISTINCT image_b FROM image_match WHERE image_a = :id LIMIT :most) AS later
UNION SELECT image_a FROM (SELECT DISTINCT image_a FROM image_match WHERE image_b = :id LIMIT :most) AS earlier
""")
MOST_LINKED = 500
"""Images that are decided with a member that they are linked to; where there may be more, a look-back decides them."""
_ROWS = """
FROM jsonb_to_recordset(CAST(:rows AS jsonb)) AS r(
    image_id bigint, verdict text, previous text, actor text, cause text, rule text, reason text, severity int,
    fired text[], policy_id int, engine int, facts jsonb, facts_digest text)
"""
_DECISIONS = text(f"""
INSERT INTO decision (image_id, verdict, previous, actor, cause, rule, reason, severity, fired, policy_id, engine,
                      facts, facts_digest)
SELECT image_id, verdict, previous, actor, cause, rule, reason, severity, fired, policy_id, engine, facts, facts_digest
{_ROWS} ORDER BY image_id RETURNING id, image_id
""")
_STATES = text("""
INSERT INTO moderation AS held (image_id, verdict, severity, decision_id, human_id, rule, policy_id, facts_digest)
SELECT r.image_id, r.verdict, r.severity, r.decision_id, CASE WHEN r.policy_id IS NULL THEN r.decision_id END, r.rule,
       r.policy_id, r.facts_digest
FROM jsonb_to_recordset(CAST(:rows AS jsonb)) AS r(
    image_id bigint, verdict text, severity int, decision_id bigint, rule text, policy_id int, facts_digest text)
ORDER BY image_id
ON CONFLICT (image_id) DO UPDATE SET verdict = excluded.verdict, severity = excluded.severity,
    decision_id = excluded.decision_id, human_id = excluded.human_id, rule = excluded.rule,
    policy_id = excluded.policy_id, facts_digest = excluded.facts_digest,
    reviewer = CASE WHEN excluded.human_id IS NULL AND excluded.verdict = 'review' THEN held.reviewer END,
    review_token = CASE WHEN excluded.human_id IS NULL AND excluded.verdict = 'review' THEN held.review_token END,
    review_until = CASE WHEN excluded.human_id IS NULL AND excluded.verdict = 'review' THEN held.review_until END,
    changed_at = CASE WHEN held.verdict = excluded.verdict THEN held.changed_at ELSE now() END
""")


@dataclass(frozen=True)
class Decided:
    """A decision that was stored."""

    image_id: int
    decision_id: int
    verdict: str
    previous: str | None
    rule: str | None
    reason: str


@dataclass(frozen=True)
class _Held:
    """What a decision says, whichever policy said it: an edited comment must not write a decision for every image."""

    verdict: str
    rule: str | None
    reason: str
    severity: int
    facts_digest: str


async def touched_by(connection: AsyncConnection, image_ids: Sequence[int]) -> list[int]:
    """Images whose facts may have changed with those of ``image_ids``: themselves, and those linked to members among them.

    For members with very many links a look-back begins instead; takes no lock of the audit.
    """
    touched = set(image_ids)
    members = (await connection.execute(_MEMBERS, {"ids": sorted(touched)})).all()
    few: dict[int, bool] = {}
    for image_id in sorted({one.image_id for one in members}):
        asked = {"id": image_id, "most": MOST_LINKED + 1}
        linked = set((await connection.execute(_LINKED, asked)).scalars())
        few[image_id] = len(linked) <= MOST_LINKED
        touched |= linked if few[image_id] else set()
    for one in members:
        if not few[one.image_id]:
            await lookbacks.begin(
                connection, LookBackKind.MEMBERS, cause=f"image {one.image_id}, a member, was processed again",
                actor=BY_POLICY, bank_id=one.bank_id, members=(one.id, one.id),
            )  # fmt: skip
    return sorted(touched)


async def decide(connection: AsyncConnection, image_ids: Sequence[int], *, cause: str) -> list[Decided]:
    """Judges processed images by the active policy and stores what has changed: verdict, rule, its reason, or facts.

    The caller holds the banks (``storage.bank_changes.hold_banks``). A person's decision stands: nothing is stored for
    such an image. An event is emitted where a verdict is new or another one. Where another policy says the same of the
    same facts, the decision of the one before holds on.

    Args:
        image_ids: any; those that are not PROCESSED are left alone.
        cause: what it is done for: processed, look-back 7, policy 3, …
    Returns:
        The decisions that were stored, by image.
    """
    ids = list((await connection.execute(PROCESSED, {"ids": sorted(set(image_ids))})).scalars())
    if not ids:
        return []
    rows = (await connection.execute(_HELD, {"ids": ids})).all()
    human = {row.image_id for row in rows if row.human_id is not None}
    verdicts = {row.image_id: row.verdict for row in rows}
    held = {
        row.image_id: _Held(row.verdict, row.rule, row.reason, row.severity, row.facts_digest)
        for row in rows
        if row.policy_id is not None  # a person's decision that was reversed is no policy's
    }
    chosen = await policies.active(connection)
    made = []
    for image_id, facts in sorted((await facts_of(connection, [one for one in ids if one not in human])).items()):
        said = chosen.policy.judge(facts)
        digest = facts.digest()
        if held.get(image_id) != _Held(said.verdict, said.rule, said.reason, said.severity, digest):
            made.append(row_of(facts, said, digest, cause, chosen.id, verdicts.get(image_id)))
    return await store(connection, made)


def row_of(
    facts: Facts, said: Judgement, digest: str, cause: str, policy_id: int, previous: str | None
) -> dict[str, Any]:
    """A policy's decision as it is stored."""
    return {
        "image_id": facts.image_id, "verdict": said.verdict, "previous": previous, "actor": BY_POLICY, "cause": cause,
        "rule": said.rule, "reason": said.reason, "severity": said.severity, "fired": said.fired,
        "policy_id": policy_id, "engine": ENGINE, "facts": facts.as_dict(), "facts_digest": digest,
    }  # fmt: skip


async def store(connection: AsyncConnection, rows: Sequence[dict[str, Any]]) -> list[Decided]:
    """Stores decisions, makes them hold, and tells audit and outbox; takes the audit's lock, so it comes last.

    Args:
        rows: columns of ``Decision``, by image; of one decision for each image at most. One without ``policy_id`` is a
            person's, and beats every policy's until it is reversed.
    """
    if not rows:
        return []
    inserted = (await connection.execute(_DECISIONS, {"rows": json.dumps(rows)})).all()
    numbers = {row.image_id: row.id for row in inserted}
    states = [{**row, "decision_id": numbers[row["image_id"]]} for row in rows]
    await connection.execute(_STATES, {"rows": json.dumps(states)})
    made = [
        Decided(row["image_id"], numbers[row["image_id"]], row["verdict"], row["previous"], row["rule"], row["reason"])
        for row in rows
    ]
    changed = [one for one in made if one.verdict != one.previous]
    await emit_many(
        connection,
        [
            (
                EventType.IMAGE_DECIDED,
                one.image_id,
                {
                    "verdict": one.verdict, "previous": one.previous, "rule": one.rule, "reason": one.reason,
                    "decision_id": one.decision_id, "cause": row["cause"], "actor": row["actor"],
                },
            )
            for one, row in zip(made, rows, strict=True)
            if one in changed
        ],
    )  # fmt: skip
    for actor in sorted({row["actor"] for row in rows}):
        await record_many(
            connection,
            actor,
            [
                (
                    "image.decide",
                    f"image/{row['image_id']}",
                    {
                        "decision": numbers[row["image_id"]], "verdict": row["verdict"], "previous": row["previous"],
                        "cause": row["cause"], "rule": row["rule"], "reason": row["reason"],
                        "policy": row["policy_id"], "engine": row["engine"], "facts": row["facts_digest"],
                    },
                )
                for row in rows
                if row["actor"] == actor
            ],
        )  # fmt: skip
    return made
