"""Banks: made, changed, listed, removed. Each change is one transaction with its look-back and audit entry."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import insert, select, text, update
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine
from sqlmodel import col

from storage import bank_rules as rules
from storage import lookbacks, policies
from storage.audit import record
from storage.bank_changes import change_banks
from storage.bank_policies import rules_naming
from storage.database import reading
from storage.errors import Conflict, InvalidInput, NotFound
from storage.lookback_tables import LookBackKind
from storage.moderation_tables import Bank
from storage.outbox import EventType, emit
from storage.tables import columns_of

_COUNTS = text("""
SELECT bank_id, count(image_id) AS images, count(*) - count(image_id) AS hashes, count(quarantined_at) AS quarantined
FROM bank_member WHERE bank_id = ANY(CAST(:ids AS bigint[])) AND removed_at IS NULL GROUP BY bank_id
""")
_ANY_MEMBER = text("SELECT EXISTS (SELECT FROM bank_member WHERE bank_id = :id AND removed_at IS NULL)")
_JUDGED_ANEW = frozenset({"enabled", "disabled_until", "relations", "pdq_distance", "copy_score", "semantic_score"})
"""What decides whether a member matches: past images are looked at again when it changes."""


@dataclass(frozen=True)
class BankState:
    """A bank and how many members it has: stored images, hashes, and how many of all are in quarantine."""

    bank: Bank
    images: int = 0
    hashes: int = 0
    quarantined: int = 0

    @property
    def id(self) -> int:
        """Of the bank."""
        assert self.bank.id is not None
        return self.bank.id


@dataclass(frozen=True)
class NewBank:
    """What a bank begins with; see ``storage.moderation_tables.Bank``."""

    name: str
    kind: str
    description: str = ""
    relations: Sequence[str] = rules.RELATIONS
    pdq_distance: int = rules.PDQ_DISTANCE
    copy_score: float | None = None
    semantic_score: float | None = None


async def held(connection: AsyncConnection, bank_id: int) -> Bank:
    """A bank that has not been removed, as this transaction sees it.

    Raises:
        NotFound: there is none.
    """
    statement = select(*columns_of(Bank)).where(col(Bank.id) == bank_id, col(Bank.removed_at).is_(None))
    row = (await connection.execute(statement)).one_or_none()
    if row is None:
        raise NotFound(f"there is no bank {bank_id}")
    return Bank(**row._mapping)


async def _counted(connection: AsyncConnection, banks: Sequence[Bank]) -> list[BankState]:
    rows = (await connection.execute(_COUNTS, {"ids": [one.id for one in banks]})).all()
    counts = {row.bank_id: (row.images, row.hashes, row.quarantined) for row in rows}
    return [BankState(one, *counts.get(one.id, (0, 0, 0))) for one in banks]


async def get(engine: AsyncEngine, bank_id: int) -> BankState:
    """One bank with its counts.

    Raises:
        NotFound: there is none, or it has been removed.
    """
    async with reading(engine) as connection:
        (state,) = await _counted(connection, [await held(connection, bank_id)])
    return state


async def by_name(engine: AsyncEngine, name: str) -> BankState:
    """The bank of that name, with its counts.

    Raises:
        NotFound: there is none.
    """
    statement = select(*columns_of(Bank)).where(col(Bank.name) == name, col(Bank.removed_at).is_(None))
    async with reading(engine) as connection:
        row = (await connection.execute(statement)).one_or_none()
        if row is None:
            raise NotFound(f"there is no bank named {name!r}")
        (state,) = await _counted(connection, [Bank(**row._mapping)])
    return state


async def listing(engine: AsyncEngine, *, after: int = 0, limit: int = 1000) -> list[BankState]:
    """Banks by id, with their counts, for which all their members are read.

    Args:
        after: only ids above this one.
    """
    statement = select(*columns_of(Bank)).where(col(Bank.removed_at).is_(None), col(Bank.id) > after)
    async with reading(engine) as connection:
        rows = (await connection.execute(statement.order_by(col(Bank.id)).limit(limit))).all()
        return await _counted(connection, [Bank(**row._mapping) for row in rows])


async def _name_is_free(connection: AsyncConnection, name: str) -> None:
    taken = select(col(Bank.id)).where(col(Bank.name) == name, col(Bank.removed_at).is_(None))
    number = (await connection.execute(taken)).scalar_one_or_none()
    if number is not None:
        raise Conflict(f"bank {number} is named {name!r} already")


async def create(engine: AsyncEngine, new: NewBank, *, actor: str) -> BankState:
    """Makes an empty bank, in force at once.

    Raises:
        InvalidInput: see ``storage.bank_rules``.
        Conflict: another bank has that name.
    """
    values: dict[str, Any] = {
        "name": rules.name_of(new.name),
        "kind": rules.kind_of(new.kind),
        "description": rules.printable(new.description, "description", rules.DESCRIPTION_LENGTH),
        "relations": rules.relations_of(new.relations),
        "pdq_distance": rules.distance_of(new.pdq_distance),
        "copy_score": rules.score_of(new.copy_score, "copy_score"),
        "semantic_score": rules.score_of(new.semantic_score, "semantic_score"),
    }
    async with engine.begin() as connection:
        await change_banks(connection, hashes=False)
        await _name_is_free(connection, new.name)
        made = insert(Bank).values(**values, created_by=actor).returning(*columns_of(Bank))
        bank = Bank(**(await connection.execute(made)).one()._mapping)
        await record(connection, actor, "bank.create", f"bank/{bank.id}", values)
    return BankState(bank)


def _checked(bank: Bank, changes: dict[str, Any]) -> dict[str, Any]:
    """The columns that really change."""
    unknown = set(changes) - _JUDGED_ANEW - {"name", "description"}
    if unknown:
        raise InvalidInput(f"{', '.join(sorted(unknown))} of a bank cannot be changed", min(unknown))
    wanted = dict(changes)
    if "name" in wanted:
        rules.name_of(wanted["name"])
    if "description" in wanted:
        rules.printable(wanted["description"], "description", rules.DESCRIPTION_LENGTH)
    if "relations" in wanted:
        wanted["relations"] = rules.relations_of(wanted["relations"])
    if "pdq_distance" in wanted:
        rules.distance_of(wanted["pdq_distance"])
    for field in ("copy_score", "semantic_score"):
        rules.score_of(wanted.get(field), field)
    until = wanted.get("disabled_until")
    if until is not None:
        if wanted.get("enabled", False):
            raise InvalidInput("a bank that is enabled has no disabled_until", "disabled_until")
        wanted["disabled_until"] = rules.until_of(until)
        wanted["enabled"] = False
    elif wanted.get("enabled", False):
        wanted["disabled_until"] = None
    return {name: value for name, value in wanted.items() if value != getattr(bank, name)}


async def change(
    engine: AsyncEngine, bank_id: int, changes: dict[str, Any], *, actor: str
) -> tuple[BankState, int | None]:
    """Changes a bank; where that changes what matches, a look-back begins.

    Args:
        changes: of name, description, enabled, disabled_until, relations, pdq_distance, copy_score, semantic_score.
            A time in ``disabled_until`` disables; enabling forgets it.
    Returns:
        The bank as it is then, and the id of the look-back, None where there is nothing to look at again.
    Raises:
        NotFound: there is no such bank.
        InvalidInput: see ``storage.bank_rules``.
        Conflict: another bank has that name, or rules of the active policy name this one, which is to be renamed.
    """
    look_back = None
    async with engine.begin() as connection:
        await change_banks(connection, hashes=bool(_JUDGED_ANEW & set(changes)))
        bank = await held(connection, bank_id)
        wanted = _checked(bank, changes)
        if "name" in wanted:
            await _unnamed(connection, bank, "renamed")
            await _name_is_free(connection, wanted["name"])
        if wanted:
            changed = update(Bank).where(col(Bank.id) == bank_id).values(**wanted)
            await connection.execute(changed)
        after_it = await held(connection, bank_id)
        names = sorted(_JUDGED_ANEW & set(wanted))
        if names and (await connection.execute(_ANY_MEMBER, {"id": bank_id})).scalar_one():
            cause = f"{', '.join(names)} of bank {bank.name} changed"
            look_back = await lookbacks.begin(connection, LookBackKind.BANK, cause=cause, actor=actor, bank_id=bank_id)
        if wanted:
            before = {name: _plain(getattr(bank, name)) for name in wanted}
            after = {name: _plain(value) for name, value in wanted.items()}
            detail = {"before": before, "after": after, "look_back": look_back}
            await record(connection, actor, "bank.change", f"bank/{bank_id}", detail)
    async with reading(engine) as connection:  # counting takes as long as there are members: nobody waits for it
        (state,) = await _counted(connection, [after_it])
    return state, look_back


def _plain(value: Any) -> Any:
    return value.isoformat() if isinstance(value, datetime) else value


async def _unnamed(connection: AsyncConnection, bank: Bank, what: str) -> None:
    naming = rules_naming((await policies.active(connection)).policy, bank.name)
    if naming:
        raise Conflict(
            f"bank {bank.name!r} cannot be {what}: the active policy names it in the rules {', '.join(naming)};"
            " apply a policy without it first"
        )


async def remove(engine: AsyncEngine, bank_id: int, *, actor: str) -> int:
    """Takes a bank out of force at once; the look-back that begins takes back its effects, then its rows go.

    Returns:
        The id of the look-back.
    Raises:
        NotFound: there is no such bank.
        Conflict: rules of the active policy name it.
    """
    state = await get(engine, bank_id)  # before the lock, which uploads wait for, so as of a moment ago
    async with engine.begin() as connection:
        await change_banks(connection, hashes=True)
        bank = await held(connection, bank_id)
        await _unnamed(connection, bank, "removed")
        await connection.execute(text("UPDATE bank SET removed_at = now() WHERE id = :id"), {"id": bank_id})
        cause = f"bank {bank.name} was removed"
        look_back = await lookbacks.begin(connection, LookBackKind.BANK, cause=cause, actor=actor, bank_id=bank_id)
        members = state.images + state.hashes
        if members or (await connection.execute(_ANY_MEMBER, {"id": bank_id})).scalar_one():
            told = {"bank_id": bank_id, "bank": bank.name, "members": members, "look_back": look_back}
            await emit(connection, EventType.MEMBER_REMOVED, None, told)
        detail = {"name": bank.name, "members": members, "look_back": look_back}
        await record(connection, actor, "bank.remove", f"bank/{bank_id}", detail)
    return look_back
