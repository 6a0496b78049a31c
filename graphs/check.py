"""The consistency check: compares PostgreSQL, S3 and LanceDB, PostgreSQL being the truth, and repairs. May import all below."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TypeVar

import asyncpg
from sqlalchemy.exc import DBAPIError, ProgrammingError
from sqlalchemy.ext.asyncio import AsyncEngine

from configs.models import ModelRegistry, load_models
from configs.settings import Settings, default_home, load_settings
from deployments.pipeline.generations import specs_of
from deployments.similarity.replicas import spaces_of_models
from graphs.check_report import Kind, Note, Report
from graphs.check_vectors import Sizes, VectorCheck, Window
from storage.claims import MISSING_PICTURE
from storage.consistency import (
    IdSet,
    ImageRow,
    Listing,
    expired_leases,
    lock_rows,
    newest_id,
    pages,
    rows_of,
    unfinished_uploads,
)
from storage.corpus_images import present, sources
from storage.database import create_engine, ping
from storage.errors import ConfigurationError, NotFound, Unavailable
from storage.features import FEATURES_PREFIX, IMAGES_PREFIX, features_key
from storage.generations import State, generations
from storage.objects import ObjectStore, StoredObject, is_foreign
from storage.repairs import audit, fail_missing, lock_unchanged, requeue
from storage.tables import Status
from storage.vectors import connect, table_names

_CONNECTIONS = 4
_MOST_EXAMPLES = 5
T = TypeVar("T")


class Check:
    """One run over a whole installation.

    Args:
        engine, objects: PostgreSQL and S3; the engine needs two connections at a time.
        settings: where the vector tables are.
        registry: the models whose images have vectors and details.
        repair: mend what is found.
        grace_s: an object of which no row knows is an upload under way until it is so old, in seconds.
        sizes: what is held in memory at a time.
        say: told how far it is.
    """

    def __init__(
        self, engine: AsyncEngine, objects: ObjectStore, settings: Settings, registry: ModelRegistry, *, repair: bool,
        grace_s: float, sizes: Sizes | None = None, say: Callable[[str], None] = lambda _: None,
    ) -> None:  # fmt: skip
        self._engine, self._objects, self._settings, self._registry = engine, objects, settings, registry
        self._grace = timedelta(seconds=grace_s)
        self._sizes = sizes or Sizes()
        self._say = say
        self._report = Report(repair)
        self._unreachable, self._unreachable_examples = 0, list[str]()

    async def run(self) -> Report:
        """Looks at everything once.

        Raises:
            ConfigurationError: a repair would take the database or the bucket of another installation for the truth.
            Unavailable: a part does not answer; what was repaired until then stays repaired.
        """
        began = time.monotonic()
        self._say("looking for the parts")
        await ping(self._engine)
        await self._objects.ping()
        connection = await connect(self._settings)
        tables = await table_names(connection)
        held = await generations(self._engine)
        written = {name: specs_of(self._registry, name, held.get(name, [])) for name in self._registry}
        whole = {
            name: specs_of(self._registry, name, [one for one in held.get(name, []) if one.state != State.BUILDING])
            for name in self._registry
        }
        used = {space.table_name for space in spaces_of_models(one for specs in written.values() for one in specs)}
        unused = [name for name in tables if name not in used]
        self._report.note(Note.UNUSED_TABLES, len(unused), unused)
        through = await newest_id(self._engine)
        pictures = await self._list(IMAGES_PREFIX, Kind.EXTRA_OBJECT, through)
        details = await self._list(FEATURES_PREFIX, Kind.EXTRA_DETAILS, through)
        corpora = await self._list_corpora()
        vectors = VectorCheck(self._engine, connection, tables, written, whole, self._sizes, self._report, self._say)
        await self._rows(through, pictures, corpora, details, vectors)
        for note, counted in ((Note.UNFINISHED_UPLOADS, unfinished_uploads), (Note.EXPIRED_LEASES, expired_leases)):
            count, ids = await counted(self._engine, older_s=self._settings.stale_upload_s, most=_MOST_EXAMPLES)
            self._report.note(note, count, [f"image {number}" for number in ids])
        self._report.note(Note.UNREACHABLE, self._unreachable, self._unreachable_examples)
        self._report.seconds = time.monotonic() - began
        return self._report

    async def _list(self, prefix: str, kind: Kind, through: int) -> IdSet:
        """Compares the objects under a prefix with the rows; returns the images whose object was listed."""
        listing = Listing(
            self._engine, self._objects, prefix, details=kind is Kind.EXTRA_DETAILS, page=self._sizes.objects
        )
        listed = 0
        async for count, strangers in listing.strangers():
            if self._report.repair and not through:
                raise ConfigurationError(
                    f"the bucket holds objects under {prefix} and the database not one image: is it the right "
                    "database? Nothing was repaired"
                )
            listed += count
            await self._each(strangers, lambda one: self._judge_stranger(listing, kind, one))
            self._say(f"{prefix} {listed:,} objects listed, {self._report.total:,} findings")
        self._report.looked_at(f"objects under {prefix}", listed)
        return listing.known

    async def _list_corpora(self) -> IdSet:
        """The images whose object is still in the corpus of a backfill; where one cannot be listed they are asked for."""
        known, listed = IdSet(), 0
        for source in await sources(self._engine):
            try:
                async for count, ids in present(self._engine, self._objects, source):
                    listed += count
                    for image_id in ids:
                        known.add(image_id)
                    self._say(f"{source} {listed:,} objects of corpora listed")
            except (NotFound, Unavailable) as error:
                self._say(f"{source} cannot be listed, its pictures are asked for one by one: {error}")
        self._report.looked_at("objects of corpora", listed)
        return known

    async def _judge_stranger(self, listing: Listing, kind: Kind, one: StoredObject) -> None:
        if one.last_modified > datetime.now(UTC) - self._grace or not await listing.still_unknown(one):
            return
        if self._report.repair:
            async with self._engine.begin() as connection:
                detail = {"reason": "no image knows it", "size_bytes": one.size, "etag": one.etag}
                await self._objects.delete(one.key)
                await audit(connection, "object.delete", [(f"object/{one.key}", detail)])
        self._report.add(kind, one.key, repaired=self._report.repair)

    async def _rows(self, through: int, pictures: IdSet, corpora: IdSet, details: IdSet, vectors: VectorCheck) -> None:
        window = Window()
        size = min(self._sizes.rows, self._sizes.images)
        async for rows in pages(self._engine, through=through, page=size):
            stored = [row for row in rows if row.uploaded]
            self._report.looked_at("images", len(stored))
            await self._judge_pictures(stored, pictures, corpora)
            await self._judge_details(stored, details)
            window.add(rows)
            self._say(f"images to {rows[-1].id:,} of {through:,}, {self._report.total:,} findings")
            if len(window.ids) >= self._sizes.images:
                await vectors.check(window, window.ids[-1])
                window = Window(after=window.ids[-1])
        await vectors.check(window, None)

    async def _judge_pictures(self, rows: Sequence[ImageRow], listed: IdSet, corpora: IdSet) -> None:
        """Images whose object was not listed: each is asked for."""
        open_ones = [
            row
            for row in rows
            if _expects_picture(row) and row.id not in (corpora if is_foreign(row.s3_path) else listed)
        ]
        gone = await asyncio.gather(*(self._gone(row.s3_path) for row in open_ones))
        suspects = [row for row, is_gone in zip(open_ones, gone, strict=True) if is_gone]
        if self._report.repair and not listed and any(not is_foreign(row.s3_path) for row in suspects):
            raise ConfigurationError(
                "the bucket holds not one picture of this database: is it the right bucket? No image was made FAILED"
            )
        await self._each(suspects, self._judge_picture)

    async def _gone(self, address: str) -> bool:
        try:
            await self._objects.head(address)
        except NotFound:
            return True
        except Unavailable:
            if not is_foreign(address):
                raise
            # One corpus that cannot be asked must not end the check of everything else.
            self._unreachable += 1
            if len(self._unreachable_examples) < _MOST_EXAMPLES:
                self._unreachable_examples.append(address)
        return False

    async def _judge_picture(self, suspect: ImageRow) -> None:
        async with self._engine.begin() as connection:
            row = (await lock_rows(connection, [suspect.id])).get(suspect.id)
            if row is None or not _expects_picture(row) or not await self._gone(row.s3_path):
                return
            if self._report.repair:
                await fail_missing(connection, row)
        self._report.add(Kind.MISSING_OBJECT, f"image {row.id}, {row.s3_path}", repaired=self._report.repair)

    async def _judge_details(self, rows: Sequence[ImageRow], listed: IdSet) -> None:
        open_ones = [row for row in rows if self._expects_details(row) and row.id not in listed]
        gone = await asyncio.gather(*(self._gone(features_key(row.s3_path)) for row in open_ones))
        suspects = [row for row, is_gone in zip(open_ones, gone, strict=True) if is_gone]
        if not suspects:
            return
        now = await rows_of(self._engine, [row.id for row in suspects])
        found = [row for row in suspects if now.get(row.id) == row]
        repaired: set[int] = set()
        if self._report.repair:
            async with self._engine.begin() as connection:
                repaired = await lock_unchanged(connection, found)
                await requeue(connection, dict.fromkeys(repaired, "the details for verification are missing"))
        for row in found:
            self._report.add(Kind.MISSING_DETAILS, f"image {row.id}, {row.s3_path}", repaired=row.id in repaired)

    def _expects_details(self, row: ImageRow) -> bool:
        model = self._registry.get(row.model_name)
        return row.status == Status.PROCESSED and model is not None and model.verified > 0

    async def _each(self, items: Sequence[T], act: Callable[[T], Awaitable[None]]) -> None:
        """Does the same with all items, as many at a time as there are connections to the database for."""
        room = asyncio.Semaphore(_CONNECTIONS // 2)

        async def one(item: T) -> None:
            async with room:
                await act(item)

        await asyncio.gather(*(one(item) for item in items))


def _expects_picture(row: ImageRow) -> bool:
    return row.uploaded and not (row.status == Status.FAILED and row.failure == MISSING_PICTURE)


def check(
    home: Path | None, *, repair: bool, grace_s: float | None, say: Callable[[str], None] = lambda _: None
) -> Report:
    """Checks an installation whose PostgreSQL and S3 run; the service may run or not.

    Args:
        home: folder for all state; None takes ``default_home()``.
        grace_s: see ``Check``; None takes the setting ``stale_upload_s``.
    Raises:
        ConfigurationError: there is no installation, or see ``Check.run``.
        Unavailable: the database or the object store does not answer.
    """
    settings = load_settings(home or default_home())
    registry = load_models(settings.models_file)
    grace = settings.stale_upload_s if grace_s is None else grace_s

    async def act() -> Report:
        engine = create_engine(settings, pool_size=_CONNECTIONS)
        objects = ObjectStore(settings)
        try:
            one = Check(engine, objects, settings, registry, repair=repair, grace_s=grace, say=say)
            return await one.run()
        except ProgrammingError as error:
            raise ConfigurationError("the database lacks tables of SafeGuard; run `safeguard up`") from error
        except (OSError, TimeoutError, DBAPIError, asyncpg.PostgresError) as error:
            raise Unavailable("the database does not answer") from error
        finally:
            objects.close()
            await engine.dispose()

    return asyncio.run(act())
