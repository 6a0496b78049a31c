"""Looking at pictures: regions worth a vector, a broken picture alone, the same answer for one as for many."""

import hashlib
from pathlib import Path

import numpy as np
import pytest

from benchmarks.descriptors import resized
from configs.models import DescriptorSpec, ModelSpec, load_models
from configs.settings import Settings
from deployments.pipeline.look import Look, choose_regions, look
from deployments.pipeline.networks import LocalNetworks
from deployments.vision.factory import build_shapes
from deployments.vision.interfaces import Box
from storage.errors import SafeGuardError, TooLarge, UnsupportedImage
from tests.service.pictures import edited, jpeg, photo

SHAPE = next(iter(build_shapes(load_models(Settings().models_file)).values()))
LIMITS = {"max_pixels": 10**8, "long_side": 1024}


def box(score: float, *corners: float) -> Box:
    return Box("thing", score, *corners)


def test_regions_are_ranked_by_score_and_size() -> None:
    small, large, sure = box(0.9, 0, 0, 30, 30), box(0.6, 0, 0, 80, 80), box(0.95, 10, 10, 60, 60)
    found = choose_regions([small, large, sure], (100, 100), most=3, min_share=0.05)
    # score × root of the area: 0.27, 0.48, 0.475
    np.testing.assert_allclose(found, [[0, 0, 0.8, 0.8], [0.1, 0.1, 0.6, 0.6], [0, 0, 0.3, 0.3]], atol=1e-6)
    assert len(choose_regions([small, large, sure], (100, 100), most=1, min_share=0.05)) == 1


def test_regions_that_say_nothing_are_left_out() -> None:
    tiny, everything, outside = box(0.9, 0, 0, 10, 10), box(0.9, 0, 0, 100, 96), box(0.9, -50, -50, -10, 60)
    assert choose_regions([tiny, everything, outside], (100, 100), most=3, min_share=0.05) == []
    beyond = choose_regions([box(0.9, -20, 10, 60, 300)], (100, 200), most=3, min_share=0.05)
    np.testing.assert_allclose(beyond, [[0, 0.05, 0.6, 1]], atol=1e-6)
    assert choose_regions([box(0.9, 0, 0, 50, 50)], (100, 100), most=0, min_share=0.05) == []


