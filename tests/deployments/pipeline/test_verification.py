"""Verification on real servers: details are kept, made anew where they are gone, and never end a search."""

from collections.abc import Callable

import cv2
import numpy as np
import pytest
from PIL import Image

from configs.models import ModelSpec
from deployments.pipeline.matching import Candidate
from deployments.pipeline.processor import Processor
from deployments.vision.details import Details
from deployments.vision.template import FIELD_BYTES
from storage.errors import NotFound
from storage.features import features_key
from storage.uploads import remove
from tests.deployments.pipeline.conftest import Upload, as_corpus, refused, run_queue
from tests.service.pictures import edited, jpeg, photo


async def ask(processor: Processor, model: ModelSpec, *ids: int | None) -> list[Candidate]:
    (found,) = await processor.look(model, [edited("astronaut.png", "crop50")], judge=False)
    candidates = [Candidate(number or 0) for number in ids]
    processor.linker.verifier._held.clear()
    await processor.linker.verifier.verify(model, found, candidates)
    return candidates


async def test_details_lie_beside_the_picture(processor: Processor, put: Upload, model: ModelSpec) -> None:
    astronaut, coffee = await put(jpeg(photo("astronaut.png"))), await put(jpeg(photo("coffee.png")))
    await run_queue(processor)
    kept = Details.from_bytes(await processor.objects.get(features_key(astronaut.s3_path)))
    assert len(kept.points) > 100 and kept.contours.cells.any()
    right, wrong = await ask(processor, model, astronaut.id, coffee.id)
    assert right.alignment is not None and right.alignment.inliers > 50
    assert right.alignment.stored_overlap == pytest.approx(0.5, abs=0.05)
    assert wrong.alignment is None or wrong.alignment.inliers < 8


def written_by_version_1(good: bytes) -> bytes:
    return good[FIELD_BYTES:]  # local features alone


def of_another_version(good: bytes) -> bytes:
    return good[: FIELD_BYTES + 4] + b"\x63" + good[FIELD_BYTES + 5 :]


DAMAGES = [None, lambda _: b"", lambda _: b"rubbish", lambda good: good[:-7], written_by_version_1, of_another_version]


async def test_what_local_features_cannot_tell_is_told_by_contours(
    processor: Processor, put: Upload, model: ModelSpec
) -> None:
    astronaut, coffee = await put(jpeg(photo("astronaut.png"))), await put(jpeg(photo("coffee.png")))
    await run_queue(processor)
    drawn = Image.fromarray(255 - cv2.Canny(cv2.GaussianBlur(np.asarray(photo("astronaut.png")), (0, 0), 1.5), 60, 140))
    part = drawn.convert("RGB").crop((0, 0, int(drawn.width * 0.75), int(drawn.height * 0.75)))
    (found,) = await processor.look(model, [jpeg(part)], judge=False)
    candidates = [Candidate(astronaut.id or 0), Candidate(coffee.id or 0)]
    await processor.linker.verifier.verify(model, found, candidates)
    right, wrong = candidates
    assert right.alignment is None or right.alignment.inliers < 20
    assert right.template is not None and right.template.score > 0.25
    np.testing.assert_allclose(right.template.stored_box, (0, 0, 0.75, 0.75), atol=0.08)
    assert wrong.scores.template < 0.1


async def test_a_settled_candidate_spares_the_contours(processor: Processor, put: Upload, model: ModelSpec) -> None:
    astronaut, coffee = await put(jpeg(photo("astronaut.png"))), await put(jpeg(photo("coffee.png")))
    await run_queue(processor)
    candidates = await ask(processor, model, astronaut.id, coffee.id)
    assert all(one.template is None for one in candidates)


@pytest.mark.parametrize("damage", DAMAGES)
async def test_lost_or_damaged_details_are_made_anew(
    processor: Processor, put: Upload, model: ModelSpec, damage: Callable[[bytes], bytes] | None
) -> None:
    image = await put(jpeg(photo("astronaut.png")))
    await run_queue(processor)
    key = features_key(image.s3_path)
    good = await processor.objects.get(key)
    if damage is None:
        await processor.objects.delete(key)
    else:
        await processor.objects.put(key, damage(good), "application/octet-stream")
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


async def test_a_picture_that_is_refused_has_no_alignment(processor: Processor, put: Upload, model: ModelSpec) -> None:
    image = await put(jpeg(photo("astronaut.png")))
    await run_queue(processor)
    with refused(processor, await as_corpus(processor, image)) as limited:
        (one,) = await ask(limited, model, image.id)
    assert one.alignment is None


async def test_only_so_many_details_are_held(processor: Processor) -> None:
    (found,) = await processor.look(
        processor.registry[processor.registry.default], [jpeg(photo("coffee.png"))], judge=False
    )
    verifier = processor.linker.verifier
    verifier._most = 3
    for number in range(6):
        verifier._remember((f"images/{number}", found.sha256), found.details)
    assert [path for path, _ in verifier._held] == ["images/3", "images/4", "images/5"]
    assert (await verifier._details(("images/5", found.sha256))) is found.details
    assert (await verifier._details(("images/5", bytes(32)))) is None, "another picture lies there by now"
    assert np.all([len(one.points) > 0 for one in verifier._held.values()])
