"""The thresholds that hold now: those of models.yaml, or those that were calibrated. Knows nothing of Ray."""

import asyncio
import logging
import time
from collections.abc import Sequence

from sqlalchemy.ext.asyncio import AsyncEngine

from configs.models import ModelSpec
from storage import calibrations
from storage.calibrations import ACTIVE, SHADOW
from storage.links import Link
from storage.tables import Calibration, Relation

_log = logging.getLogger(__name__)
_FIELDS = {Relation.COPY: "copy_confidence", Relation.SEMANTIC: "semantic_confidence"}


def networks_of(model: ModelSpec) -> str:
    """What a calibration holds for: another descriptor, shape or fusion gives scores on another scale."""
    fusions = (model.fusion, model.copy_fusion)
    weights = " ".join(",".join(f"{value:g}" for value in one.model_dump().values()) for one in fusions)
    return f"{model.descriptor_name} {model.shape.name if model.shape else '-'} {weights}"


def with_thresholds(model: ModelSpec, held: Sequence[Calibration]) -> ModelSpec:
    """The model with calibrated thresholds."""
    changed = {_FIELDS[Relation(one.relation)]: one.threshold for one in held}
    return model.model_copy(update={"thresholds": model.thresholds.model_copy(update=changed)})


class Limits:
    """Reads the calibrations every few seconds; while the database does not answer, the last ones hold.

    Args:
        engine: where they are kept.
        fresh_s: seconds after which they are read again.
    """

    def __init__(self, engine: AsyncEngine, *, fresh_s: float = 10.0) -> None:
        self._engine, self._fresh_s = engine, fresh_s
        self._held: list[Calibration] = []
        self._read_at = -float("inf")
        self._lock = asyncio.Lock()

    async def _current(self, model: ModelSpec) -> list[Calibration]:
        async with self._lock:
            if time.monotonic() - self._read_at > self._fresh_s:
                try:
                    self._held = await calibrations.current(self._engine)
                except Exception as error:
                    _log.warning("the calibrations cannot be read: %s", type(error).__name__)
                self._read_at = time.monotonic()
        valid = networks_of(model)
        return [one for one in self._held if one.model_name == model.name and one.networks == valid]

    async def active(self, model: ModelSpec) -> ModelSpec:
        """The model with the thresholds that decide."""
        return with_thresholds(model, [one for one in await self._current(model) if one.mode == ACTIVE])

    async def shadow(self, model: ModelSpec) -> tuple[ModelSpec, list[Calibration]] | None:
        """The model with the thresholds that are only tried, and their calibrations; None where there are none."""
        held = await self._current(model)
        tried = [one for one in held if one.mode == SHADOW]
        if not tried:
            return None
        return with_thresholds(with_thresholds(model, [one for one in held if one.mode == ACTIVE]), tried), tried

    async def compare(self, tried: Sequence[Calibration], decided: Sequence[Link], otherwise: Sequence[Link]) -> None:
        """Counts and logs links that shadow thresholds would have added or dropped; changes no decision."""
        for one in tried:
            now = {link.image_id for link in decided if link.relation == one.relation}
            then = {link.image_id for link in otherwise if link.relation == one.relation}
            if now == then or one.id is None:
                continue
            _log.info(
                "shadow threshold %.4f of %s would add %s and drop %s", one.threshold, one.relation,
                sorted(then - now), sorted(now - then),
            )  # fmt: skip
            try:
                await calibrations.count(self._engine, one.id, would_add=len(then - now), would_drop=len(now - then))
            except Exception as error:
                _log.warning("a shadow decision was not counted: %s", type(error).__name__)
