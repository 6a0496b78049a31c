"""``safeguard restore``: a backup put in the place of what an installation holds. May import all below."""

import asyncio
import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from alembic.util.exc import CommandError

from configs.settings import Settings, default_home
from graphs.backup import Manifest, check_files, summary
from graphs.service import KEY_FILE
from storage.audit import record
from storage.audit_check import verify
from storage.audit_log import Head
from storage.consistency import IdSet
from storage.copies import database, pictures, vectors
from storage.copies.files import alone
from storage.database import create_engine
from storage.embedded.stack import EmbeddedServers
from storage.errors import ConfigurationError, Conflict
from storage.keys import list_keys
from storage.migrate import downgrade, upgrade
from storage.objects import ObjectStore

ACTOR = "safeguard restore"
_MADE_BY_UP = frozenset(
    ("api_key", "audit", "bank_version", "look_back", "policy_version", "queue_poll", "rate_window", "writer_fence")
)
"""Tables that ``safeguard up`` fills by itself: rows in them alone are no data that a restore would take away."""
Say = Callable[[str], None]


@dataclass(frozen=True)
class Restored:
    """What a restore did.

    Args:
        vectors: rows put in; None where the backup has none, so that ``safeguard check --repair`` must make them anew.
        removed: objects of the bucket that the backup did not have.
    """

    manifest: Manifest
    vectors: int | None
    removed: int


def restore(home: Path | None, folder: Path, *, force: bool, say: Say = lambda _: None) -> Restored:
    """Restores a backup into an installation whose service is stopped. Embedded servers are started for it.

    Pictures come first, then vectors, then the database in one transaction: interrupted before that, the installation
    has the rows it had, and the same command begins again.

    Args:
        home: folder for all state; None takes ``default_home()``.
        folder: with a whole backup.
        force: take away what the installation holds.
    Raises:
        Conflict: the installation holds images, banks, webhooks or jobs, or its bucket other pictures, and ``force`` is
            not given; or a service runs.
        ConfigurationError: the backup is not whole, damaged, or of a newer SafeGuard.
        StorageFull, Unavailable: the database or the object store does not take it.
    """
    place = home or default_home()
    if not folder.is_dir():
        raise ConfigurationError(f"{folder} is no folder")
    with alone(folder):
        say("checking the files")
        manifest = check_files(folder)
        with _running(place) as settings:
            _require_empty(settings, folder, manifest, force)
            _fit_schema(settings, manifest.database.revision)
            restored = asyncio.run(_fill(settings, folder, manifest, say))
            upgrade(settings)
            asyncio.run(_end(settings, manifest, place))
    return restored


@contextmanager
def _running(home: Path) -> Iterator[Settings]:
    """The embedded servers, left as they were found."""
    servers = EmbeddedServers(home)
    ran = home.exists() and any(one.running and not one.outside for one in servers.status().values())
    settings = servers.start()
    try:
        yield settings
    finally:
        if not ran:
            servers.stop()


def _require_empty(settings: Settings, folder: Path, manifest: Manifest, force: bool) -> None:
    held = [name for name, rows in asyncio.run(database.rows_there(settings, _MADE_BY_UP)).items() if rows]
    stranger = None if manifest.pictures is None else asyncio.run(_first_stranger(settings, folder))
    if force:
        return
    if held:
        raise Conflict(
            f"this installation is in use: its database has rows in {', '.join(held)}; nothing was restored. "
            "--force takes all of it away"
        )
    if stranger is not None:
        raise Conflict(
            f"the bucket {settings.s3_bucket} has objects that the backup does not know, such as {stranger}; "
            "nothing was restored. --force takes them away"
        )


async def _first_stranger(settings: Settings, folder: Path) -> str | None:
    objects = ObjectStore(settings)
    try:
        await objects.ensure_buckets(settings.s3_vectors_bucket)
        async for key in pictures.strangers(objects, folder / "objects"):
            return key
        return None
    finally:
        objects.close()


def _fit_schema(settings: Settings, revision: str) -> None:
    """Brings the schema to the revision of the backup, from above or from below."""
    try:
        upgrade(settings, revision)
        downgrade(settings, revision)
    except CommandError as error:
        raise ConfigurationError(
            f"the backup has schema {revision}, which this SafeGuard does not know: restore it with the version that made "
            "it, or a newer one"
        ) from error


async def _fill(settings: Settings, folder: Path, manifest: Manifest, say: Say) -> Restored:
    objects = ObjectStore(settings)
    try:
        await objects.ensure_buckets(settings.s3_vectors_bucket)
        listing = folder / "objects.jsonl"
        gone: set[int] = set()
        if manifest.pictures is not None:
            gone = {line.image for line in pictures.objects_of(listing) if line.gone}
            await pictures.copy_in(objects, folder / "objects", listing, say)
        wanted = await asyncio.to_thread(_with_vectors, folder / "database" / "images.jsonl", gone)
        stored = await vectors.copy_in(settings, folder / "vectors", manifest.vectors or [], wanted, say)
        await database.load(settings, folder / "database", manifest.database, sorted(gone), say)
        removed = 0
        if manifest.pictures is not None:
            async for key in pictures.strangers(objects, folder / "objects"):
                await objects.delete(key)
                removed += 1
        return Restored(manifest, None if manifest.vectors is None else sum(stored.values()), removed)
    finally:
        objects.close()


def _with_vectors(images: Path, gone: set[int]) -> IdSet:
    """The images that may have vectors; those that were never claimed get theirs when they are."""
    wanted = IdSet()
    for image in pictures.images_of(images):
        if image.id not in gone and (image.status != "UPLOADED" or image.attempt > 0):
            wanted.add(image.id)
    return wanted


async def _end(settings: Settings, manifest: Manifest, home: Path) -> None:
    """Follows the audit up to the head that the backup names, writes the restore down, and drops a key that is no more."""
    engine = create_engine(settings, pool_size=1)
    try:
        head = Head.parse(manifest.database.head) if manifest.database.head else None
        checked = await verify(engine, known=head)
        if checked.broken is not None:
            raise ConfigurationError(
                f"everything is restored, but the audit of the backup is {checked.broken.fault} at "
                f"{checked.broken.sequence}: {checked.broken.detail}"
            )
        async with engine.begin() as connection:
            await record(connection, ACTOR, "backup.restore", "backup/manifest", summary(manifest))
        known = {key.hash for key in await list_keys(engine)}
    finally:
        await engine.dispose()
    file = home / KEY_FILE
    if file.exists() and hashlib.sha256(file.read_text().strip().encode()).digest() not in known:
        file.unlink()  # of the installation that was here before; `safeguard up` makes another
