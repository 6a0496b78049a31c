"""Putting a picture in and taking it out, so that no crash leaves anything a client believes stored. Below the ingress."""

import hashlib
import re
import unicodedata
from dataclasses import dataclass
from datetime import timedelta
from uuid import uuid4

from sqlalchemy import delete, func, insert, select, text
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine
from sqlmodel import col

from storage.audit import record
from storage.bank_members import refuse_member
from storage.errors import Conflict, NotFound
from storage.features import features_key
from storage.objects import ObjectStore
from storage.outbox import EventType, emit
from storage.tables import IdempotencyRecord, Image, columns_of

UPLOAD_CHANNEL = "safeguard_upload"
_KEY_BYTES = 200
"""S3 keys may have 1,024 bytes and file systems under a store 255; a uuid, the prefix and this stay below both."""


@dataclass(frozen=True)
class NewImage:
    """A picture that has been checked and may be stored.

    Args:
        name: as sent, for display.
        model_name: the queue it waits in.
        data: the file as sent.
        media_type: as sniffed from the bytes.
        width, height: pixels as displayed.
    """

    name: str
    model_name: str
    data: bytes
    media_type: str
    width: int
    height: int


def object_key(name: str) -> str:
    """``images/{uuid}_{name}`` with ``name`` made safe for a key: letters and digits of any language, ``. _ -``.

    The key is at most 244 bytes long; a longer name loses its middle, never its extension.
    """
    safe = re.sub(r"[^\w.\-]+|\.{2,}", "_", unicodedata.normalize("NFC", name)).strip(".") or "image"
    while len(safe.encode()) > _KEY_BYTES:
        stem, dot, extension = safe.rpartition(".")
        safe = safe[:-1] if not dot or len(extension) > 16 else f"{stem[:-1]}.{extension}"
    return f"images/{uuid4()}_{safe}"


def _request_hash(new: NewImage) -> bytes:
    digest = hashlib.sha256()
    for part in (new.name.encode(), new.model_name.encode(), hashlib.sha256(new.data).digest()):
        digest.update(len(part).to_bytes(8, "big") + part)
    return digest.digest()


async def _remembered(
    connection: AsyncConnection, caller: int, key: str, wanted: bytes, remember_s: float
) -> Image | None:
    record = col(IdempotencyRecord.key_id) == caller, col(IdempotencyRecord.idempotency_key) == key
    expired = (col(IdempotencyRecord.created_at) < func.now() - timedelta(seconds=remember_s)).label("expired")
    row = (
        await connection.execute(
            select(col(IdempotencyRecord.request_hash), expired, *columns_of(Image))
            .join(Image, col(Image.id) == col(IdempotencyRecord.image_id))
            .where(*record)
        )
    ).one_or_none()
    if row is None:
        return None
    if row.expired:
        await connection.execute(delete(IdempotencyRecord).where(*record))
        return None
    if row.request_hash != wanted:
        raise Conflict("this Idempotency-Key was used for a different request")
    return Image(**{name: value for name, value in row._mapping.items() if name not in ("request_hash", "expired")})


async def upload(
    engine: AsyncEngine,
    objects: ObjectStore,
    new: NewImage,
    *,
    caller: int,
    idempotency_key: str | None = None,
    remember_s: float = 86_400.0,
) -> Image:
    """Stores a picture: row first, object second, ``uploaded_at`` third, so only whole uploads can be claimed.

    Args:
        caller: id of the API key; idempotency keys are its own.
        idempotency_key: a repeat with the same one returns the first image.
        remember_s: seconds for which a repeat is recognised.
    Returns:
        The image; row and object are durable.
    Raises:
        Conflict: the idempotency key belongs to another request, or to one still under way.
        Unavailable: the object store did not take the picture; nothing is left that could be claimed.
    """
    wanted = _request_hash(new)
    image = None
    async with engine.begin() as connection:
        if idempotency_key is not None:
            # Two copies of one request at the same moment: the second waits here, then sees the first's record.
            await connection.execute(
                select(func.pg_advisory_xact_lock(func.hashtextextended(f"{caller}:{idempotency_key}", 0)))
            )
            image = await _remembered(connection, caller, idempotency_key, wanted, remember_s)
        if image is None:
            image = await _insert(connection, new)
            if idempotency_key is not None:
                await connection.execute(
                    upsert(IdempotencyRecord).values(
                        key_id=caller, idempotency_key=idempotency_key, image_id=image.id, request_hash=wanted
                    )
                )
    if image.uploaded_at is not None:
        return image
    # Of a repeat: the first try crashed, or is still storing the object, which is stored again under the same row.
    return await _store(engine, objects, image, new)


