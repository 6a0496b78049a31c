"""Policies in the database: every version that was applied is kept, and one is active. Below the deployments."""

import asyncio
from collections import OrderedDict
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine
from sqlmodel import col

from configs.policies import Policy
from configs.policy_mistakes import PolicyError
from configs.policy_references import Known, examine
from configs.policy_source import parse_policy
from storage.database import reading
from storage.errors import InvalidInput, NotFound, Unavailable
from storage.moderation_tables import PolicyVersion
from storage.tables import columns_of

_ACTIVE = text("SELECT id, digest FROM policy_version WHERE active")
_SOURCE = text("SELECT source FROM policy_version WHERE id = :id")
_BANKS = text("SELECT name, kind FROM bank WHERE removed_at IS NULL")
_HELD = 64
_read: OrderedDict[str, Policy] = OrderedDict()
"""Digest of a text -> the policy: the ones that were used last."""


class InvalidPolicy(InvalidInput):
    """A text is no policy; ``errors`` has the path of each mistake, and its line and column in the message.

    Args:
        error: all mistakes.
    """

    def __init__(self, error: PolicyError) -> None:
        super().__init__(str(error))
        self.errors = [(one.path or "source", one.placed) for one in error.mistakes]
        self.mistakes = error


@dataclass(frozen=True)
class ActivePolicy:
    """The policy in force and its version."""

    id: int
    policy: Policy


@dataclass(frozen=True)
class PolicyHead:
    """A version without its text."""

    id: int
    digest: str
    note: str
    active: bool
    created_at: datetime
    created_by: str


async def read_policy(source: str, known: Known | None = None) -> Policy:
    """The policy of a text, read beside the event loop.

    Raises:
        InvalidPolicy: it is not one.
    """
    try:
        return await asyncio.to_thread(parse_policy, source, known)
    except PolicyError as error:
        raise InvalidPolicy(error) from error


async def active(connection: AsyncConnection) -> ActivePolicy:
    """The policy in force, as this transaction sees it.

    Raises:
        Unavailable: none has been applied yet (``ensure_active`` is called when the service starts), or this version of
            SafeGuard cannot read it.
    """
    row = (await connection.execute(_ACTIVE)).one_or_none()
    if row is None:
        raise Unavailable("no policy is active yet")
    return ActivePolicy(row.id, await _kept(connection, row.id, row.digest))


async def _kept(connection: AsyncConnection, version: int, digest: str) -> Policy:
    if digest not in _read:
        source = (await connection.execute(_SOURCE, {"id": version})).scalar_one()
        try:
            _read[digest] = await read_policy(source)
        except InvalidPolicy as error:
            raise Unavailable(f"policy {version} cannot be read: {error}") from error
        while len(_read) > _HELD:
            _read.popitem(last=False)
    _read.move_to_end(digest)
    return _read[digest]


async def stored(connection: AsyncConnection, version: int) -> Policy | None:
    """A version as it judges; None where there is none.

    Raises:
        Unavailable: this version of SafeGuard cannot read it.
    """
    digest = await connection.scalar(select(col(PolicyVersion.digest)).where(col(PolicyVersion.id) == version))
    return None if digest is None else await _kept(connection, version, digest)


async def bank_kinds(connection: AsyncConnection) -> dict[str, str]:
    """Name -> kind of the banks that a policy may name."""
    return {row.name: row.kind for row in (await connection.execute(_BANKS)).all()}


def banks_named(policy: Policy) -> set[str]:
    """Names of the banks that a policy names."""
    return {name for _, name in examine(policy.model_dump(mode="json", by_alias=True, exclude_none=True)).banks}


async def listing(engine: AsyncEngine, *, after: int | None = None, limit: int = 100) -> list[PolicyHead]:
    """Versions, newest first, without their texts.

    Args:
        after: id of the last one of the page before.
    """
    columns = [one for one in columns_of(PolicyVersion) if one.key != "source"]
    statement = select(*columns).order_by(col(PolicyVersion.id).desc()).limit(limit)
    if after is not None:
        statement = statement.where(col(PolicyVersion.id) < after)
    async with reading(engine) as connection:
        return [PolicyHead(**row._mapping) for row in (await connection.execute(statement)).all()]


async def get(engine: AsyncEngine, version: int | None) -> PolicyVersion:
    """One version with its text.

    Args:
        version: None: the active one.
    Raises:
        NotFound: there is none.
    """
    mine = col(PolicyVersion.active) if version is None else col(PolicyVersion.id) == version
    async with reading(engine) as connection:
        row = (await connection.execute(select(*columns_of(PolicyVersion)).where(mine))).one_or_none()
    if row is None:
        raise NotFound("no policy is active yet" if version is None else f"there is no policy {version}")
    return PolicyVersion(**row._mapping)
