"""Replays: the facts that are kept with a decision, judged again by the policy that decided. Below the deployments."""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine
from sqlmodel import col

from configs.facts import Facts
from configs.policies import ENGINE, Policy
from storage.database import reading
from storage.errors import NotFound, Unavailable
from storage.moderation_tables import Decision, PolicyVersion
from storage.policies import stored
from storage.tables import columns_of

_PAGE = 200


@dataclass(frozen=True)
class Difference:
    """Something that is not as it was recorded: facts, engine, policy, verdict, rule, reason, severity or fired."""

    what: str
    recorded: Any
    replayed: Any


@dataclass(frozen=True)
class Replay:
    """A decision that was made again.

    Args:
        actor: policy, or the name of the person's key.
        policy_id: the version that judged; None: a person has decided, and only the digest of the facts is compared.
        verdict, rule, reason: as they were recorded.
        differences: none: the same came out.
    """

    decision_id: int
    image_id: int
    actor: str
    policy_id: int | None
    engine: int
    verdict: str
    rule: str | None
    reason: str
    differences: list[Difference]

    @property
    def same(self) -> bool:
        """Whether the same came out."""
        return not self.differences


async def replay(engine: AsyncEngine, decision_id: int) -> Replay:
    """Makes one decision again.

    Raises:
        NotFound: there is no such decision.
    """
    async with reading(engine) as connection:
        statement = select(*columns_of(Decision)).where(col(Decision.id) == decision_id)
        row = (await connection.execute(statement)).one_or_none()
        if row is None:
            raise NotFound(f"there is no decision {decision_id}")
        return await _replayed(connection, row, set())


async def latest_of(engine: AsyncEngine, image_id: int) -> int:
    """The last decision on an image, which may be deleted.

    Raises:
        NotFound: there is none.
    """
    statement = select(col(Decision.id)).where(col(Decision.image_id) == image_id).order_by(col(Decision.id).desc())
    async with reading(engine) as connection:
        found = (await connection.execute(statement.limit(1))).scalar_one_or_none()
    if found is None:
        raise NotFound(f"there is no decision on an image {image_id}")
    return int(found)


async def replay_all(engine: AsyncEngine, *, after: int = 0) -> AsyncIterator[Replay]:
    """Makes every decision again, oldest first, a page at a time.

    Args:
        after: only those with a greater id.
    """
    verified: set[int] = set()
    while True:
        statement = select(*columns_of(Decision)).where(col(Decision.id) > after).order_by(col(Decision.id))
        async with reading(engine) as connection:
            rows = (await connection.execute(statement.limit(_PAGE))).all()
            page = [await _replayed(connection, row, verified) for row in rows]
        for one in page:
            yield one
        if not rows:
            return
        after = rows[-1].id


async def _replayed(connection: AsyncConnection, row: Any, verified: set[int]) -> Replay:
    differences: list[Difference] = []
    policy = None
    if row.policy_id is not None and (
        row.policy_id in verified or await _unchanged(connection, row.policy_id, differences)
    ):
        verified.add(row.policy_id)
        policy = await _policy(connection, row.policy_id, differences)
    differences += await asyncio.to_thread(_compare, row, policy)
    return Replay(
        row.id, row.image_id, row.actor, row.policy_id, row.engine, row.verdict, row.rule, row.reason, differences
    )


async def _unchanged(connection: AsyncConnection, version: int, differences: list[Difference]) -> bool:
    statement = select(col(PolicyVersion.digest), col(PolicyVersion.source)).where(col(PolicyVersion.id) == version)
    kept = (await connection.execute(statement)).one_or_none()
    digest = hashlib.sha256(kept.source.encode()).hexdigest() if kept else None
    if kept is None or digest != kept.digest:
        differences.append(Difference("policy", kept.digest if kept else version, digest))
    return kept is not None and digest == kept.digest


async def _policy(connection: AsyncConnection, version: int, differences: list[Difference]) -> Policy | None:
    try:
        return await stored(connection, version)
    except Unavailable as error:
        differences.append(Difference("policy", version, str(error)))
        return None


def _compare(row: Any, policy: Policy | None) -> list[Difference]:
    try:
        facts = Facts.from_dict(row.facts)
    except (TypeError, KeyError) as error:
        return [Difference("facts", row.facts_digest, f"cannot be read: {error}")]
    pairs: list[tuple[str, Any, Any]] = [("facts", row.facts_digest, facts.digest())]
    if row.policy_id is not None:
        pairs.append(("engine", row.engine, ENGINE))
    if policy is not None:
        said = policy.judge(facts)
        pairs += [
            ("verdict", row.verdict, said.verdict.value), ("rule", row.rule, said.rule),
            ("reason", row.reason, said.reason), ("severity", row.severity, said.severity),
            ("fired", list(row.fired), said.fired),
        ]  # fmt: skip
    return [Difference(*pair) for pair in pairs if pair[1] != pair[2]]
