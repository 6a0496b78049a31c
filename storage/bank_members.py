"""Members of banks: stored images and hashes, added, noted, removed, listed. Below the deployments.

What is removed counts no more at once; its row stays until the look-back has taken back what it did. Adding it again before
that keeps the row, but nothing of its quarantine: as if the row had gone.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine
from sqlmodel import col

from storage import bank_rules as rules
from storage import banks, lookbacks
from storage.audit import record
from storage.bank_changes import change_banks
from storage.database import reading
from storage.errors import Conflict, NotFound
from storage.lookback_tables import LookBackKind
from storage.moderation_tables import Bank, BankMember
from storage.outbox import EventType, emit
from storage.tables import Status, columns_of

_IMAGE = text("SELECT status FROM image WHERE id = :id AND uploaded_at IS NOT NULL FOR KEY SHARE")
_KEPT = """ON CONFLICT ON CONSTRAINT bank_member_once DO UPDATE SET removed_at = NULL, quarantined_at = NULL,
    quarantine_reason = NULL, released_at = NULL, note = excluded.note,"""
_ADD_IMAGE = text(f"""
INSERT INTO bank_member AS held (bank_id, image_id, note, added_by)
VALUES (CAST(:bank AS bigint), CAST(:image AS bigint), :note, :actor)
{_KEPT} added_by = excluded.added_by, added_at = now() WHERE held.removed_at IS NOT NULL RETURNING id
""")
_ADD_HASHES = text(f"""
WITH given AS (
    SELECT DISTINCT ON (pdq, sha256) * FROM jsonb_to_recordset(CAST(:rows AS jsonb))
        AS r(n int, pdq text, sha256 text, note text) ORDER BY pdq, sha256, n)
