"""``safeguard backup``: database, pictures and vectors of one moment in a folder, with a manifest. May import storage."""

import asyncio
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from configs.settings import Settings
from graphs.opening import opened
from storage.audit import record
from storage.copies import database, pictures, vectors
from storage.copies.database import DatabaseCopy, TableCopy
from storage.copies.files import Sum, alone, read_json, sum_of, write_json
from storage.copies.pictures import PictureCopy
from storage.copies.vectors import VectorCopy
from storage.errors import ConfigurationError, Conflict
from storage.objects import ObjectStore

FORMAT = 1
MANIFEST, PROGRESS = "manifest.json", "progress.json"
ACTOR = "safeguard backup"
Say = Callable[[str], None]


@dataclass(frozen=True)
class Manifest:
    """What a backup holds; every file is named in it with its SHA-256, or in a file that is.

    Args:
        pictures, vectors: None where they were left out.
    """

    database: DatabaseCopy
    pictures: PictureCopy | None = None
    vectors: list[VectorCopy] | None = None

    def as_json(self) -> dict[str, Any]:
        """For the file."""
        return {"format": FORMAT, **asdict(self)}

    @classmethod
    def parse(cls, content: Any, path: Path) -> "Manifest":
        """What ``as_json`` gave.

        Raises:
            ConfigurationError: it is something else, or of a newer SafeGuard.
        """
        try:
            if content["format"] != FORMAT:
                raise ConfigurationError(f"{path} has format {content['format']}; this SafeGuard reads {FORMAT}")
            held, objects, tables = content["database"], content["pictures"], content["vectors"]
            return cls(
                DatabaseCopy(
                    held["revision"],
                    held["head"],
                    held["taken_at"],
                    [TableCopy(**one | {"sum": Sum(*one["sum"])}) for one in held["tables"]],
                    [(name, field, value, called) for name, field, value, called in held["counters"]],
                    Sum(*held["images"]),
                ),
                None if objects is None else PictureCopy(**objects | {"sum": Sum(*objects["sum"])}),
                None if tables is None else [VectorCopy(**one | {"sum": Sum(*one["sum"])}) for one in tables],
            )
        except (KeyError, TypeError, ValueError) as error:
            raise ConfigurationError(f"{path} is no manifest of a backup") from error


async def backup(
    home: Path | None, folder: Path, *, with_pictures: bool, with_vectors: bool, say: Say = lambda _: None
) -> Manifest:
    """Writes a backup of an installation whose PostgreSQL and S3 run; the service may run or not.

    The database is taken first, in one snapshot; pictures and vectors of what it holds follow. One that was interrupted
    goes on when it is called again with the same folder.

    Args:
        home: see ``graphs.opening.opened``.
        folder: empty, or with a backup that was interrupted; what is made in it is closed to others.
    Raises:
        Conflict: the folder holds a backup that is whole, or one of another installation, or is in use.
        ConfigurationError: the folder holds something else, or the database is empty.
        StorageFull: the folder's disk is full.
        Unavailable: the database or the object store does not answer.
    """
    with alone(folder):
        async with opened(home) as (settings, engine):
            objects = ObjectStore(settings)
            try:
                await objects.ping()
                made = await _database(settings, folder, say)
                tables = await _vectors(settings, folder, say) if with_vectors else None
                copied = None
                if with_pictures:
                    listing = folder / "objects.jsonl"
                    images = folder / "database" / "images.jsonl"
                    copied = await pictures.copy_out(engine, objects, images, folder / "objects", listing, say)
            finally:
                objects.close()
            manifest = Manifest(made, copied, tables)
            await asyncio.to_thread(write_json, folder / MANIFEST, manifest.as_json())
            (folder / PROGRESS).unlink(missing_ok=True)
            if not made.head:
                return manifest  # the schema is older than the chain of the audit, or there is no entry yet
            async with engine.begin() as connection:
                await record(connection, ACTOR, "backup.create", "backup/manifest", summary(manifest))
    return manifest


def summary(manifest: Manifest) -> dict[str, Any]:
    """What the audit and people are told of a backup."""
    copied, tables = manifest.pictures, manifest.vectors
    return {
        "taken_at": manifest.database.taken_at,
        "revision": manifest.database.revision,
        "rows": sum(one.rows for one in manifest.database.tables),
        "objects": None if copied is None else copied.objects,
        "vectors": None if tables is None else sum(one.rows for one in tables),
    }


async def _database(settings: Settings, folder: Path, say: Say) -> DatabaseCopy:
    """The database in the folder: as an interrupted run has left it, else taken now."""
    if (folder / MANIFEST).exists():
        raise Conflict(f"{folder} holds a whole backup; name another folder")
    begun = await asyncio.to_thread(read_json, folder / PROGRESS)
    if begun is not None:
        held = Manifest.parse(begun, folder / PROGRESS).database
        if held.head and not await database.knows(settings, held.head):
            raise Conflict(f"{folder} holds the beginning of a backup of another installation; name another folder")
        say(f"going on with the backup of {held.taken_at}")
        return held
    foreign = await asyncio.to_thread(lambda: sorted({one.name for one in folder.iterdir()} - {"lock", "database"}))
    if foreign:
        raise ConfigurationError(f"{folder} holds {foreign[0]}, which is no part of a backup; name an empty folder")
    await asyncio.to_thread(shutil.rmtree, folder / "database", ignore_errors=True)
    made = await database.dump(settings, folder / "database", say)
    await asyncio.to_thread(write_json, folder / PROGRESS, Manifest(made).as_json())
    return made


async def _vectors(settings: Settings, folder: Path, say: Say) -> list[VectorCopy]:
    await asyncio.to_thread(shutil.rmtree, folder / "vectors", ignore_errors=True)
    return await vectors.copy_out(settings, folder / "vectors", say)


def check_files(folder: Path) -> Manifest:
    """Reads the manifest of a backup and checks the files that it names; pictures are checked as they are put back.

    Raises:
        ConfigurationError: there is no whole backup, or a file is missing or damaged; nothing was restored.
    """
    content = read_json(folder / MANIFEST)
    if content is None:
        said = (
            "a backup that was not finished; repeat `safeguard backup`" if (folder / PROGRESS).exists() else "no backup"
        )
        raise ConfigurationError(f"{folder} holds {said}")
    manifest = Manifest.parse(content, folder / MANIFEST)
    expected = {folder / "database" / f"{one.name}.copy": one.sum for one in manifest.database.tables}
    expected[folder / "database" / "images.jsonl"] = manifest.database.images
    expected |= {folder / "vectors" / f"{one.name}.arrow": one.sum for one in manifest.vectors or []}
    if manifest.pictures is not None:
        expected[folder / "objects.jsonl"] = manifest.pictures.sum
    for path, wanted in expected.items():
        found = sum_of(path)
        if found != wanted:
            said = "is missing" if found is None else "is damaged: its size or SHA-256 is not that of the manifest"
            raise ConfigurationError(f"{path} {said}; nothing was restored")
    return manifest
