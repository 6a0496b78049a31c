"""API keys: random, stored as a hash, shown once; scopes, expiry, revocation and a limit per minute. Below the ingress."""

import hashlib
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from sqlalchemy import bindparam, insert, or_, select, text, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.sql import func
from sqlmodel import col

from storage.audit import record
from storage.database import reading
from storage.errors import Conflict, InvalidInput, NotFound, RateLimited, Unauthenticated
from storage.tables import ApiKey, columns_of

SCOPES = ("image:read", "image:write", "image:process", "moderate", "admin")
_PREFIX = "sg_"
_REPLACED = "/old-"
"""Between the name of a key that was rotated and its id: whoever still uses it is the same caller."""


@dataclass(frozen=True)
class Principal:
    """Who calls: the key's id and name, and what it may do."""

    key_id: int
    name: str
    scopes: frozenset[str]


def _hash(key: str) -> bytes:
    """What is stored and looked up. No comparison can be timed: how far a wrong key's hash agrees with a stored one is
    chance, and says nothing of how far the keys do."""
    return hashlib.sha256(key.encode()).digest()


async def create_key(
    engine: AsyncEngine,
    name: str,
    scopes: list[str] | tuple[str, ...],
    *,
    expires_at: datetime | None = None,
    rate_limit: int | None = None,
    actor: str,
) -> str:
    """Makes a key of 256 random bits; only its hash is stored, so this is the one time it can be seen.

    Args:
        name: unique, for people.
        scopes: of ``SCOPES``.
        expires_at: with time zone; None is never.
        rate_limit: requests a minute; None is unlimited.
        actor: who makes it, for the audit.
    Raises:
        InvalidInput: an unknown scope, no scope, an empty name, a limit under 1, or an expiry in the past.
        Conflict: the name is taken.
    """
    unknown = sorted(set(scopes) - set(SCOPES))
    if unknown or not scopes:
        raise InvalidInput(f"scopes must be some of {', '.join(SCOPES)}; got {', '.join(unknown) or 'none'}", "scopes")
    if not name.strip():
        raise InvalidInput("a key needs a name", "name")
    if _REPLACED in name:
        raise InvalidInput(f"a name cannot hold {_REPLACED!r}: rotated keys are named so", "name")
    if rate_limit is not None and rate_limit < 1:
        raise InvalidInput(f"a limit of {rate_limit} requests a minute would allow none", "rate_limit")
    if expires_at is not None and (expires_at.tzinfo is None or expires_at <= datetime.now(UTC)):
        raise InvalidInput("expires_at must be in the future and carry a time zone", "expires_at")
    key = _PREFIX + secrets.token_urlsafe(32)
    try:
        async with engine.begin() as connection:
            await connection.execute(
                insert(ApiKey).values(
                    name=name, hash=_hash(key), scopes=sorted(set(scopes)), expires_at=expires_at, rate_limit=rate_limit
                )
            )
            detail = {
                "scopes": sorted(set(scopes)),
                "expires_at": expires_at and expires_at.astimezone(UTC).isoformat(),
                "rate_limit": rate_limit,
            }
            await record(connection, actor, "key.create", f"key/{name}", detail)
    except IntegrityError as error:
        raise Conflict(f"there is a key named {name!r} already") from error
    return key


_BY_HASH = select(
    col(ApiKey.id), col(ApiKey.name), col(ApiKey.scopes), col(ApiKey.rate_limit), col(ApiKey.revoked_at),
    (col(ApiKey.expires_at) <= func.now()).label("expired"),
).where(col(ApiKey.hash) == bindparam("key_hash"))  # fmt: skip