INSERT INTO bank_member AS held (bank_id, pdq, sha256, note, source, added_by)
SELECT CAST(:bank AS bigint), decode(pdq, 'hex'), decode(sha256, 'hex'), note, CAST(:source AS text), CAST(:actor AS text)
FROM given ORDER BY n
{_KEPT} source = excluded.source, added_by = excluded.added_by, added_at = now() WHERE held.removed_at IS NOT NULL
RETURNING id, xmax = 0 AS fresh
""")
_OF_IMAGE = text("""
SELECT bank.name, member.removed_at IS NOT NULL OR bank.removed_at IS NOT NULL AS leaving
FROM bank_member member JOIN bank ON bank.id = member.bank_id WHERE member.image_id = :image ORDER BY bank.name
""")


@dataclass(frozen=True)
class HashEntry:
    """A hash to add: PDQ, SHA-256 or both, 32 bytes each."""

    pdq: bytes | None
    sha256: bytes | None
    note: str = ""


@dataclass(frozen=True)
class Added:
    """What became of hashes that were given: how many are new, how many were there, and the look-backs begun."""

    added: int
    already_there: int
    look_backs: tuple[int, ...] = ()


async def member_of(connection: AsyncConnection, bank_id: int, member_id: int) -> BankMember:
    """A member that has not been removed, as this transaction sees it.

    Raises:
        NotFound: there is none in this bank.
    """
    wanted = (
        col(BankMember.id) == member_id,
        col(BankMember.bank_id) == bank_id,
        col(BankMember.removed_at).is_(None),
    )
    row = (await connection.execute(select(*columns_of(BankMember)).where(*wanted))).one_or_none()
    if row is None:
        raise NotFound(f"bank {bank_id} has no member {member_id}")
    return BankMember(**row._mapping)


async def _image_member(connection: AsyncConnection, bank_id: int, image_id: int) -> BankMember | None:
    wanted = (
        col(BankMember.bank_id) == bank_id,
        col(BankMember.image_id) == image_id,
        col(BankMember.removed_at).is_(None),
    )
    row = (await connection.execute(select(*columns_of(BankMember)).where(*wanted))).one_or_none()
    return BankMember(**row._mapping) if row is not None else None


async def add_image(
    engine: AsyncEngine, bank_id: int, image_id: int, *, note: str | None, actor: str
) -> tuple[BankMember, int | None]:
    """Makes a stored image a member. Where it is one already nothing changes but a note that is another one.

    Args:
        note: why; None: none, or the one that it has.
    Returns:
        The member, and the id of the look-back that searches past images for it; None where it was one already.
    Raises:
        NotFound: there is no such bank or image.
        Conflict: the image is not PROCESSED.
        InvalidInput: a note that cannot be kept.
    """
    rules.printable(note or "", "note", rules.NOTE_LENGTH)
    look_back = None
    async with engine.begin() as connection:
        await change_banks(connection, hashes=True)
        bank = await banks.held(connection, bank_id)
        status = (await connection.execute(_IMAGE, {"id": image_id})).scalar_one_or_none()
        if status is None:
            raise NotFound(f"there is no image {image_id}")
        if status != Status.PROCESSED:
            raise Conflict(f"image {image_id} is {status}: only processed images can be members of a bank")
        there = await _image_member(connection, bank_id, image_id)
        if there is not None:
            assert there.id is not None
            if note is not None and note != there.note:
                await _renote(connection, there, note, actor=actor)
            return await member_of(connection, bank_id, there.id), None
        values = {"bank": bank_id, "image": image_id, "note": note or "", "actor": actor}
        member_id = int((await connection.execute(_ADD_IMAGE, values)).scalar_one())
        look_back = await _look_back(connection, bank, [member_id], f"image {image_id} was added to", actor)
        told = {**_told(bank, [member_id]), "look_back": look_back}
        await emit(connection, EventType.MEMBER_ADDED, image_id, told)
        detail = {"member": member_id, "image": image_id, "note": note or "", "look_back": look_back}
        member = await member_of(connection, bank_id, member_id)
        await record(connection, actor, "bank.member_add", f"bank/{bank_id}", detail)
    return member, look_back


async def _look_back(connection: AsyncConnection, bank: Bank, members: Sequence[int], what: str, actor: str) -> int:
    return await lookbacks.begin(
        connection, LookBackKind.MEMBERS, cause=f"{what} bank {bank.name}", actor=actor, bank_id=bank.id,
        members=(min(members), max(members)),
    )  # fmt: skip


def _told(bank: Bank, members: Sequence[int]) -> dict[str, Any]:
    return {
        "bank_id": bank.id, "bank": bank.name, "members": len(members), "first_member": min(members),
        "last_member": max(members),
    }  # fmt: skip


async def add_hashes(
    engine: AsyncEngine, bank_id: int, entries: Sequence[HashEntry], *, actor: str, source: str = ""
) -> Added:
    """Adds hashes in one transaction, with one audit entry and one event; those that are there already stay as they are.

    Args:
        entries: at most a few thousand.
        source: where they come from; kept with each.
    Raises:
        NotFound: there is no such bank.
        InvalidInput: a note or a source that cannot be kept.
    """
    rules.printable(source, "source", rules.SOURCE_LENGTH, lines=False)
    for one in entries:
        rules.printable(one.note, "note", rules.NOTE_LENGTH)
    rows = [
        {
            "n": n, "note": one.note, "pdq": one.pdq.hex() if one.pdq else None,
            "sha256": one.sha256.hex() if one.sha256 else None,
        }
        for n, one in enumerate(entries)
    ]  # fmt: skip
    look_backs = []
    async with engine.begin() as connection:
        await change_banks(connection, hashes=True)
        bank = await banks.held(connection, bank_id)
        values = {"bank": bank_id, "source": source, "actor": actor, "rows": json.dumps(rows)}
        made = (await connection.execute(_ADD_HASHES, values)).all()
        fresh, again = [row.id for row in made if row.fresh], [row.id for row in made if not row.fresh]
        for members in (fresh, again):  # ids that are far apart would look back for everything in between
            if members:
                what = f"{len(members)} hashes were added to"
                look_backs.append(await _look_back(connection, bank, members, what, actor))
        if made:
            members = fresh + again
            told = {**_told(bank, members), "source": source, "look_back": look_backs[0]}
            await emit(connection, EventType.MEMBER_ADDED, None, told)
            detail = {
                "added": len(members), "already_there": len(entries) - len(members), "first_member": min(members),
                "last_member": max(members), "source": source, "look_backs": look_backs,
            }  # fmt: skip
            await record(connection, actor, "bank.import", f"bank/{bank_id}", detail)
    return Added(len(made), len(entries) - len(made), tuple(look_backs))


async def remove(engine: AsyncEngine, bank_id: int, member_id: int, *, actor: str) -> int:
    """Takes a member out; returns the id of the look-back that takes its effects back.

    Raises:
        NotFound: there is no such member.
    """
    async with engine.begin() as connection:
        await change_banks(connection, hashes=True)
        bank = await banks.held(connection, bank_id)
        return await _remove(connection, bank, await member_of(connection, bank_id, member_id), actor)


async def remove_image(engine: AsyncEngine, bank_id: int, image_id: int, *, actor: str) -> int:
    """Takes a member out that is a stored image; otherwise as ``remove``.

    Raises:
        NotFound: the image is no member of that bank.
    """
    async with engine.begin() as connection:
        await change_banks(connection, hashes=True)
        bank = await banks.held(connection, bank_id)
        member = await _image_member(connection, bank_id, image_id)
        if member is None:
            raise NotFound(f"image {image_id} is no member of bank {bank_id}")
        return await _remove(connection, bank, member, actor)


async def _remove(connection: AsyncConnection, bank: Bank, member: BankMember, actor: str) -> int:
    assert member.id is not None
    statement = text("UPDATE bank_member SET removed_at = now() WHERE id = :id")
    await connection.execute(statement, {"id": member.id})
    look_back = await _look_back(connection, bank, [member.id], f"member {member.id} was removed from", actor)
    told = {**_told(bank, [member.id]), "look_back": look_back}
    await emit(connection, EventType.MEMBER_REMOVED, member.image_id, told)
    detail = {"member": member.id, **described(member), "look_back": look_back}
    await record(connection, actor, "bank.member_remove", f"bank/{bank.id}", detail)
    return look_back


def described(member: BankMember) -> dict[str, Any]:
    """What a member is, as JSON: the image's id, or its hashes in hexadecimal."""
    said = {
        "image": member.image_id,
        "pdq": member.pdq.hex() if member.pdq else None,
        "sha256": member.sha256.hex() if member.sha256 else None,
    }
    return {name: value for name, value in said.items() if value is not None}


