"""The life of a picture on real parts: links, detections and scores; every fault ends where it belongs."""

import io
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image as Pillow
from sqlalchemy import text

from benchmarks.drills.relay import RESET, Fate
from configs.models import ModelSpec
from configs.settings import Settings
from deployments.pipeline.networks import LocalNetworks
from deployments.pipeline.processor import Processor
from deployments.similarity.queries import Query
from deployments.similarity.reader import VectorReader
from deployments.similarity.replicas import spaces_of
from storage import images
from storage.database import ping
from storage.errors import Unavailable
from storage.objects import ObjectStore
from storage.vector_rows import PDQ_SPACE
from tests.deployments.pipeline.conftest import (
    Choosy,
    Upload,
    as_corpus,
    claim_all,
    refused,
    run_queue,
    state,
    with_networks,
)
from tests.relayed import behind_relay
from tests.scores import content_scores
from tests.service.pictures import edited, jpeg, photo


def flat_red() -> bytes:
    """A picture that the tests can tell from photographs."""
    buffer = io.BytesIO()
    Pillow.new("RGB", (80, 60), (255, 0, 0)).save(buffer, "PNG")
    return buffer.getvalue()


def is_red(frame: np.ndarray) -> bool:
    return bool((frame == (255, 0, 0)).all())


async def test_copies_are_linked_and_strangers_are_not(processor: Processor, put: Upload, model: ModelSpec) -> None:
    original = await put(jpeg(photo("astronaut.png")))
    twin = await put(jpeg(photo("astronaut.png")), "again.jpg")
    mirrored = await put(edited("astronaut.png", "mirror"))
    cropped = await put(edited("astronaut.png", "crop70"))
    stranger = await put(jpeg(photo("coffee.png")))
    await run_queue(processor)
    engine = processor.engine
    for image in (original, twin, mirrored, cropped, stranger):
        assert (await state(engine, image))[0] == "PROCESSED"
    links = {match.image_id: match for match in await images.matches(engine, original.id or 0)}
    assert set(links) == {twin.id, mirrored.id, cropped.id}
    same, mirror, crop = (links[image.id or 0] for image in (twin, mirrored, cropped))
    assert (same.relation, same.method, same.score) == ("exact", "sha256", 1.0)
    assert mirror.relation == crop.relation == "copy"
    assert mirror.method == "pdq" and mirror.evidence["pdq"]["orientation"] == "mirrored"
    assert crop.score >= crop.threshold > 0.5
    assert set(crop.evidence["descriptor"]["boxes"]) == {str(original.id), str(cropped.id)}
    geometry = crop.evidence["geometry"]
    assert geometry["inliers"] > 30 and sorted(geometry["overlap"].values())[0] == pytest.approx(0.7, abs=0.1)
    assert await images.matches(engine, stranger.id or 0) == []
    labels = [found.label for found in await images.detections(engine, original.id or 0)]
    assert labels == ["person"]
    (cup,) = await images.detections(engine, stranger.id or 0)
    assert cup.label == "cup" and cup.model == model.detector_name and cup.score >= model.detector.min_score
    assert 0 <= cup.x0 < cup.x1 <= stranger.width and 0 <= cup.y0 < cup.y1 <= stranger.height
    (score,) = await content_scores(engine, original.id or 0)
    assert score.model == model.filter_name and 0.0 <= score.score < 0.5


async def test_a_later_upload_finds_the_earlier(processor: Processor, put: Upload) -> None:
    first = await put(jpeg(photo("camera.png")))
    await run_queue(processor)
    later = await put(edited("camera.png", "jpeg10"))
    await run_queue(processor)
    assert [match.image_id for match in await images.matches(processor.engine, later.id or 0)] == [first.id]
    assert [match.image_id for match in await images.matches(processor.engine, first.id or 0)] == [later.id]


