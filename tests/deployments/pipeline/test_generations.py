"""A descriptor is replaced while pictures come in and searches go on: nothing fails, and no two versions are mixed."""

import asyncio
import logging
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from benchmarks.local import LocalNetworks
from configs.models import Alternative, DescriptorSpec, ModelRegistry, ModelSpec
from configs.settings import Settings
from deployments.pipeline import generations as module
from deployments.pipeline.found import Found
from deployments.pipeline.generations import Generations, live_spec
from deployments.pipeline.processor import Processor
from deployments.pipeline.search import search
from storage import images
from storage.errors import ConfigurationError, Unavailable
from storage.generations import abandon, begin, drop_previous, ensure_live, rollback, switch
from storage.held_up import waiting
from storage.tables import Image
from storage.vector_rows import VectorSpace
from storage.vectors import VectorTable, connect
from tests.deployments.pipeline.conftest import LocalIndex, Upload, run_queue, state, with_networks
from tests.service.pictures import edited, jpeg, photo


async def rows_in(settings: Settings, descriptor: DescriptorSpec) -> Counter[int]:
    """How many vectors of each image a descriptor's table holds."""
    table = await VectorTable.open(await connect(settings), VectorSpace(descriptor.name, descriptor.dim), create=False)
    return Counter((await table.read_since(-1))[0].image_ids.tolist() if table else [])


async def links_by_descriptor(engine: AsyncEngine, model: ModelSpec) -> dict[tuple[int, int, str], dict]:
    statement = text(
        "SELECT image_a, image_b, descriptor, evidence FROM image_match JOIN image ON image.id = image_a"
        " WHERE model_name = :name"
    )
    async with engine.connect() as connection:
        rows = (await connection.execute(statement, {"name": model.name})).all()
    return {(row.image_a, row.image_b, row.descriptor): row.evidence for row in rows}


def versions_of(evidence: dict) -> set[str]:
    """All descriptors that a piece of evidence speaks of."""
    named = {evidence["descriptor"]["name"]} if "descriptor" in evidence else set()
    return named | {
        name for name in evidence.get("index_versions", {}) if name.startswith("test-") and "-shape" not in name
    }


async def shown(engine: AsyncEngine, image: Image) -> list[tuple[int, str, set[str]]]:
    return [
        (one.image_id, one.relation, versions_of(one.evidence)) for one in await images.matches(engine, image.id or 0)
    ]


class Gated:
    """Real networks; the detector waits at a gate, and an embedding of a chosen descriptor fails."""

    def __init__(self, inner: LocalNetworks, broken: str | None = None) -> None:
        self._inner, self.broken = inner, broken
        self.reached, self.gate = asyncio.Event(), asyncio.Event()
        if broken:
            self.gate.set()

    async def detect(self, *arguments: object) -> object:
        self.reached.set()
        await self.gate.wait()
        return await self._inner.detect(*arguments)  # type: ignore[arg-type]

    async def embed(self, descriptor: DescriptorSpec, frames: np.ndarray) -> np.ndarray:
        if descriptor.name == self.broken:
            raise ConfigurationError("the weights are missing")
        return await self._inner.embed(descriptor, frames)


