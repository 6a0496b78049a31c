"""Members of banks as a matcher shows them: whose they are, and whether they count. Below the deployments."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from storage.database import reading

_SHOWN = """
SELECT member.id, member.image_id, member.pdq, coalesce(member.sha256, image.sha256) AS sha256, member.source,
       bank.name AS bank, bank.kind, bank.relations, bank.pdq_distance, member.quarantined_at IS NULL AS counts,
       bank.enabled OR coalesce(bank.disabled_until <= now(), false) AS bank_enabled
FROM bank_member member JOIN bank ON bank.id = member.bank_id LEFT JOIN image ON image.id = member.image_id
WHERE member.removed_at IS NULL AND bank.removed_at IS NULL AND
"""
_BY_ID = text(f"{_SHOWN} member.id = ANY(CAST(:ids AS bigint[]))")
_BY_IMAGE = text(f"{_SHOWN} member.image_id = ANY(CAST(:ids AS bigint[]))")
_BY_BYTES = text(f"""
{_SHOWN} member.id IN (
    SELECT id FROM bank_member WHERE sha256 = :sha256
    UNION ALL
    SELECT held.id FROM image JOIN bank_member held ON held.image_id = image.id WHERE image.sha256 = :sha256)
""")
_NAMED = text(f"{_SHOWN} bank.name = :bank AND member.id = :id")
_BANKS = text("""
SELECT name, enabled OR coalesce(disabled_until <= now(), false) AS enabled FROM bank
WHERE removed_at IS NULL AND (CAST(:name AS text) IS NULL OR name = :name) ORDER BY name
""")
_ADDED = text("SELECT extract(epoch FROM added_at)::bigint FROM bank_member ORDER BY id DESC LIMIT 1")


@dataclass(frozen=True)
class ShownMember:
    """A member that has not been removed.

    Args:
        sha256: of a stored image, its own.
        counts: it is not in quarantine.
    """

    id: int
    image_id: int | None
    pdq: bytes | None
    sha256: bytes | None
    source: str
    bank: str
    kind: str
    relations: list[str]
    pdq_distance: int
    counts: bool
    bank_enabled: bool


async def _members(engine: AsyncEngine, statement: Any, **arguments: object) -> list[ShownMember]:
    async with reading(engine) as connection:
        return [ShownMember(**row._mapping) for row in await connection.execute(statement, arguments)]


async def by_ids(engine: AsyncEngine, member_ids: Sequence[int]) -> list[ShownMember]:
    """Members by their ids."""
    return await _members(engine, _BY_ID, ids=list(member_ids)) if member_ids else []


async def by_images(engine: AsyncEngine, image_ids: Sequence[int]) -> list[ShownMember]:
    """Members that are stored images, by the ids of those."""
    return await _members(engine, _BY_IMAGE, ids=list(image_ids)) if image_ids else []


async def by_bytes(engine: AsyncEngine, sha256: bytes) -> list[ShownMember]:
    """Members that are this SHA-256, or stored images whose file has it."""
    return await _members(engine, _BY_BYTES, sha256=sha256)


async def named(engine: AsyncEngine, bank: str, member_id: int) -> ShownMember | None:
    """A member of the bank of this name."""
    return next(iter(await _members(engine, _NAMED, bank=bank, id=member_id)), None)


async def banks(engine: AsyncEngine, name: str | None = None) -> list[tuple[str, bool]]:
    """All banks, or the one of a name: name, and whether it is in force."""
    async with reading(engine) as connection:
        return [(row.name, row.enabled) for row in await connection.execute(_BANKS, {"name": name})]


async def last_added(engine: AsyncEngine) -> int:
    """When the newest member was added, in seconds since 1970; -1 where there is none."""
    async with reading(engine) as connection:
        found = (await connection.execute(_ADDED)).scalar_one_or_none()
    return -1 if found is None else int(found)
