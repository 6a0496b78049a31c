"""The pictures of a backup and their details: from the bucket into files, and back. Below the deployments."""

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from storage.copies.files import NewFile, Sum, sum_of
from storage.database import reading
from storage.errors import ConfigurationError, NotFound
from storage.features import FEATURES_PREFIX, IMAGES_PREFIX, features_key
from storage.objects import ObjectStore, is_foreign

_TOGETHER = 8
_DETAILS_TYPE = "application/octet-stream"
_THERE = text("SELECT 1 FROM image WHERE id = :id")
Say = Callable[[str], None]


@dataclass(frozen=True)
class ImageLine:
    """An image of the snapshot, as ``images.jsonl`` has it."""

    id: int
    s3_path: str
    sha256: str
    size_bytes: int
    media_type: str
    status: str
    attempt: int
    stored: bool


@dataclass(frozen=True)
class ObjectLine:
    """What became of an object, as ``objects.jsonl`` has it.

    Args:
        image: whose picture or details it is; an image may have both.
        size, sha256: of its file; None where there is none.
        gone: the image was deleted while the backup was made.
    """

    image: int
    key: str
    media_type: str
    size: int | None = None
    sha256: str | None = None
    gone: bool = False


@dataclass(frozen=True)
class PictureCopy:
    """All objects of a backup.

    Args:
        objects, size: files and their bytes.
        missing: pictures that the bucket did not have though their image was there.
        gone: see ``ObjectLine``.
        sum: of the file ``objects.jsonl``.
    """

    objects: int
    size: int
    missing: int
    gone: int
    sum: Sum


def images_of(path: Path) -> Iterator[ImageLine]:
    """The images of a snapshot, by id."""
    with path.open(encoding="utf-8") as stream:
        for line in stream:
            yield ImageLine(**json.loads(line))


def objects_of(path: Path) -> Iterator[ObjectLine]:
    """The objects of a backup, by image."""
    with path.open(encoding="utf-8") as stream:
        for line in stream:
            yield ObjectLine(**json.loads(line))


def file_of(folder: Path, key: str) -> Path:
    """Where the content of an object lies in a backup: a key may be longer than a file's name, and mean anything to a path."""
    name = hashlib.sha256(key.encode()).hexdigest()
    return folder / name[:2] / name


async def copy_out(
    engine: AsyncEngine, objects: ObjectStore, images: Path, folder: Path, listing: Path, say: Say
) -> PictureCopy:
    """Copies the objects of all images of a snapshot; what was copied before is only looked at again.

    Args:
        engine: says whether an image whose picture is not there is still there itself.
        images: the file of ``storage.copies.database``.
        folder: for the files.
        listing: the file ``objects.jsonl`` to write.
    Raises:
        Unavailable: the bucket does not answer; what has been copied stays.
    """

    async def one(image: ImageLine) -> list[ObjectLine]:
        picture = ObjectLine(image.id, image.s3_path, image.media_type)
        details = ObjectLine(image.id, features_key(image.s3_path), _DETAILS_TYPE)
        found = [] if is_foreign(image.s3_path) else [await _fetched(objects, folder, picture, image.sha256)]
        if found and found[0].size is None and not await _there(engine, image.id):
            return [ObjectLine(image.id, image.s3_path, image.media_type, gone=True)]
        more = await _fetched(objects, folder, details, None) if image.status == "PROCESSED" else details
        return found + ([more] if more.size is not None else [])

    kept, size, missing, gone = 0, 0, 0, 0
    wanted = (one_image for one_image in images_of(images) if one_image.stored)
    with NewFile(listing) as file:
        async for lines in _each(one, wanted):
            for line in lines:
                if line.size is None and not line.gone:
                    missing += 1
                gone += line.gone
                kept += line.size is not None
                size += line.size or 0
                file.write(json.dumps(asdict(line), ensure_ascii=False).encode() + b"\n")
            say(f"{kept:,} objects, {size / 2**20:,.0f} MiB")
        return PictureCopy(kept, size, missing, gone, await asyncio.to_thread(file.finish))


async def _each(
    work: Callable[[ImageLine], Awaitable[list[ObjectLine]]], images: Iterable[ImageLine]
) -> AsyncIterator[list[ObjectLine]]:
    """Results in order, a few at a time in work."""
    left = iter(images)
    while some := list(islice(left, _TOGETHER)):
        for done in await asyncio.gather(*(work(image) for image in some)):
            yield done


async def _there(engine: AsyncEngine, image_id: int) -> bool:
    async with reading(engine) as connection:
        return (await connection.execute(_THERE, {"id": image_id})).one_or_none() is not None


async def _fetched(objects: ObjectStore, folder: Path, line: ObjectLine, sha256: str | None) -> ObjectLine:
    path = file_of(folder, line.key)
    held = await asyncio.to_thread(sum_of, path)
    if held is None or (sha256 is not None and held.sha256 != sha256):
        try:
            data = await objects.get(line.key)
        except NotFound:
            return line
        held = await asyncio.to_thread(_written, path, data)
    return ObjectLine(line.image, line.key, line.media_type, held.size, held.sha256)


def _written(path: Path, data: bytes) -> Sum:
    with NewFile(path) as file:
        file.write(data)
        return file.finish()


async def copy_in(objects: ObjectStore, folder: Path, listing: Path, say: Say) -> None:
    """Puts all objects of a backup into the bucket; each is checked as it is read.

    Raises:
        ConfigurationError: a file is damaged or missing.
        StorageFull, Unavailable: the bucket does not take them.
    """

    async def one(line: ObjectLine) -> None:
        path = file_of(folder, line.key)
        try:
            data = await asyncio.to_thread(path.read_bytes)
        except FileNotFoundError as error:
            raise ConfigurationError(f"{path}, the object {line.key}, is missing; the restore stops") from error
        if hashlib.sha256(data).hexdigest() != line.sha256:
            raise ConfigurationError(f"{path}, the object {line.key}, is damaged; the restore stops")
        await objects.put(line.key, data, line.media_type)

    left = (line for line in objects_of(listing) if line.size is not None)
    count = 0
    while some := list(islice(left, _TOGETHER)):
        await asyncio.gather(*(one(line) for line in some))
        count += len(some)
        say(f"{count:,} objects are in the bucket")


async def strangers(objects: ObjectStore, folder: Path) -> AsyncIterator[str]:
    """The keys of pictures and details in the bucket of which a backup has no file."""
    for prefix in (IMAGES_PREFIX, FEATURES_PREFIX):
        async for found in objects.list(prefix):
            if not await asyncio.to_thread(file_of(folder, found.key).exists):
                yield found.key
