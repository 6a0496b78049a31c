"""Verification on real servers: features are kept, made anew where they are gone, and never end a search."""

import numpy as np
import pytest

from configs.models import ModelSpec
from deployments.pipeline.matching import Candidate
from deployments.pipeline.processor import Processor
from storage.errors import NotFound
from storage.features import features_key
from storage.uploads import remove
from tests.deployments.pipeline.conftest import Upload, run_queue
from tests.service.pictures import edited, jpeg, photo


async def ask(processor: Processor, model: ModelSpec, *ids: int | None) -> list[Candidate]:
    (found,) = await processor.look(model, [edited("astronaut.png", "crop50")], judge=False)
    candidates = [Candidate(number or 0) for number in ids]
    processor.verifier._held.clear()
    await processor.verifier.verify(found, candidates)
    return candidates


async def test_features_lie_beside_the_picture(processor: Processor, put: Upload, model: ModelSpec) -> None:
    astronaut, coffee = await put(jpeg(photo("astronaut.png"))), await put(jpeg(photo("coffee.png")))
    await run_queue(processor)
    assert (await processor.objects.get(features_key(astronaut.s3_path)))[:4] == b"SGLF"
    right, wrong = await ask(processor, model, astronaut.id, coffee.id)
    assert right.alignment is not None and right.alignment.inliers > 50
    assert right.alignment.stored_overlap == pytest.approx(0.5, abs=0.05)
    assert wrong.alignment is None or wrong.alignment.inliers < 8


@pytest.mark.parametrize("damage", [None, b"", b"SGLF\x63\x00\x01\x00\x01\x00", b"rubbish"])
async def test_lost_or_damaged_features_are_made_anew(
    processor: Processor, put: Upload, model: ModelSpec, damage: bytes | None
) -> None:
    image = await put(jpeg(photo("astronaut.png")))
    await run_queue(processor)
    key = features_key(image.s3_path)
    good = await processor.objects.get(key)
    if damage is None:
        await processor.objects.delete(key)
    else:
        await processor.objects.put(key, damage, "application/octet-stream")
    (one,) = await ask(processor, model, image.id)
    assert one.alignment is not None and one.alignment.inliers > 50
    assert await processor.objects.get(key) == good


async def test_a_picture_that_is_gone_has_no_alignment(processor: Processor, put: Upload, model: ModelSpec) -> None:
    image = await put(jpeg(photo("astronaut.png")))
    vanished = await put(jpeg(photo("coffee.png")))
    await run_queue(processor)
    await remove(processor.engine, processor.objects, image.id or 0, actor="test")
    with pytest.raises(NotFound):
        await processor.objects.get(features_key(image.s3_path))
    for key in (vanished.s3_path, features_key(vanished.s3_path)):
        await processor.objects.delete(key)
    gone, lost, unknown = await ask(processor, model, image.id, vanished.id, 2**40)
    assert gone.alignment is lost.alignment is unknown.alignment is None


async def test_only_so_many_features_are_held(processor: Processor) -> None:
    (found,) = await processor.look(
        processor.registry[processor.registry.default], [jpeg(photo("coffee.png"))], judge=False
    )
    verifier = processor.verifier
    verifier._most = 3
    for number in range(6):
        verifier._remember(f"images/{number}", found.features)
    assert list(verifier._held) == ["images/3", "images/4", "images/5"]
    assert np.all([len(one) > 0 for one in verifier._held.values()])