async def set_note(engine: AsyncEngine, bank_id: int, member_id: int, note: str, *, actor: str) -> BankMember:
    """Changes the note of a member; no image is decided anew for it.

    Raises:
        NotFound: there is no such member.
        InvalidInput: a note that cannot be kept.
    """
    rules.printable(note, "note", rules.NOTE_LENGTH)
    async with engine.begin() as connection:
        await change_banks(connection, hashes=False)
        await banks.held(connection, bank_id)
        member = await member_of(connection, bank_id, member_id)
        if note != member.note:
            await _renote(connection, member, note, actor=actor)
    member.note = note
    return member


async def _renote(connection: AsyncConnection, member: BankMember, note: str, *, actor: str) -> None:
    statement = text("UPDATE bank_member SET note = :note WHERE id = :id")
    await connection.execute(statement, {"id": member.id, "note": note})
    detail = {"member": member.id, "before": member.note, "after": note}
    await record(connection, actor, "bank.member_note", f"bank/{member.bank_id}", detail)


async def listing(
    engine: AsyncEngine, bank_id: int, *, after: int = 0, limit: int = 100, quarantined: bool = False
) -> list[BankMember]:
    """Members by id, a page at a time.

    Args:
        after: only ids above this one.
        quarantined: only those in quarantine.
    Raises:
        NotFound: there is no such bank.
    """
    wanted = [
        col(BankMember.bank_id) == bank_id,
        col(BankMember.removed_at).is_(None),
        col(BankMember.id) > after,
    ]
    if quarantined:
        wanted.append(col(BankMember.quarantined_at).is_not(None))
    statement = select(*columns_of(BankMember)).where(*wanted).order_by(col(BankMember.id)).limit(limit)
    async with reading(engine) as connection:
        await banks.held(connection, bank_id)
        return [BankMember(**row._mapping) for row in (await connection.execute(statement)).all()]


async def refuse_member(connection: AsyncConnection, image_id: int) -> None:
    """Keeps a member of a bank from being deleted; one that becomes it at this moment is kept by its foreign key.

    Raises:
        Conflict: it is one; the banks are named.
    """
    rows = (await connection.execute(_OF_IMAGE, {"image": image_id})).all()
    present = [row.name for row in rows if not row.leaving]
    if present:
        raise Conflict(f"image {image_id} is a member of the banks {', '.join(present)}: take it out there first")
    if rows:
        raise Conflict(
            f"image {image_id} has just been taken out of {', '.join(row.name for row in rows)}: it can be deleted when"
            " the look-back has ended"
        )