async def test_from_building_to_live_and_back(
    processor: Processor, put: Upload, model: ModelSpec, other: DescriptorSpec
) -> None:
    engine, settings = processor.engine, processor.settings
    old, new, shape = model.descriptor_name, other.name, model.shape.name if model.shape else ""
    await processor.generations.start()
    early = await put(jpeg(photo("astronaut.png")))
    await run_queue(processor)
    await begin(engine, model.name, new)
    original = await put(jpeg(photo("coffee.png")))
    cropped = await put(edited("coffee.png", "crop70"))
    twin = await put(jpeg(photo("coffee.png")), "again.jpg")
    await run_queue(processor)

    ids = {image.id: (await processor.look(model, [await processor.objects.get(image.s3_path)]))[0].stored  # type: ignore[union-attr]
           for image in (early, original, cropped, twin)}  # fmt: skip
    assert await rows_in(settings, model.descriptor) == ids
    assert await rows_in(settings, other) == {key: count for key, count in ids.items() if key != early.id}
    links = await links_by_descriptor(engine, model)
    pair, same = (original.id, cropped.id), (original.id, twin.id)
    assert {key for key in links if key[:2] in (pair, same)} == {(*pair, old), (*pair, new), (*same, "")}
    for name in (old, new):
        assert links[*pair, name]["descriptor"]["name"] == name
        assert set(links[*pair, name]["index_versions"]) == {name, shape, "pdq@1"}
    scores = {name: links[*pair, name]["descriptor"]["score"] for name in (old, new)}
    assert scores[old] != scores[new] and scores[old] == pytest.approx(scores[new], abs=0.1)

    async def everywhere(name: str) -> None:
        """Stored links and searches speak of one version only."""
        exact, copy = await shown(engine, original)
        assert exact == (twin.id, "exact", set()) and copy == (cropped.id, "copy", {name})
        found = await search(processor, edited("coffee.png", "crop70"), model.name, k=10)
        assert {one.image_id for one in found} == {original.id, cropped.id, twin.id}
        described = [one.evidence["descriptor"]["name"] for one in found if "descriptor" in one.evidence]
        assert described == [name] * 2  # the third has the same bytes

    await everywhere(old)
    await switch(engine, model.name)
    await everywhere(new)
    late = await put(edited("coffee.png", "mirror"))
    await run_queue(processor)
    assert late.id in await rows_in(settings, model.descriptor), "the previous one is kept up to date"
    assert (late.id, "copy", {new}) in await shown(engine, original)
    await rollback(engine, model.name)
    assert (late.id, "copy", {old}) in await shown(engine, original)
    found = await search(processor, jpeg(photo("astronaut.png")), model.name, k=10)
    assert [(one.image_id, one.relation) for one in found] == [(early.id, "exact")]


async def test_a_switch_in_the_middle_of_a_search_mixes_nothing(
    processor: Processor, put: Upload, model: ModelSpec, other: DescriptorSpec, networks: LocalNetworks
) -> None:
    await processor.generations.start()
    await begin(processor.engine, model.name, other.name)
    stored = await put(jpeg(photo("coffee.png")))
    await run_queue(processor)
    data = edited("coffee.png", "crop70")

    async def during(step: object) -> list[Found]:
        gated = Gated(networks)
        asked = asyncio.create_task(search(with_networks(processor, gated), data, model.name, k=5))  # type: ignore[arg-type]
        await gated.reached.wait()
        await step(processor.engine, model.name)  # type: ignore[operator]
        gated.gate.set()
        return await asked

    for step, name in ((switch, model.descriptor_name), (rollback, other.name)):
        (found,) = await during(step)
        assert found.image_id == stored.id and found.evidence["descriptor"]["name"] == name
        (after,) = await search(processor, data, model.name, k=5)
        assert after.evidence["descriptor"]["name"] == ({model.descriptor_name, other.name} - {name}).pop()


async def test_searches_never_fail_while_descriptors_change_places(
    processor: Processor, put: Upload, model: ModelSpec, other: DescriptorSpec
) -> None:
    await processor.generations.start()
    await begin(processor.engine, model.name, other.name)
    stored = await put(jpeg(photo("coffee.png")))
    await run_queue(processor)
    await switch(processor.engine, model.name)
    stop, seen = asyncio.Event(), Counter[str]()

    async def keep_searching() -> None:
        while not stop.is_set():
            (found,) = await search(processor, edited("coffee.png", "crop70"), model.name, k=5)
            assert found.image_id == stored.id
            seen[found.evidence["descriptor"]["name"]] += 1

    searching = asyncio.create_task(keep_searching())
    for _ in range(12):
        before = seen.total()
        await asyncio.sleep(0.4)
        # At least one of two began meanwhile.
        while seen.total() < before + 2 and not searching.done():  # noqa: ASYNC110  (a search gives no event)
            await asyncio.sleep(0.05)
        await rollback(processor.engine, model.name)
    stop.set()
    await searching
    assert set(seen) == {model.descriptor_name, other.name}


