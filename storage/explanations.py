"""All that a decision rests on, gathered for whoever asks why. Changes nothing; below the deployments."""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlmodel import col

from configs.policies import Judgement
from storage import policies
from storage.errors import NotFound
from storage.facts import SHOWN, facts_of
from storage.moderation import Standing, history
from storage.moderation_tables import Decision, PolicyVersion
from storage.tables import columns_of


@dataclass(frozen=True)
class LinkToMember:
    """A link of the image to a bank's member as it is stored: ``evidence`` has scores, views and index versions."""

    image_id: int
    descriptor: str
    relation: str
    method: str
    score: float
    threshold: float
    evidence: dict[str, Any]


@dataclass(frozen=True)
class Explanation:
    """Why a verdict is what it is.

    Args:
        policy: the version that judged; None where a person decided.
        policy_says: what the active policy says of the image as it is now.
        policy_now: id of the active policy.
        detectors: name@version of those that have seen the image.
        history: decisions, newest first, at most a hundred.
    """

    policy: PolicyVersion | None
    policy_says: Judgement
    policy_now: int
    links: list[LinkToMember]
    detectors: list[str]
    history: list[Decision]


_LINKS = text(f"""
SELECT CASE WHEN link.image_a = :id THEN link.image_b ELSE link.image_a END AS image_id, link.descriptor, link.relation,
       link.method, link.score, link.threshold, link.evidence
FROM unnest(CAST(:others AS bigint[])) AS other(id)
     JOIN image_match link ON link.image_a = least(other.id, :id) AND link.image_b = greatest(other.id, :id)
WHERE {SHOWN} ORDER BY 1, 2
""")
_DETECTORS = text("SELECT DISTINCT model FROM detection WHERE image_id = :id ORDER BY model")


async def explain(engine: AsyncEngine, held: Standing) -> Explanation:
    """What a verdict rests on.

    Raises:
        NotFound: the image was deleted meanwhile.
    """
    image_id, decision = held.image_id, held.decision
    others = sorted({one["image_id"] for one in decision.facts["matches"] if one["image_id"] is not None})
    async with engine.connect() as connection:
        chosen = await policies.active(connection)
        facts = (await facts_of(connection, [image_id])).get(image_id)
        statement = select(*columns_of(PolicyVersion)).where(col(PolicyVersion.id) == decision.policy_id)
        judged_by = (await connection.execute(statement)).one_or_none()
        links = (await connection.execute(_LINKS, {"id": image_id, "others": others})).all()
        detectors = (await connection.execute(_DETECTORS, {"id": image_id})).scalars().all()
    if facts is None:
        raise NotFound(f"there is no image {image_id}")
    return Explanation(
        PolicyVersion(**judged_by._mapping) if judged_by is not None else None,
        chosen.policy.judge(facts),
        chosen.id,
        [LinkToMember(**row._mapping) for row in links],
        list(detectors),
        await history(engine, image_id),
    )
