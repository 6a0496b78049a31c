"""Vectors beside the rows of a range of images: what is missing, extra, doubled or of another version. For check.py."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from sqlalchemy.ext.asyncio import AsyncEngine

from configs.models import ModelSpec
from deployments.similarity.replicas import spaces_of_model, spaces_of_models
from deployments.similarity.writer import remove_beside
from graphs.check_report import Kind, Report
from storage.consistency import Ids, IdSet, ImageRow, Presence, presence, rows_of, unknown_images
from storage.repairs import audit, lock_unchanged, requeue
from storage.tables import Status
from storage.vector_rows import VectorSpace

_BELOW_ALL = -(2**62)
_AT_ONCE = 1000
"""Images that one transaction repairs."""


@dataclass(frozen=True)
class Sizes:
    """How much is held in memory at a time.

    Args:
        rows: of PostgreSQL, a page.
        objects: keys of S3, a page; the store gives 1,000 at most.
        images: whose vectors are compared at a time. Each such range reads the image ids of the vector tables once.
        vectors: rows of a vector table, a batch.
        suspects: images that are looked at anew at a time.
    """

    rows: int = 5_000
    objects: int = 1_000
    images: int = 500_000
    vectors: int = 65_536
    suspects: int = 20_000


@dataclass
class Window:
    """The images of a range of ids: all of them, and the processed ones by model."""

    after: int = _BELOW_ALL
    ids: list[int] = field(default_factory=list)
    processed: dict[str, list[int]] = field(default_factory=dict)

    def add(self, rows: Sequence[ImageRow]) -> None:
        """Takes the next rows in."""
        for row in rows:
            self.ids.append(row.id)
            if row.status == Status.PROCESSED:
                self.processed.setdefault(row.model_name, []).append(row.id)


@dataclass
class _Suspect:
    row: ImageRow
    missing: list[VectorSpace]
    doubled: list[str]


class VectorCheck:
    """Compares ranges of images with the tables of their models.

    Args:
        engine: of this process.
        connection: lancedb.AsyncConnection.
        tables: names of all tables that there are.
        written: each model with every descriptor that its uploads are written with.
        whole: the same without one that is still being built, whose vectors older images lack.
        report: takes the findings.
        say: told how far it is.
    """

    def __init__(
        self, engine: AsyncEngine, connection: Any, tables: Sequence[str], written: Mapping[str, Sequence[ModelSpec]],
        whole: Mapping[str, Sequence[ModelSpec]], sizes: Sizes, report: Report, say: Callable[[str], None],
    ) -> None:  # fmt: skip
        self._engine, self._connection, self._sizes = engine, connection, sizes
        self._report, self._say = report, say
        self._spaces = spaces_of_models(spec for specs in written.values() for spec in specs)
        self._wanted = {
            name: list(dict.fromkeys(space for spec in specs for space in spaces_of_model(spec)))
            for name, specs in whole.items()
        }
        self._others = {space.name: _other_versions(space, tables) for space in self._spaces}
        self._strangers = IdSet()

    async def check(self, window: Window, through: int | None) -> None:
        """Compares one range with every table, and repairs where the report says so.

        Args:
            window: the rows of the range.
            through: its last id, None for all that come after.
        Raises:
            Unavailable: the tables do not answer.
        """
        ids = np.asarray(window.ids, np.int64)
        suspects = np.empty(0, np.int64)
        for space in self._spaces:
            self._say(f"vectors: {space.name}, images {window.ids[0] if window.ids else 0:,} to {through or '…'}")
            found, read = await presence(
                self._connection, space, known=ids, after=window.after, through=through, batch=self._sizes.vectors,
                strangers=self._judge_strangers,
            )  # fmt: skip
            self._report.looked_at(f"vectors of {space.name}", read)
            models = [name for name, spaces in self._wanted.items() if space in spaces]
            wanted = [number for name in models for number in window.processed.get(name, [])]
            absent = np.setdiff1d(np.asarray(wanted, np.int64), found.images)
            suspects = np.union1d(suspects, np.union1d(absent, found.repeated))
        for start in range(0, len(suspects), self._sizes.suspects):
            await self._judge(suspects[start : start + self._sizes.suspects])

    async def _look(self, ids: Ids, spaces: Sequence[VectorSpace]) -> dict[str, Presence]:
        """The vectors of some images as they are now."""
        found = {}
        for space in spaces:
            found[space.name], _ = await presence(
                self._connection, space, known=ids, after=int(ids[0]) - 1, through=int(ids[-1]),
                batch=self._sizes.vectors,
            )  # fmt: skip
        return found

    async def _judge(self, ids: Ids) -> None:
        listed = ids.tolist()
        before = await rows_of(self._engine, listed)
        tables = await self._look(ids, self._spaces)
        after = await rows_of(self._engine, listed)
        present = {name: set(one.images.tolist()) for name, one in tables.items()}
        repeated = {name: set(one.repeated.tolist()) for name, one in tables.items()}
        suspects = []
        for row in after.values():
            # Between two equal looks at a finished row nothing of it was being written.
            if before.get(row.id) != row or row.status not in (Status.PROCESSED, Status.FAILED):
                continue
            wanted = self._wanted.get(row.model_name, []) if row.status == Status.PROCESSED else []
            missing = [space for space in wanted if row.id not in present[space.name]]
            doubled = [space.name for space in self._spaces if row.id in repeated[space.name]]
            if missing or doubled:
                suspects.append(_Suspect(row, missing, doubled))
        if suspects:
            await self._conclude(suspects, await self._elsewhere(suspects))

    async def _elsewhere(self, suspects: Sequence[_Suspect]) -> set[tuple[int, str]]:
        """Images with the tables in which they are missing while a table of another version has them."""
        found: set[tuple[int, str]] = set()
        for space in self._spaces:
            lacking = np.asarray([one.row.id for one in suspects if space in one.missing], np.int64)
            if len(lacking):
                for other in (await self._look(lacking, self._others[space.name])).values():
                    found.update((image_id, space.name) for image_id in other.images.tolist())
        return found

    async def _conclude(self, suspects: Sequence[_Suspect], elsewhere: set[tuple[int, str]]) -> None:
        repaired: set[int] = set()
        if self._report.repair:
            for start in range(0, len(suspects), _AT_ONCE):
                repaired |= await self._repair(suspects[start : start + _AT_ONCE])
        for one in suspects:
            number = one.row.id
            if one.doubled:
                example = f"image {number} in {', '.join(one.doubled)}"
                self._report.add(Kind.DUPLICATE_VECTORS, example, repaired=number in repaired)
            if one.missing:
                old = all((number, space.name) in elsewhere for space in one.missing)
                example = f"image {number} in {', '.join(space.name for space in one.missing)}"
                kind = Kind.WRONG_VERSION if old else Kind.MISSING_VECTORS
                self._report.add(kind, example, repaired=number in repaired)

    async def _repair(self, suspects: Sequence[_Suspect]) -> set[int]:
        async with self._engine.begin() as connection:
            still = await lock_unchanged(connection, [one.row for one in suspects])
            here = [one for one in suspects if one.row.id in still]
            doubled = {one.row.id: one.doubled for one in here if one.doubled}
            if doubled:
                await remove_beside(self._engine, self._connection, self._spaces, list(doubled))
            again = {
                one.row.id: f"vectors stored twice in {', '.join(one.doubled)}" if one.doubled
                else f"no vectors in {', '.join(space.name for space in one.missing)}"
                for one in here if one.row.status == Status.PROCESSED and one.row.model_name in self._wanted
            }  # fmt: skip
            await requeue(connection, again)
            await audit(connection, "vectors.delete", _entries(doubled, "stored twice"))
        return still

    async def _judge_strangers(self, ids: Ids) -> None:
        fresh = [number for number in ids.tolist() if number not in self._strangers]
        for start in range(0, len(fresh), _AT_ONCE):
            unknown = np.asarray(await unknown_images(self._engine, fresh[start : start + _AT_ONCE]), np.int64)
            if not len(unknown):
                continue
            places: dict[int, list[str]] = {}
            for name, found in (await self._look(unknown, self._spaces)).items():
                for number in found.images.tolist():
                    places.setdefault(number, []).append(name)
            if places and self._report.repair:
                async with self._engine.begin() as connection:
                    await remove_beside(self._engine, self._connection, self._spaces, list(places))
                    await audit(connection, "vectors.delete", _entries(places, "no such image"))
            for number, names in places.items():
                self._strangers.add(number)
                example = f"image {number} in {', '.join(names)}"
                self._report.add(Kind.EXTRA_VECTORS, example, repaired=self._report.repair)


def _entries(tables: dict[int, list[str]], reason: str) -> list[tuple[str, dict[str, Any]]]:
    return [(f"image/{number}", {"reason": reason, "tables": names}) for number, names in tables.items()]


def _other_versions(space: VectorSpace, tables: Sequence[str]) -> list[VectorSpace]:
    base = space.name.partition("@")[0]
    found = [re.fullmatch(rf"{re.escape(base)}-v([0-9]+)", name) for name in tables]
    versions = [VectorSpace(f"{base}@{match[1]}", space.dim) for match in found if match]
    return [one for one in versions if one.table_name != space.table_name]