async def test_a_picture_in_work_during_a_begin_gets_both(
    processor: Processor, put: Upload, model: ModelSpec, other: DescriptorSpec, networks: LocalNetworks
) -> None:
    await processor.generations.start()
    image = await put(jpeg(photo("coffee.png")))
    gated = Gated(networks)
    working = asyncio.create_task(run_queue(with_networks(processor, gated)))  # type: ignore[arg-type]
    await gated.reached.wait()
    await begin(processor.engine, model.name, other.name)
    gated.gate.set()
    await working
    assert (await state(processor.engine, image))[0] == "UPLOADED", "it lacks the new descriptor"
    await run_queue(processor)
    assert await state(processor.engine, image) == ("PROCESSED", 2, None)
    first, second = [await rows_in(processor.settings, one) for one in (model.descriptor, other)]
    assert first == second and set(first) == {image.id}, "and no vector twice"


async def test_a_new_descriptor_that_fails_holds_uploads_back_but_no_search(
    processor: Processor, put: Upload, model: ModelSpec, other: DescriptorSpec, networks: LocalNetworks,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    await processor.generations.start()
    stored = await put(jpeg(photo("coffee.png")))
    await run_queue(processor)
    await begin(processor.engine, model.name, other.name)
    weak = with_networks(processor, Gated(networks, broken=other.name))  # type: ignore[arg-type]
    image = await put(edited("coffee.png", "crop70"))
    await run_queue(weak, rounds=processor.settings.max_attempts + 1)
    assert await state(processor.engine, image) == ("UPLOADED", 0, None)
    (found,) = await search(weak, edited("coffee.png", "mirror"), model.name, k=5)
    assert found.image_id == stored.id
    (said,) = [one for one in await waiting(processor.engine) if model.name in one]
    assert said == (
        f"uploads of {model.name} wait for {other.name} (building), which cannot be used: the weights are missing;"
        " `safeguard reindex --abandon` gives it up"
    )
    named = [one.message for one in caplog.records if "uploads of" in one.message]
    assert named == [f"uploads of {model.name} wait for {other.name}: the weights are missing"], "once, not each second"
    assert await abandon(processor.engine, model.name) == other.name
    assert not [one for one in await waiting(processor.engine) if model.name in one]
    await run_queue(weak)
    assert await state(processor.engine, image) == ("PROCESSED", 1, None)


async def test_uploads_that_waited_go_on_when_the_descriptor_can_be_used(
    processor: Processor, put: Upload, model: ModelSpec, other: DescriptorSpec, networks: LocalNetworks
) -> None:
    await processor.generations.start()
    await begin(processor.engine, model.name, other.name)
    weak = with_networks(processor, Gated(networks, broken=other.name))  # type: ignore[arg-type]
    image = await put(jpeg(photo("coffee.png")))
    await run_queue(weak)
    assert [one for one in await waiting(processor.engine) if model.name in one]
    await run_queue(processor)
    assert (await state(processor.engine, image))[0] == "PROCESSED"
    assert not [one for one in await waiting(processor.engine) if model.name in one]


async def test_a_live_descriptor_that_fails_is_not_taken_for_the_other_one(
    processor: Processor, put: Upload, model: ModelSpec, other: DescriptorSpec, networks: LocalNetworks
) -> None:
    await processor.generations.start()
    await begin(processor.engine, model.name, other.name)
    weak = with_networks(processor, Gated(networks, broken=model.descriptor_name))  # type: ignore[arg-type]
    await put(jpeg(photo("coffee.png")))
    await run_queue(weak)
    assert not [one for one in await waiting(processor.engine) if model.name in one]


async def test_a_dropped_descriptor_can_be_built_again(
    processor: Processor, put: Upload, model: ModelSpec, other: DescriptorSpec
) -> None:
    index = processor.index
    assert isinstance(index, LocalIndex)
    await processor.generations.start()
    await begin(processor.engine, model.name, other.name)
    for name in ("coffee.png", "chelsea.png", "coins.png"):
        await put(jpeg(photo(name)))
        await run_queue(processor)
    await abandon(processor.engine, model.name)
    await index.writer.drop(other.name)
    assert await rows_in(processor.settings, other) == {}
    first = await put(jpeg(photo("rocket.jpg")))
    await run_queue(processor)
    await begin(processor.engine, model.name, other.name)
    second = await put(edited("rocket.jpg", "crop70"))
    third = await put(edited("rocket.jpg", "mirror"))
    await run_queue(processor)
    assert set(await rows_in(processor.settings, other)) == {second.id, third.id}
    await switch(processor.engine, model.name)
    assert await drop_previous(processor.engine, model.name) == model.descriptor_name
    await index.writer.drop(model.descriptor_name)
    linked = {one.image_id: one for one in await images.matches(processor.engine, second.id or 0)}
    assert linked[third.id or 0].relation == "copy" and "descriptor" in linked[third.id or 0].evidence
    assert all("descriptor" not in one.evidence for other_id, one in linked.items() if other_id != third.id)
    found = await search(processor, edited("rocket.jpg", "crop70"), model.name, k=5)
    assert {second.id, third.id} <= {one.image_id for one in found}
    assert first.id not in {one.image_id for one in found if "descriptor" in one.evidence}


async def test_each_descriptor_has_weights_and_thresholds_of_its_own(
    processor: Processor, put: Upload, model: ModelSpec, other: DescriptorSpec
) -> None:
    strict = model.thresholds.model_copy(update={"copy_confidence": 0.999})
    changed = model.model_copy(update={"alternatives": {other.name: Alternative(thresholds=strict)}})
    registry = ModelRegistry({model.name: changed}, model.name, {other.name: other})
    mine = replace(processor, registry=registry, generations=Generations(processor.engine, registry, fresh_s=0.0))
    await mine.generations.start()
    await begin(mine.engine, model.name, other.name)
    first, second = await put(jpeg(photo("coffee.png"))), await put(edited("coffee.png", "jpeg10"))
    await run_queue(mine)
    (before,) = await images.matches(mine.engine, first.id or 0)
    await switch(mine.engine, model.name)
    (after,) = await images.matches(mine.engine, first.id or 0)
    assert before.image_id == after.image_id == second.id
    assert (before.threshold, after.threshold) == (model.thresholds.copy_confidence, 0.999)


async def test_the_file_decides_once_and_the_database_from_then_on(
    engine: AsyncEngine, model: ModelSpec, other: DescriptorSpec, caplog: pytest.LogCaptureFixture
) -> None:
    registry = ModelRegistry({model.name: model}, model.name, {other.name: other})
    assert await live_spec(engine, registry, model.name) == model, "of a model that was never started"
    first = Generations(engine, registry, fresh_s=0.0)
    await first.start()
    assert await first.of(model.name) == [model]
    renamed = model.model_copy(update={"descriptor": other})
    changed = ModelRegistry({model.name: renamed}, model.name, {model.descriptor_name: model.descriptor})
    later = Generations(engine, changed)
    with caplog.at_level(logging.WARNING):
        await later.start()
    assert f"{model.name} is live with {model.descriptor_name}; models.yaml says {other.name}" in caplog.text
    assert (await later.live(model.name)).descriptor_name == model.descriptor_name
    await begin(engine, model.name, other.name)
    assert [one.descriptor_name for one in await first.of(model.name)] == [model.descriptor_name, other.name]
    assert (await live_spec(engine, registry, model.name)) == model


async def test_a_descriptor_that_the_file_lost_stops_the_start(
    engine: AsyncEngine, model: ModelSpec, other: DescriptorSpec
) -> None:
    await ensure_live(engine, {model.name: other.name})
    alone = ModelRegistry({model.name: model}, model.name)
    with pytest.raises(
        ConfigurationError, match=rf"{other.name} \(live\), but .*is not among descriptors.*Put it back"
    ):
        await Generations(engine, alone).start()
    with pytest.raises(ConfigurationError):
        await live_spec(engine, alone, model.name)


async def test_while_the_database_is_down_the_last_ones_hold(
    engine: AsyncEngine, model: ModelSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry = ModelRegistry({model.name: model}, model.name)
    seen = Generations(engine, registry, fresh_s=0.0)
    assert await seen.of(model.name) == [model]

    async def fails(*_: object) -> None:
        raise OSError("gone")

    monkeypatch.setattr(module, "generations", fails)
    assert await seen.of(model.name) == [model]
    fresh = Generations(engine, registry, fresh_s=0.0)
    await fresh.start()  # no reason to fail
    with pytest.raises(Unavailable, match="which descriptors are live"):
        await fresh.of(model.name)
    monkeypatch.undo()
    assert await fresh.of(model.name) == [model]