async def test_unreadable_and_missing_pictures_fail_at_once_and_alone(
    processor: Processor, put: Upload, objects: ObjectStore
) -> None:
    broken = await put(b"this is no picture at all", checked=False)
    cut = await put(jpeg(photo("coffee.png"))[:4000], checked=False)
    missing = await put(jpeg(photo("chelsea.png")))
    swapped = await put(jpeg(photo("rocket.jpg")))
    good = await put(jpeg(photo("coins.png")))
    await objects.delete(missing.s3_path)
    await objects.put(swapped.s3_path, jpeg(photo("coins.png"), 70), "image/jpeg")
    await run_queue(processor)
    reasons = {}
    for image in (broken, cut, missing, swapped):
        status, attempt, reason = await state(processor.engine, image)
        assert (status, attempt) == ("FAILED", 1)
        reasons[image.id] = reason or ""
    assert "not an image" in reasons[broken.id]
    assert "damaged or cut short" in reasons[cut.id]
    assert reasons[missing.id] == "the stored picture is missing"
    assert reasons[swapped.id] == "the stored picture is not the one uploaded"
    assert await state(processor.engine, good) == ("PROCESSED", 1, None)


async def test_too_many_pixels_fail_at_once(processor: Processor, put: Upload) -> None:
    image = await put(jpeg(photo("coffee.png")))
    small = replace(processor, settings=processor.settings.model_copy(update={"max_pixels": 1000}))
    await run_queue(small)
    status, _, reason = await state(processor.engine, image)
    assert status == "FAILED" and "1000" in (reason or "")


async def test_an_object_store_that_is_down_costs_no_attempt(processor: Processor, put: Upload) -> None:
    image = await put(jpeg(photo("coffee.png")))
    nowhere = ObjectStore(
        processor.settings.model_copy(
            update={"s3_endpoint": "http://127.0.0.1:1", "s3_attempts": 1, "s3_connect_timeout_s": 0.5}
        )
    )
    await run_queue(replace(processor, objects=nowhere), rounds=4)
    nowhere.close()
    assert await state(processor.engine, image) == ("UPLOADED", 0, None)
    await run_queue(processor)
    assert await state(processor.engine, image) == ("PROCESSED", 1, None)


async def test_an_object_of_a_corpus_that_has_grown_fails(processor: Processor, put: Upload) -> None:
    image = await put(jpeg(photo("coffee.png")))
    await as_corpus(processor, image)
    small = ObjectStore(processor.settings.model_copy(update={"max_upload_bytes": 5000}))
    await run_queue(replace(processor, objects=small))
    small.close()
    assert await state(processor.engine, image) == ("FAILED", 1, "the object is over the limit of 5000 bytes")


async def test_an_object_that_is_refused_fails_and_a_bucket_of_ours_that_is_costs_no_attempt(
    processor: Processor, put: Upload
) -> None:
    theirs, ours = await put(jpeg(photo("coffee.png"))), await put(jpeg(photo("coins.png")))
    with refused(processor, await as_corpus(processor, theirs), ours.s3_path) as limited:
        await run_queue(limited, rounds=4)
    assert await state(processor.engine, theirs) == ("FAILED", 1, "the object store refuses access (AccessDenied)")
    assert await state(processor.engine, ours) == ("UPLOADED", 0, None)


async def test_connections_to_the_database_that_are_lost_cost_no_attempt(
    processor: Processor, put: Upload, servers: Settings
) -> None:
    image = await put(jpeg(photo("coffee.png")))
    async with behind_relay(servers) as (relay, engine):
        for _ in range(processor.settings.max_attempts + 1):
            (held,) = await claim_all(processor)
            await ping(engine)
            relay.disturb(iter([Fate(RESET, False, 300, 0.0)]))  # in the middle of its statements
            await replace(processor, engine=engine).process([held])
        assert relay.befell == {RESET: processor.settings.max_attempts + 1}
    assert await state(processor.engine, image) == ("UPLOADED", 1, None), "what may be written is replaced by the next"
    await run_queue(processor)
    assert await state(processor.engine, image) == ("PROCESSED", 2, None)


