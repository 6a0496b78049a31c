"""Builds the indexes of large vector tables beside the writer, and measures their recall. Knows nothing of Ray."""

import asyncio
import logging

from sqlalchemy.ext.asyncio import AsyncEngine

from configs.settings import Settings
from deployments.stopping import stopped
from storage import index_measurements
from storage.tables import IndexMeasurement
from storage.vector_index import KIND, SearchEffort, build_index, index_state, measure_recall
from storage.vectors import VectorTable

_log = logging.getLogger(__name__)
_SAMPLE = 100
_EVERY = 16
"""Commits between two looks at the size of a table: counting asks the object store."""


class Indexer:
    """One build at a time, in the background; appends go on meanwhile, merging of files waits.

    A table gets its index when it passes the setting ``exact_search_rows``, and a new one when it has doubled since.
    Between, ``VectorTable.optimize`` adds new rows to the index.

    Args:
        engine: where measurements are kept.
        settings: from how many rows on, and how searches are made.
    """

    def __init__(self, engine: AsyncEngine, settings: Settings) -> None:
        self._engine, self._settings = engine, settings
        self._built_at: dict[str, int] = {}
        self._looks: dict[str, int] = {}
        self._task: asyncio.Task[None] | None = None

    @property
    def busy(self) -> bool:
        """Whether an index is being built now."""
        return self._task is not None and not self._task.done()

    async def consider(self, table: VectorTable) -> None:
        """Starts a build where one is due; returns at once."""
        name = table.space.name
        looks = self._looks.get(name, 0)
        self._looks[name] = looks + 1
        if table.space.binary or self.busy or looks % _EVERY:
            return
        try:
            rows = await table.count()
            if rows <= self._settings.exact_search_rows:
                return
            if name not in self._built_at:
                known = (await index_measurements.measured(self._engine)).get(name)
                self._built_at[name] = known.rows if known and await index_state(table) else 0
        except Exception as error:
            _log.warning("the size of %s is not known: %s", name, type(error).__name__)
            return
        if rows >= 2 * self._built_at[name]:
            self._task = asyncio.create_task(self._build(table, rows), name=f"index of {name}")

    async def _build(self, table: VectorTable, rows: int) -> None:
        name, settings = table.space.name, self._settings
        try:
            seconds = await build_index(table, rows)
            effort = SearchEffort(settings.index_ef, settings.index_refine, settings.index_probes)
            recall = await measure_recall(table, sample=_SAMPLE, effort=effort)
            kept = IndexMeasurement(
                space=name, kind=KIND, rows=rows, build_s=seconds, recall_at_10=recall, sample=_SAMPLE
            )
            await index_measurements.save(self._engine, kept)
        except Exception:
            _log.exception("the index of %s was not built; it is tried again later", name)
            return
        self._built_at[name] = rows
        _log.info("%s of %s: %d rows in %.1f s, recall@10 %.4f", KIND, name, rows, seconds, recall)

    async def forget(self, space_name: str) -> None:
        """Breaks off what is being built, and knows nothing of a table that is about to be dropped."""
        await self.close()
        self._built_at.pop(space_name, None)
        self._looks.pop(space_name, None)

    async def close(self) -> None:
        """Breaks a build off; a half-built index is never seen, and it is begun again later."""
        if self._task is not None:
            await stopped([self._task])