async def authenticate(engine: AsyncEngine, key: str) -> Principal:
    """Who this key belongs to. Looked up by hash on each call, so a revocation acts at once.

    Raises:
        Unauthenticated: unknown, expired or revoked.
        RateLimited: more requests in this minute than the key may make.
    """
    async with reading(engine) as connection:
        row = (await connection.execute(_BY_HASH, {"key_hash": _hash(key)})).one_or_none()
        if row is None or row.revoked_at is not None or row.expired:
            raise Unauthenticated("the key is unknown, expired or revoked")
        if row.rate_limit is not None:
            used = (
                await connection.execute(
                    text(
                        "INSERT INTO rate_window AS w (key_id, minute, requests)"
                        " VALUES (:key_id, date_trunc('minute', now()), 1) ON CONFLICT (key_id, minute)"
                        " DO UPDATE SET requests = w.requests + 1"
                        " RETURNING requests, 60 - extract(second FROM now()) AS left_s"
                    ),
                    {"key_id": row.id},
                )
            ).one()
            if used.requests == 1:
                await connection.execute(
                    text("DELETE FROM rate_window WHERE key_id = :key_id AND minute < now() - interval '1 hour'"),
                    {"key_id": row.id},
                )
            if used.requests > row.rate_limit:
                raise RateLimited(f"this key may make {row.rate_limit} requests a minute", float(used.left_s))
    return Principal(row.id, row.name.partition(_REPLACED)[0], frozenset(row.scopes))


async def list_keys(engine: AsyncEngine) -> list[ApiKey]:
    """All keys by id, without anything that could be used as one."""
    statement = select(*columns_of(ApiKey)).order_by(col(ApiKey.id))
    async with engine.connect() as connection:
        return [ApiKey(**row._mapping) for row in (await connection.execute(statement)).all()]


async def revoke_key(engine: AsyncEngine, name: str, *, actor: str) -> list[str]:
    """Makes a key, and those that it replaced, useless at once; revoking again is no error.

    Args:
        actor: who, for the audit.
    Returns:
        Names of replaced keys that were revoked with it, the oldest first.
    Raises:
        NotFound: there is no key of that name.
    """
    mine = or_(col(ApiKey.name) == name, func.starts_with(col(ApiKey.name), name + _REPLACED))
    found = select(col(ApiKey.id)).where(mine).order_by(col(ApiKey.id)).with_for_update()
    valid = update(ApiKey).where(mine, col(ApiKey.revoked_at).is_(None)).values(revoked_at=func.now())
    async with engine.begin() as connection:
        # A rotation under way is waited for here, so that the update sees the key that it makes.
        if not (await connection.execute(found)).all():
            raise NotFound(f"there is no key named {name!r}")
        revoked = (await connection.execute(valid.returning(col(ApiKey.id), col(ApiKey.name)))).all()
        replaced = [row.name for row in sorted(revoked) if row.name != name]
        if revoked:
            await record(connection, actor, "key.revoke", f"key/{name}", {"old": replaced})
    return replaced


async def rotate_key(engine: AsyncEngine, name: str, *, overlap: timedelta, actor: str) -> str:
    """Replaces a key by a new one of the same name, scopes, limit and length of life.

    The old one goes on for a while under another name, ``NAME/old-ID``, so that its users can change over.

    Args:
        overlap: how long the old one is still valid, unless it expires sooner.
        actor: who, for the audit.
    Returns:
        The new key: the one time it can be seen.
    Raises:
        NotFound: there is no key of that name.
        Conflict: it is revoked or expired, so there is nothing to go on with.
        InvalidInput: a negative overlap.
    """
    if overlap < timedelta(0):
        raise InvalidInput("the overlap must not be negative", "overlap")
    key = _PREFIX + secrets.token_urlsafe(32)
    async with engine.begin() as connection:
        found = select(*columns_of(ApiKey), func.now().label("now")).where(col(ApiKey.name) == name).with_for_update()
        old = (await connection.execute(found)).one_or_none()
        if old is None:
            raise NotFound(f"there is no key named {name!r}")
        if old.revoked_at is not None or (old.expires_at is not None and old.expires_at <= old.now):
            raise Conflict(f"the key {name!r} is revoked or expired; make a new one")
        last = min(old.now + overlap, old.expires_at or datetime.max.replace(tzinfo=UTC))
        kept = f"{name}{_REPLACED}{old.id}"
        await connection.execute(update(ApiKey).where(col(ApiKey.id) == old.id).values(name=kept, expires_at=last))
        expires = old.now + (old.expires_at - old.created_at) if old.expires_at else None
        await connection.execute(
            insert(ApiKey).values(
                name=name, hash=_hash(key), scopes=old.scopes, expires_at=expires, rate_limit=old.rate_limit
            )
        )
        detail = {
            "old": kept,
            "old_expires_at": last.astimezone(UTC).isoformat(),
            "expires_at": expires and expires.astimezone(UTC).isoformat(),
        }
        await record(connection, actor, "key.rotate", f"key/{name}", detail)
    return key
