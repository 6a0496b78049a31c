"""Changes of the active policy: applied, taken back, made at the first start. Below the deployments."""

import asyncio
import hashlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sqlalchemy import insert, select, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine
from sqlmodel import col

from configs.policies import Policy
from configs.policy_mistakes import PolicyError
from configs.policy_references import Known
from configs.policy_source import parse_policy
from storage import lookbacks
from storage.audit import record
from storage.bank_changes import change_banks
from storage.database import reading
from storage.errors import ConfigurationError, Conflict, InvalidInput
from storage.lookback_tables import LookBackKind
from storage.moderation_tables import PolicyVersion
from storage.policies import InvalidPolicy, bank_kinds, banks_named, get, read_policy

SHIPPED = Path(__file__).parent.parent / "configs" / "policies.yaml"
"""The policy that a new installation begins with."""
MAX_NOTE = 1000
_ACTIVE = text("SELECT id, digest FROM policy_version WHERE active")
_NONE_ACTIVE = text("UPDATE policy_version SET active = false WHERE active")
_PROCESSED = text("SELECT EXISTS (SELECT 1 FROM image WHERE status = 'PROCESSED' AND uploaded_at IS NOT NULL)")
_THIS_ACTIVE = text("UPDATE policy_version SET active = true WHERE id = :id")


@dataclass(frozen=True)
class Applied:
    """What a change has done.

    Args:
        version: that is active now.
        changed: another one was before.
        look_back: that judges all images anew; None: none was asked for.
    """

    version: int
    changed: bool
    look_back: int | None


async def apply(
    engine: AsyncEngine, source: str, known: Known, *, actor: str, note: str = "", rejudge: bool = True
) -> Applied:
    """Makes a text the active policy; the one before stays active where anything is wrong with it.

    The same text as that of the active one changes nothing.

    Args:
        known: what may be named; the banks are read from the database.
        actor: who, for the record.
        note: why, for people.
        rejudge: past images are judged by it too, in a look-back; without, each is when it is next decided on.
    Raises:
        InvalidPolicy: it is none, or names what is not there.
        InvalidInput: a note that is too long or cannot be stored.
    """
    check_note(note)
    policy, banks = await check(engine, source, known)
    digest = _digest(source)
    async with engine.begin() as connection:
        await change_banks(connection, hashes=False)
        await _same_banks(connection, policy, banks, source, known)
        before = (await connection.execute(_ACTIVE)).one_or_none()
        if before is not None and before.digest == digest:
            return Applied(before.id, False, None)
        await connection.execute(_NONE_ACTIVE)
        version = await _insert(connection, source, note, actor)
        return await _switched(connection, "policy.apply", version, _id(before), digest, actor, note, rejudge)


async def rollback(
    engine: AsyncEngine, version: int, known: Known, *, actor: str, note: str = "", rejudge: bool = True
) -> Applied:
    """Makes an earlier version active again, under its own number.

    Args:
        known, actor, note, rejudge: see ``apply``.
    Raises:
        NotFound: there is no such version.
        Conflict: it names what is not there any more, such as a bank.
    """
    check_note(note)
    wanted = await get(engine, version)
    try:
        policy, banks = await check(engine, wanted.source, known)
        async with engine.begin() as connection:
            await change_banks(connection, hashes=False)
            await _same_banks(connection, policy, banks, wanted.source, known)
            before = (await connection.execute(_ACTIVE)).one_or_none()
            if before is not None and before.id == version:
                return Applied(version, False, None)
            await connection.execute(_NONE_ACTIVE)
            await connection.execute(_THIS_ACTIVE, {"id": version})
            return await _switched(
                connection, "policy.rollback", version, _id(before), wanted.digest, actor, note, rejudge
            )
    except InvalidPolicy as error:
        raise Conflict(f"policy {version} cannot be active as things are now: {error}") from error


async def check(engine: AsyncEngine, source: str, known: Known) -> tuple[Policy, dict[str, str]]:
    """The policy of a text, checked against the banks of the database too, and those banks: name -> kind.

    Raises:
        InvalidPolicy: it is none, or names what is not there.
    """
    async with reading(engine) as connection:
        banks = await bank_kinds(connection)
    return await read_policy(source, replace(known, banks=banks)), banks


async def ensure_active(engine: AsyncEngine, *, actor: str, file: Path = SHIPPED) -> int | None:
    """Applies the shipped policy where none has ever been; returns its version, None where there is one.

    Images that are older than policies get their verdict by a look-back, which is begun with it.

    Args:
        actor: who, for the record.
        file: its text; not looked at where there is a policy.
    Raises:
        ConfigurationError: the file is not a policy; the message has each mistake with its place.
    """
    if await _any(engine):
        return None
    source = await asyncio.to_thread(_text_of, file)
    note = "the policy that SafeGuard ships"
    async with engine.begin() as connection:
        await change_banks(connection, hashes=False)
        if (await connection.execute(select(col(PolicyVersion.id)).limit(1))).one_or_none() is not None:
            return None
        past = bool(await connection.scalar(_PROCESSED))
        version = await _insert(connection, source, note, actor)
        await _switched(connection, "policy.apply", version, None, _digest(source), actor, note, past)
        return version


def check_note(note: str) -> None:
    """Refuses what cannot be kept.

    Raises:
        InvalidInput: too long, or with a control character.
    """
    if len(note) > MAX_NOTE or any(one < " " and one not in "\n\t" for one in note):
        raise InvalidInput(f"a note has {MAX_NOTE} characters at most, and no control characters", "note")


def _text_of(file: Path) -> str:
    try:
        source = file.read_text(encoding="utf-8")
        parse_policy(source)
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{file} cannot be read: {error}") from error
    except PolicyError as error:
        raise ConfigurationError("\n".join(error.lines(str(file)))) from error
    return source


def _id(row: Any) -> int | None:
    return None if row is None else int(row.id)


def _digest(source: str) -> str:
    return hashlib.sha256(source.encode()).hexdigest()


async def _any(engine: AsyncEngine) -> bool:
    async with reading(engine) as connection:
        return (await connection.execute(select(col(PolicyVersion.id)).limit(1))).one_or_none() is not None


async def _same_banks(
    connection: AsyncConnection, policy: Policy, banks: dict[str, str], source: str, known: Known
) -> None:
    """Checks the names of banks again under the lock, where banks have changed since the policy was checked."""
    now = await bank_kinds(connection)
    if any(now.get(name) != banks.get(name) for name in banks_named(policy)):
        await read_policy(source, replace(known, banks=now))


async def _insert(connection: AsyncConnection, source: str, note: str, actor: str) -> int:
    values = {"source": source, "digest": _digest(source), "note": note, "active": True, "created_by": actor}
    made = await connection.execute(insert(PolicyVersion).values(**values).returning(col(PolicyVersion.id)))
    return int(made.scalar_one() or 0)


async def _switched(
    connection: AsyncConnection, action: str, version: int, before: int | None, digest: str, actor: str, note: str,
    rejudge: bool,
) -> Applied:  # fmt: skip
    look_back = None
    if rejudge:
        verb = "was applied" if action == "policy.apply" else "is active again"
        cause = f"policy {version} {verb}"
        look_back = await lookbacks.begin(connection, LookBackKind.JUDGE, cause=cause, actor=actor)
    detail: dict[str, Any] = {"before": before, "digest": digest, "note": note, "look_back": look_back}
    await record(connection, actor, action, f"policy/{version}", detail)
    return Applied(version, True, look_back)