async def _insert(connection: AsyncConnection, new: NewImage) -> Image:
    statement = insert(Image).values(
        name=new.name,
        model_name=new.model_name,
        s3_path=object_key(new.name),
        sha256=hashlib.sha256(new.data).digest(),
        size_bytes=len(new.data),
        media_type=new.media_type,
        width=new.width,
        height=new.height,
        status="UPLOADED",
    )
    return Image(**(await connection.execute(statement.returning(*columns_of(Image)))).one()._mapping)


_STORED = text("""
WITH stored AS (UPDATE image SET uploaded_at = coalesce(uploaded_at, now()) WHERE id = :id RETURNING uploaded_at)
SELECT uploaded_at, pg_notify(:channel, :name) FROM stored
""")
"""NOTIFY is delivered at commit: whoever wakes can claim the row."""


async def _store(engine: AsyncEngine, objects: ObjectStore, image: Image, new: NewImage) -> Image:
    await objects.put(image.s3_path, new.data, new.media_type)
    async with engine.begin() as connection:
        stored = (
            await connection.execute(_STORED, {"id": image.id, "channel": UPLOAD_CHANNEL, "name": image.model_name})
        ).one_or_none()
    if stored is None:
        await objects.delete(image.s3_path)  # whoever deleted the row may have done so before the object was there
        raise Conflict("the picture was deleted while it was being stored")
    image.uploaded_at = stored.uploaded_at
    return image


async def sweep(engine: AsyncEngine, objects: ObjectStore, *, older_than_s: float, limit: int = 100) -> int:
    """Removes uploads that never got their object (a crash between row and object).

    Returns:
        Rows removed.
    """
    async with engine.begin() as connection:
        stale = (
            await connection.execute(
                select(col(Image.id), col(Image.s3_path))
                .where(
                    col(Image.uploaded_at).is_(None),
                    col(Image.created_at) < func.now() - timedelta(seconds=older_than_s),
                )
                .limit(limit)
                .with_for_update(skip_locked=True)
            )
        ).all()
        for _, key in stale:
            await objects.delete(key)
        if stale:
            await connection.execute(delete(Image).where(col(Image.id).in_([row.id for row in stale])))
    return len(stale)


async def remove(engine: AsyncEngine, objects: ObjectStore, image_id: int, *, actor: str) -> None:
    """Deletes rows, links and the object, and leaves an audit entry. The vectors are the similarity writer's to delete.

    Raises:
        NotFound: there is no such image.
        Conflict: it is a member of banks; they are named.
        Unavailable: the object store does not answer; nothing was deleted.
    """
    async with engine.begin() as connection:
        await refuse_member(connection, image_id)
        statement = delete(Image).where(col(Image.id) == image_id).returning(col(Image.s3_path), col(Image.sha256))
        try:
            row = (await connection.execute(statement)).one_or_none()
        except IntegrityError as error:
            raise Conflict(f"image {image_id} is a member of a bank: take it out there first") from error
        if row is None:
            raise NotFound(f"there is no image {image_id}")
        await emit(connection, EventType.IMAGE_DELETED, image_id, {"sha256": row.sha256.hex()})
        await objects.delete(features_key(row.s3_path))
        await objects.delete(row.s3_path)
        await record(connection, actor, "image.delete", f"image/{image_id}", {"sha256": row.sha256.hex()})