async def test_a_broken_picture_fails_alone(networks: LocalNetworks, shipped: ModelSpec) -> None:
    astronaut, rocket = jpeg(photo("astronaut.png")), jpeg(photo("rocket.jpg"))
    files = [b"", astronaut, astronaut[: len(astronaut) // 3], rocket, b"GIF89a"]
    seen = await look(networks, shipped, SHAPE, files, **LIMITS)
    assert [isinstance(one, Look) for one in seen] == [False, True, False, True, False]
    assert all(isinstance(seen[place], UnsupportedImage) for place in (0, 2, 4))
    good = seen[1]
    assert isinstance(good, Look) and good.sha256 == hashlib.sha256(astronaut).digest()
    assert [one.label for one in good.boxes] == ["person"] and 0 <= (good.unsafe or -1) < 0.5
    names = [view.name for view in good.views]
    assert names == ["whole", *["part"] * 5, "region", "turned 90°", "turned 180°", "turned 270°", *["quarter"] * 4]
    assert good.stored == 7 and list(good.vectors) == [shipped.descriptor_name]
    vectors = good.vectors[shipped.descriptor_name]
    assert vectors.shape == (len(names), shipped.descriptor.dim)
    shapes = [view.name for view in good.shape_views]
    assert shapes == ["whole", *["part"] * 9, "mirrored", "turned 90°", "turned 180°", "turned 270°"]
    assert good.stored_shapes == 10 and good.shapes.shape == (len(shapes), 128)
    assert good.details is not None and len(good.details.points) > 100 and good.details.contours.cells.max() == 255
    assert good.grey.shape == (160, 160) and good.inner is None
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-4)
    assert good.pdq.shape == (8, 32) and good.pdq_quality >= 50


async def test_only_broken_pictures(networks: LocalNetworks, shipped: ModelSpec) -> None:
    seen = await look(networks, shipped, SHAPE, [b"no", b"picture"], **LIMITS)
    assert [type(one) for one in seen] == [UnsupportedImage] * 2
    assert "not an image" in str(seen[0])
    (large,) = await look(networks, shipped, SHAPE, [jpeg(photo("coffee.png"))], max_pixels=100, long_side=1024)
    assert isinstance(large, TooLarge)
    assert await look(networks, shipped, SHAPE, [], **LIMITS) == []


async def test_together_is_the_same_as_alone(networks: LocalNetworks, shipped: ModelSpec) -> None:
    files = [jpeg(photo(name)) for name in ("coffee.png", "rocket.jpg", "camera.png", "coins.png")]
    together = await look(networks, shipped, SHAPE, files, **LIMITS)
    for data, one in zip(files, together, strict=True):
        (alone,) = await look(networks, shipped, SHAPE, [data], **LIMITS)
        assert isinstance(one, Look) and isinstance(alone, Look)
        assert [found.label for found in one.boxes] == [found.label for found in alone.boxes]
        assert [view.name for view in one.views] == [view.name for view in alone.views]
        np.testing.assert_allclose([view.box for view in one.views], [view.box for view in alone.views], atol=1e-3)
        np.testing.assert_allclose(one.shapes, alone.shapes, atol=1e-6)
        mine, other = (seen.vectors[shipped.descriptor_name] for seen in (one, alone))
        assert np.all((mine * other).sum(axis=1) > 0.999)
        assert one.unsafe == pytest.approx(alone.unsafe, abs=1e-3)


async def test_without_the_content_filter(networks: LocalNetworks, shipped: ModelSpec) -> None:
    coffee = jpeg(photo("coffee.png"))
    (judged,), (free,) = [
        await look(networks, shipped, SHAPE, [coffee], judge=judge, **LIMITS) for judge in (True, False)
    ]
    assert not isinstance(judged, SafeGuardError) and not isinstance(free, SafeGuardError)
    assert judged.unsafe is not None and free.unsafe is None
    none = shipped.model_copy(update={"content_filter": None})
    (unfiltered,) = await look(networks, none, SHAPE, [coffee], **LIMITS)
    assert isinstance(unfiltered, Look) and unfiltered.unsafe is None


async def test_a_picture_without_views_shape_and_verification(networks: LocalNetworks, shipped: ModelSpec) -> None:
    plain = shipped.model_copy(update={"views": False, "shape": None, "verified": 0, "max_regions": 0})
    (found,) = await look(networks, plain, None, [jpeg(photo("coffee.png"))], **LIMITS)
    assert isinstance(found, Look) and [view.name for view in found.views] == ["whole"]
    assert found.vectors[plain.descriptor_name].shape == (1, plain.descriptor.dim)
    assert found.shapes.size == 0 and found.details is None


async def test_a_bordered_picture_is_also_seen_without_its_border(networks: LocalNetworks, shipped: ModelSpec) -> None:
    (found,) = await look(networks, shipped, SHAPE, [edited("coffee.png", "border")], **LIMITS)
    assert isinstance(found, Look) and found.views[-1].name == "without margins"
    np.testing.assert_allclose(found.views[-1].box, [0.07, 0.09, 0.93, 0.91], atol=0.03)
    assert found.shape_views[-1].name == "without margins, mirrored"
    assert found.shape_views[-1].box == found.views[-1].box == found.inner


class Counting:
    """Real networks, and which of them were called with how many frames of which side."""

    def __init__(self, inner: LocalNetworks) -> None:
        self._inner = inner
        self.detected, self.embedded = 0, []

    async def detect(self, *arguments: object) -> object:
        self.detected += 1
        return await self._inner.detect(*arguments)  # type: ignore[arg-type]

    async def embed(self, descriptor: DescriptorSpec, frames: np.ndarray) -> np.ndarray:
        self.embedded.append((descriptor.name, *frames.shape[:2]))
        return await self._inner.embed(descriptor, frames)


async def test_several_descriptors_of_the_same_views(
    networks: LocalNetworks, shipped: ModelSpec, tmp_path: Path
) -> None:
    file = resized(shipped.descriptor.file, 96, tmp_path)
    small = shipped.descriptor.model_copy(
        update={"name": "small@1", "path": str(file), "sha256": None, "input_size": 96}
    )
    twin = shipped.descriptor.model_copy(update={"name": "twin@1"})
    counting = Counting(networks)
    picture = [jpeg(photo("astronaut.png"))]
    (found,) = await look(counting, shipped, SHAPE, picture, others=[small, twin], **LIMITS)  # type: ignore[arg-type]
    (alone,) = await look(networks, shipped, SHAPE, picture, **LIMITS)
    assert isinstance(found, Look) and isinstance(alone, Look)
    own = shipped.descriptor_name
    assert list(found.vectors) == [own, "small@1", "twin@1"] and [view.name for view in found.views] == [
        view.name for view in alone.views
    ]
    np.testing.assert_allclose(found.vectors[own], alone.vectors[own], atol=1e-6)
    np.testing.assert_allclose(found.vectors["twin@1"], alone.vectors[own], atol=1e-6)
    alike = (found.vectors["small@1"] * found.vectors[own]).sum(axis=1)
    assert np.all(alike > 0.5) and np.all(alike < 0.999), "another side, the same views in the same order"
    assert counting.detected == 1
    side = shipped.descriptor.input_size
    early = [(own, 13, side), ("small@1", 13, 96), ("twin@1", 13, side)]
    assert sorted(counting.embedded) == sorted(early + [(name, 1, size) for name, _, size in early])
