"""Calibration: thresholds by hand, a corpus too poor to measure with, what is kept and what it changes."""

from collections.abc import AsyncIterator, Callable

import numpy as np
import pytest
import pytest_asyncio
from PIL import Image
from sqlalchemy.ext.asyncio import AsyncEngine

from benchmarks.edits.overlays import screenshot
from benchmarks.local import LocalCascade
from configs.models import ModelSpec, load_models
from configs.settings import Settings
from deployments.pipeline.limits import Limits, networks_of
from graphs.calibration import LEAST, Judged, measure, threshold_for
from storage import calibrations
from storage.errors import InvalidInput, NotFound
from storage.links import Link
from storage.tables import Calibration, Relation
from tests.service.pictures import NAMES, jpeg, photo


def said(right: int | None, *answers: tuple[int, float]) -> Judged:
    return Judged(right, {"copy": list(answers)})


def test_the_threshold_by_hand() -> None:
    judged = [said(1, (1, 0.9)), said(2, (2, 0.8)), said(3, (9, 0.7)), said(4, (4, 0.6)), said(None, (5, 0.1))]
    assert threshold_for(judged, "copy", 1.0) == (pytest.approx(0.75), 1.0, 0.5)
    assert threshold_for(judged, "copy", 0.75) == (pytest.approx(0.35), 0.75, 0.75)
    assert threshold_for(judged, "copy", 0.5) == (pytest.approx(0.05), 0.6, 0.75)


def test_equal_scores_are_not_parted() -> None:
    judged = [said(1, (1, 0.9)), said(None, (5, 0.9)), said(2, (2, 0.8))]
    with pytest.raises(InvalidInput, match=r"0\.99 is not reached; the best is 0\.6667"):
        threshold_for(judged, "copy", 0.99)
    with pytest.raises(InvalidInput, match="nothing to calibrate with"):
        threshold_for([said(1, (2, 0.5)), said(None)], "copy", 0.9)


@pytest.fixture(scope="module")
def model() -> ModelSpec:
    registry = load_models(Settings().models_file)
    return registry[registry.default]


@pytest.fixture(scope="module")
def fresh(model: ModelSpec) -> Callable[[], LocalCascade]:
    return lambda: LocalCascade(model, Settings())


WANTED = {"precision": 0.95, "semantic_precision": 0.9, "queries": 36, "seed": 1, "progress": lambda _: None}


def test_poor_corpora_are_refused(fresh: Callable[[], LocalCascade]) -> None:
    one = jpeg(photo("coffee.png"))
    with pytest.raises(InvalidInput, match=f"of 1 pictures 1 could be read and 1 differ.*at least {LEAST}"):
        measure(fresh(), [one], **WANTED)
    with pytest.raises(InvalidInput, match="of 12 pictures 12 could be read and 1 differ"):
        measure(fresh(), [one] * 12, **WANTED)
    blank = jpeg(Image.new("RGB", (64, 64), (200, 30, 30)))
    with pytest.raises(InvalidInput, match="of 5 pictures 4 could be read and 0 differ"):
        measure(fresh(), [blank] * 4 + [b"no picture"], **WANTED)
    with pytest.raises(InvalidInput, match="of 0 pictures"):
        measure(fresh(), [], **WANTED)
    with pytest.raises(InvalidInput, match=r"semantic precision, 0\.99, is above"):
        measure(fresh(), [one], **WANTED | {"semantic_precision": 0.99})
    with pytest.raises(InvalidInput, match=r"precision must be between 0\.5 and 1, not 1\.2"):
        measure(fresh(), [one], **WANTED | {"precision": 1.2})


def tiles() -> list[bytes]:
    """Files of different pictures: parts of the photographs that have nothing in common."""
    files = []
    for name in NAMES:
        picture = photo(name)
        width, height = picture.width // 3, picture.height // 3
        files += [
            jpeg(picture.crop((x * width, y * height, (x + 1) * width, (y + 1) * height)).resize((220, 180)))
            for x in range(3)
            for y in range(3)
        ]
    return files


def test_measuring_on_a_small_corpus(model: ModelSpec, fresh: Callable[[], LocalCascade]) -> None:
    (copy, semantic), used = measure(fresh(), tiles(), **WANTED)
    assert LEAST <= used == copy.pictures <= len(tiles())
    assert (copy.relation, semantic.relation) == (Relation.COPY, Relation.SEMANTIC)
    assert 0 <= semantic.threshold <= 1 and 0 <= copy.threshold <= 1
    assert copy.precision >= 0.95 and copy.recall > 0.4 and semantic.recall > 0.5
    assert copy.networks == networks_of(model)


