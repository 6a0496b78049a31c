"""What was seen comes back as it was; anything else is refused."""

import asyncio

import numpy as np
import pytest
from PIL import Image

from configs.models import load_models
from configs.settings import Settings
from deployments.bulk import looks
from deployments.pipeline.look import Look, look
from deployments.pipeline.networks import LocalNetworks
from deployments.vision.shape import ShapeDescriptor
from tests.service.pictures import jpeg, photo


@pytest.fixture(scope="module")
def seen() -> list[tuple[int, Look]]:
    registry = load_models(Settings.model_fields["models_file"].default)
    shipped = registry[registry.default]
    assert shipped.shape is not None
    files = [jpeg(photo("astronaut.png")), jpeg(Image.new("RGB", (120, 90), (200, 30, 30))), jpeg(photo("coffee.png"))]
    networks, shape = LocalNetworks(shipped, Settings()), ShapeDescriptor(shipped.shape)
    found = asyncio.run(look(networks, shipped, shape, files, max_pixels=10**8, long_side=1024))
    return [(7 * number, one) for number, one in enumerate(found) if isinstance(one, Look)]


def test_it_comes_back(seen: list[tuple[int, Look]]) -> None:
    held = looks.from_bytes(looks.to_bytes(seen))
    assert [image_id for image_id, _ in held] == [image_id for image_id, _ in seen] == [0, 7, 14]
    for (_, before), (_, after) in zip(seen, held, strict=True):
        for name in ("pdq", "shapes", "grey"):
            was, now = getattr(before, name), getattr(after, name)
            assert was.dtype == now.dtype and np.array_equal(was, now), name
        assert list(before.vectors) == list(after.vectors) == ["lite0-copy@2"]
        assert np.array_equal(before.vectors["lite0-copy@2"], after.vectors["lite0-copy@2"])
        for name in ("sha256", "pdq_quality", "boxes", "unsafe", "views", "shape_views", "inner", "semantic", "stored"):
            assert getattr(before, name) == getattr(after, name), name
        assert before.details is not None and after.details is not None
        assert before.details.to_bytes() == after.details.to_bytes()


def test_none_at_all() -> None:
    assert looks.from_bytes(looks.to_bytes([])) == []


@pytest.mark.parametrize("share", [0.0, 0.3, 0.999])
def test_cut_short(seen: list[tuple[int, Look]], share: float) -> None:
    whole = looks.to_bytes(seen)
    with pytest.raises(ValueError, match="cut short"):
        looks.from_bytes(whole[: int(share * len(whole))])


def test_another_version(seen: list[tuple[int, Look]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(looks, "VERSION", 2)
    later = looks.to_bytes(seen)
    monkeypatch.undo()
    with pytest.raises(ValueError, match="version 2, not 1"):
        looks.from_bytes(later)
