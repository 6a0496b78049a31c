"""What a look-back works on: the members of its bank, by id, and ranges of images. Changes nothing. Below the deployments."""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from storage.database import reading
from storage.facts import IN_FORCE
from storage.lookback_claims import HeldLookBack


@dataclass(frozen=True)
class Member:
    """A member of the look-back's bank.

    Args:
        in_force: its matches count now.
        gone: when it, or its bank, was removed, as PostgreSQL writes it; None where it was not.
    """

    id: int
    image_id: int | None
    pdq: bytes | None
    sha256: bytes | None
    in_force: bool
    gone: str | None


@dataclass(frozen=True)
class BankTerms:
    """What a bank counts as a match, and when it was removed; ``pdq_distance`` in bits."""

    relations: frozenset[str]
    pdq_distance: int
    gone: str | None


_LAST_MEMBER = 2**63 - 1
_MEMBERS = text(f"""
SELECT member.id, member.image_id, member.pdq, member.sha256,
       coalesce(member.removed_at, bank.removed_at)::text AS gone,
       ({IN_FORCE}) AS in_force
FROM bank_member member JOIN bank ON bank.id = member.bank_id
WHERE member.bank_id = :bank AND member.id > :after AND member.id <= :last ORDER BY member.id LIMIT :most
""")
_HOW_MANY = text("SELECT count(*) FROM bank_member WHERE bank_id = :bank AND id > :after AND id <= :last")
_BANK = text("SELECT relations, pdq_distance, removed_at::text AS gone FROM bank WHERE id = :bank")
_BOUND = text("""
SELECT max(id) AS bound, count(*) AS images
FROM (SELECT id FROM image WHERE id > :after AND id <= :end ORDER BY id LIMIT :span) AS range
""")


async def bank_terms(engine: AsyncEngine, bank_id: int) -> BankTerms | None:
    """Those of one bank; None where it is gone."""
    async with reading(engine) as connection:
        row = (await connection.execute(_BANK, {"bank": bank_id})).one_or_none()
    return None if row is None else BankTerms(frozenset(row.relations), row.pdq_distance, row.gone)


def _range(held: HeldLookBack, after: int, last: int | None) -> dict[str, Any]:
    return {"bank": held.bank_id, "after": after, "last": last or held.last_member or _LAST_MEMBER}


async def members_after(
    engine: AsyncEngine, held: HeldLookBack, after: int, *, last: int | None = None, most: int = 64
) -> list[Member]:
    """The next members of a look-back, by id; up to ``last`` where it is given."""
    async with reading(engine) as connection:
        rows = (await connection.execute(_MEMBERS, {**_range(held, after, last), "most": most})).all()
    return [
        Member(
            row.id, row.image_id, bytes(row.pdq) if row.pdq else None, bytes(row.sha256) if row.sha256 else None,
            row.in_force, row.gone,
        )
        for row in rows
    ]  # fmt: skip


async def count_members(engine: AsyncEngine, held: HeldLookBack, after: int) -> int:
    """How many members a look-back searches for."""
    async with reading(engine) as connection:
        return int((await connection.execute(_HOW_MANY, _range(held, after, None))).scalar_one())


async def last_image(engine: AsyncEngine) -> int:
    """The largest id of an image, 0 without any: later ones are judged when they are finished."""
    async with reading(engine) as connection:
        return int((await connection.execute(text("SELECT coalesce(max(id), 0) FROM image"))).scalar_one())


async def range_end(engine: AsyncEngine, after: int, end: int, span: int) -> tuple[int, int] | None:
    """The id with which a range of ``span`` images after ``after`` ends, and how many it holds; None where there are none.

    Args:
        end: the last id that may be in it.
    """
    async with reading(engine) as connection:
        row = (await connection.execute(_BOUND, {"after": after, "end": end, "span": span})).one()
    return None if row.bound is None else (int(row.bound), int(row.images))


_TWINS = text("""
SELECT id FROM image
WHERE sha256 = :sha256 AND id > :after AND id <= :through AND id <> :me AND uploaded_at IS NOT NULL ORDER BY id
""")


async def twins(engine: AsyncEngine, me: int, sha256: bytes, within: tuple[int, int]) -> list[int]:
    """The images with the same bytes as one, by id.

    Args:
        within: ids above the first, up to and with the second.
    """
    arguments = {"sha256": sha256, "after": within[0], "through": within[1], "me": me}
    async with reading(engine) as connection:
        return list((await connection.execute(_TWINS, arguments)).scalars())