@pytest_asyncio.fixture
async def kept(engine: AsyncEngine, model: ModelSpec) -> AsyncIterator[Callable[..., Calibration]]:
    def make(mode: str, threshold: float, relation: str = Relation.COPY, **more: object) -> Calibration:
        values = {
            "model_name": model.name, "networks": networks_of(model), "relation": relation, "mode": mode,
            "threshold": threshold, "wanted_precision": 0.9, "precision": 0.95, "recall": 0.8, "pictures": 50,
            "queries": 90,
        }  # fmt: skip
        return Calibration(**values | more)

    yield make
    await calibrations.reset(engine, model.name)


async def test_what_is_kept_decides(engine: AsyncEngine, model: ModelSpec, kept: Callable[..., Calibration]) -> None:
    limits = Limits(engine, fresh_s=0.0)
    assert await limits.active(model) == model and await limits.shadow(model) is None
    await calibrations.save(engine, [kept("active", 0.31), kept("shadow", 0.7)])
    assert (await limits.active(model)).thresholds.copy_confidence == 0.31
    tried, rows = await limits.shadow(model) or (None, [])
    assert tried is not None and tried.thresholds.copy_confidence == 0.7 and len(rows) == 1
    await calibrations.save(engine, [kept("active", 0.4)])
    assert (await limits.active(model)).thresholds.copy_confidence == 0.4
    await calibrations.promote(engine, model.name)
    assert (await limits.active(model)).thresholds.copy_confidence == 0.7 and await limits.shadow(model) is None
    with pytest.raises(NotFound, match="no shadow"):
        await calibrations.promote(engine, model.name)
    assert await calibrations.reset(engine, model.name) == 1
    assert await limits.active(model) == model


async def test_of_other_networks_it_is_void(
    engine: AsyncEngine, model: ModelSpec, kept: Callable[..., Calibration]
) -> None:
    await calibrations.save(engine, [kept("active", 0.31, networks="other@1 - 1,2,3")])
    assert await Limits(engine, fresh_s=0.0).active(model) == model


async def test_each_descriptor_keeps_its_own(
    engine: AsyncEngine, model: ModelSpec, kept: Callable[..., Calibration]
) -> None:
    other = model.model_copy(update={"descriptor": model.descriptor.model_copy(update={"name": "other@1"})})
    limits = Limits(engine, fresh_s=0.0)
    await calibrations.save(engine, [kept("active", 0.31)])
    await calibrations.save(engine, [kept("active", 0.6, networks=networks_of(other))])
    assert (await limits.active(model)).thresholds.copy_confidence == 0.31
    assert (await limits.active(other)).thresholds.copy_confidence == 0.6
    await calibrations.save(engine, [kept("shadow", 0.7, networks=networks_of(other))])
    await calibrations.promote(engine, model.name)
    assert (await limits.active(model)).thresholds.copy_confidence == 0.31, "another descriptor's shadow"
    assert (await limits.active(other)).thresholds.copy_confidence == 0.7


async def test_a_shadow_is_counted_and_decides_nothing(
    engine: AsyncEngine, model: ModelSpec, kept: Callable[..., Calibration]
) -> None:
    await calibrations.save(engine, [kept("shadow", 0.6)])
    limits = Limits(engine, fresh_s=0.0)
    _, rows = await limits.shadow(model) or (None, [])
    links = [Link(number, Relation.COPY, "geometry", 0.9, 0.8, {}) for number in (1, 2, 3)]
    await limits.compare(rows, links[:2], links[1:])
    await limits.compare(rows, links, links)
    (now,) = await calibrations.current(engine, model.name)
    assert (now.would_add, now.would_drop) == (1, 1)


async def test_while_the_database_is_down_the_last_thresholds_hold(
    engine: AsyncEngine, model: ModelSpec, kept: Callable[..., Calibration], monkeypatch: pytest.MonkeyPatch
) -> None:
    await calibrations.save(engine, [kept("active", 0.33)])
    limits = Limits(engine, fresh_s=0.0)
    assert (await limits.active(model)).thresholds.copy_confidence == 0.33

    async def fails(*_: object) -> list[Calibration]:
        raise OSError("gone")

    monkeypatch.setattr(calibrations, "current", fails)
    assert (await limits.active(model)).thresholds.copy_confidence == 0.33


def test_a_screenshot_keeps_its_picture() -> None:
    page = screenshot(photo("coffee.png"), np.random.default_rng(1), [])
    assert page.width == 480 and page.height > 300
