"""Policies in the database: every version that was applied is kept, and one is active. Below the deployments."""

import hashlib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from sqlalchemy import insert, select, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine
from sqlmodel import col

from configs.policies import Policy
from configs.policy_source import parse_policy
from storage.database import reading
from storage.errors import Unavailable
from storage.moderation_tables import PolicyVersion

SHIPPED = Path(__file__).parent.parent / "configs" / "policies.yaml"
"""The policy that a new installation begins with."""
_ACTIVE = text("SELECT id, source FROM policy_version WHERE active")
_ONE_CHANGE = text("SELECT pg_advisory_xact_lock(1526661632)")


@dataclass(frozen=True)
class ActivePolicy:
    """The policy in force and its version."""

    id: int
    policy: Policy


@lru_cache(maxsize=64)
def _parsed(source: str) -> Policy:
    return parse_policy(source)


async def active(connection: AsyncConnection) -> ActivePolicy:
    """The policy in force, as this transaction sees it.

    Raises:
        Unavailable: none has been applied yet (``ensure_active`` is called when the service starts).
    """
    row = (await connection.execute(_ACTIVE)).one_or_none()
    if row is None:
        raise Unavailable("no policy is active yet")
    return ActivePolicy(row.id, _parsed(row.source))


async def ensure_active(engine: AsyncEngine, *, actor: str) -> int | None:
    """Applies the shipped policy where none has ever been; returns its version, None where there is one.

    Args:
        actor: who, for the record.
    Raises:
        ConfigurationError: configs/policies.yaml is not a policy.
    """
    async with reading(engine) as connection:
        if (await connection.execute(_ACTIVE)).one_or_none() is not None:
            return None
    source = SHIPPED.read_text()
    parse_policy(source)
    async with engine.begin() as connection:
        await connection.execute(_ONE_CHANGE)
        if (await connection.execute(select(col(PolicyVersion.id)).limit(1))).one_or_none() is not None:
            return None
        values = {
            "source": source,
            "digest": hashlib.sha256(source.encode()).hexdigest(),
            "note": "the policy that SafeGuard ships",
            "active": True,
            "created_by": actor,
        }
        made = await connection.execute(insert(PolicyVersion).values(**values).returning(col(PolicyVersion.id)))
        return int(made.scalar_one() or 0)
