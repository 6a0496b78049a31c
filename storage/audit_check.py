"""Following the chain of the audit from its first entry, a page at a time: where is it broken, and how? Changes nothing."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from storage.audit_chain import entry_hash, parsed
from storage.audit_log import EMPTY, Head
from storage.database import reading
from storage.errors import InvalidInput

_FIRST = -(2**63)
_FAR = 1000
"""How many places an entry is looked for from where it stands, when entries were put in or taken out and renumbered."""
_TWINS = 10
# Python has no moment outside of these years; an entry that was moved there is an altered one.
_COLUMNS = """
sequence, CASE WHEN at BETWEEN '0001-01-02' AND '9999-12-30' THEN at END AS at, actor, action, subject,
detail::text AS detail, previous_hash, hash
"""
_PAGE = text(f"SELECT {_COLUMNS} FROM audit WHERE sequence >= :first ORDER BY sequence LIMIT :page")
_FOLLOWERS = text(f"""
SELECT {_COLUMNS} FROM audit WHERE previous_hash = :hash AND sequence <> :place ORDER BY sequence LIMIT {_TWINS}
""")
_Entry = Row[Any]


class Fault(StrEnum):
    """What is wrong where the chain breaks."""

    ALTERED = "altered"
    MISSING = "missing"
    REORDERED = "reordered"
    INSERTED = "inserted"
    CUT_OFF = "cut off"
    REWRITTEN = "rewritten"


@dataclass(frozen=True)
class Broken:
    """The first place where the chain breaks.

    Args:
        sequence: the place.
        fault: what is wrong with it.
        detail: the same for people.
    """

    sequence: int
    fault: Fault
    detail: str


@dataclass(frozen=True)
class Checked:
    """What following the chain gave.

    Args:
        head: the last entry up to which the chain holds.
        broken: None where it holds to its end.
    """

    head: Head
    broken: Broken | None


async def verify(engine: AsyncEngine, *, known: Head | None = None, page: int = 2000) -> Checked:
    """Follows the chain; each page is read in a statement of its own, so no transaction stays open meanwhile.

    Args:
        known: a head that was kept elsewhere. Only with it can be seen that the end was cut off, or that everything from
            some entry on was written anew with fitting hashes.
        page: entries held at a time.
    """
    end, first = EMPTY, _FIRST
    if known is not None and known.sequence == 0 and known != EMPTY:
        return Checked(EMPTY, _rewritten(known))
    async with reading(engine) as connection:
        while rows := (await connection.execute(_PAGE, {"first": first, "page": page})).all():
            for row in rows:
                place = end.sequence + 1
                if row.sequence != place or row.previous_hash != end.hash or not _fits(row, place):
                    return Checked(end, await _diagnose(connection, row, end))
                end = Head(place, row.hash)
                if known is not None and known.sequence == place and known.hash != end.hash:
                    return Checked(end, _rewritten(known))
            first = end.sequence + 1
    if known is not None and known.sequence > end.sequence:
        detail = f"the audit ends at {end.sequence}, and the known head is {known.sequence}: its end was cut off"
        return Checked(end, Broken(end.sequence + 1, Fault.CUT_OFF, detail))
    return Checked(end, None)


def _rewritten(known: Head) -> Broken:
    detail = f"entry {known.sequence} has another hash than the known head: it, or entries before it, were written anew"
    return Broken(known.sequence, Fault.REWRITTEN, detail)


def _fits(row: _Entry, place: int, previous_hash: bytes | None = None) -> bool:
    """Whether the hash of an entry is that of its content at ``place``, behind its own ``previous_hash`` or another."""
    if row.at is None:
        return False
    behind = row.previous_hash if previous_hash is None else previous_hash
    try:
        detail = parsed(row.detail)
        return bool(row.hash == entry_hash(behind, place, row.at, row.actor, row.action, row.subject, detail))
    except (InvalidInput, RecursionError):  # no entry of ours
        return False


async def _diagnose(connection: AsyncConnection, row: _Entry, end: Head) -> Broken:
    """What is wrong behind ``end``, where ``row`` comes next and does not fit."""
    place = end.sequence + 1
    if row.sequence < place:
        return Broken(row.sequence, Fault.INSERTED, "the audit begins with entry 1")
    twins = await connection.execute(_FOLLOWERS, {"hash": end.hash, "place": place})
    moved = next((one.sequence for one in twins if _fits(one, place)), None)
    if moved is not None:
        if row.sequence > place or _fits(row, moved):
            return Broken(place, Fault.REORDERED, f"entry {place} stands at {moved}")
        return Broken(place, Fault.INSERTED, f"entry {place} stands at {moved}, and a strange one in its place")
    if row.sequence > place:
        gone = f"entry {place} is" if row.sequence == place + 1 else f"entries {place} to {row.sequence - 1} are"
        return Broken(place, Fault.MISSING, f"{gone} missing")
    return _standing(row, end)


def _standing(row: _Entry, end: Head) -> Broken:
    """What is wrong with an entry that stands at its place, where no other has more right to it."""
    place = end.sequence + 1
    if row.previous_hash == end.hash:
        return Broken(place, Fault.ALTERED, f"entry {place} was altered: its hash is not that of its content")
    if _fits(row, place, end.hash):
        return Broken(place, Fault.ALTERED, f"entry {place} was altered: it names another hash of the entry before it")
    if place > 1 and _fits(row, place):
        detail = f"entry {place - 1} was altered with its hash: the entry after it names another"
        return Broken(place - 1, Fault.ALTERED, detail)
    for far in range(1, _FAR + 1):
        if far < place and _fits(row, place - far):
            detail = (
                f"{far} entries were put in from {place - far} on: what stands at {place} was written as {place - far}"
            )
            return Broken(place - far, Fault.INSERTED, detail)
        if _fits(row, place + far):
            detail = f"{far} entries are missing from {place} on: what stands there was written as {place + far}"
            return Broken(place, Fault.MISSING, detail)
    return Broken(place, Fault.ALTERED, f"entry {place} was altered, or was never written by SafeGuard")