async def test_a_picture_that_breaks_a_network_fails_alone(
    processor: Processor, put: Upload, networks: LocalNetworks
) -> None:
    poison = await put(flat_red())
    good = [await put(jpeg(photo(name))) for name in ("coffee.png", "chelsea.png", "coins.png")]
    choosy = Choosy(networks, RuntimeError("the network fell over"), is_red)
    weak = with_networks(processor, choosy)
    await run_queue(weak)
    for image in good:
        assert (await state(processor.engine, image))[:2] == ("PROCESSED", 1)
    assert (await state(processor.engine, poison))[:2] == ("UPLOADED", 1)
    await run_queue(weak, rounds=processor.settings.max_attempts)
    assert await state(processor.engine, poison) == ("FAILED", 3, "the picture could not be processed")
    assert sum(size > 1 for size in choosy.calls) == 1, "after its first failure it takes nobody along"


@pytest.mark.parametrize(
    "error", [Unavailable("switched off"), TimeoutError(), ConnectionResetError(), RuntimeError("CUDA error")]
)
async def test_networks_that_are_down_cost_no_attempt(
    processor: Processor, put: Upload, networks: LocalNetworks, error: Exception
) -> None:
    pictures = [await put(jpeg(photo(name))) for name in ("coffee.png", "coins.png")]
    down = with_networks(processor, Choosy(networks, error, lambda _: True))
    await run_queue(down, rounds=processor.settings.max_attempts + 1)
    for image in pictures:
        assert await state(processor.engine, image) == ("UPLOADED", 0, None)
    await run_queue(processor)
    for image in pictures:
        assert await state(processor.engine, image) == ("PROCESSED", 1, None)


async def test_after_a_lost_lease_nothing_is_stored(processor: Processor, put: Upload) -> None:
    first = await put(jpeg(photo("coffee.png")))
    second = await put(jpeg(photo("coffee.png")), "again.jpg")
    stale = await claim_all(processor)
    async with processor.engine.begin() as connection:
        statement = text("UPDATE image SET lease_expires_at = now() - interval '1 second' WHERE id = ANY(:ids)")
        await connection.execute(statement, {"ids": [first.id, second.id]})
    await processor.process(stale)
    for image in (first, second):
        assert (await state(processor.engine, image))[:2] == ("PROCESSING", 1)
        assert await images.detections(processor.engine, image.id or 0) == []
        assert await content_scores(processor.engine, image.id or 0) == []
        assert await images.matches(processor.engine, image.id or 0) == []
    await run_queue(processor)  # the next holder
    for image in (first, second):
        assert (await state(processor.engine, image))[:2] == ("PROCESSED", 2)
    await processor.process(stale)  # the first holder wakes up late
    for image in (first, second):
        assert (await state(processor.engine, image))[:2] == ("PROCESSED", 2)
        assert len(await images.matches(processor.engine, image.id or 0)) == 1


async def test_a_second_attempt_replaces_the_vectors_of_the_first(
    processor: Processor, put: Upload, model: ModelSpec
) -> None:
    image = await put(jpeg(photo("coffee.png")))
    stale = await claim_all(processor)
    async with processor.engine.begin() as connection:
        statement = text("UPDATE image SET lease_expires_at = now() - interval '1 second' WHERE id = :id")
        await connection.execute(statement, {"id": image.id})
    await processor.process(stale)  # writes vectors, stores nothing
    await run_queue(processor)
    (seen,) = await processor.look(model, [jpeg(photo("coffee.png"))])
    everything = {model.descriptor_name: seen.vectors[model.descriptor_name][:1], PDQ_SPACE.name: seen.pdq[:1]}
    fresh = Query(everything, {name: -1.0 for name in everything}, k=10_000)
    # Deleted rows may stay in a reader's memory for a while: ask one that starts now.
    versions = await processor.index.add({}, [])
    reader = VectorReader(processor.settings, spaces_of(processor.registry))
    (hits,) = await reader.search([fresh], versions)
    mine = [(hit.space, hit.region) for hit in hits if hit.image_id == image.id]
    assert len(mine) == len(set(mine)) == 1 + seen.stored
