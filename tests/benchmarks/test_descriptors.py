"""The descriptors benchmark: another side is the same network; exact search is measured as it is."""

from pathlib import Path

import numpy as np
import pytest

from benchmarks.descriptors import pictures_per_second, quality, resized, vectors_of
from configs.models import load_models
from configs.settings import Settings
from deployments.vision.factory import build_descriptor
from deployments.vision.interfaces import Descriptor
from deployments.vision.weights import weights_file
from tests.service.pictures import photo


@pytest.fixture(scope="module")
def larger(tmp_path_factory: pytest.TempPathFactory) -> Descriptor:
    settings = Settings()
    registry = load_models(settings.models_file)
    spec = registry[registry.default].descriptor
    side = spec.input_size + 32
    path: Path = resized(weights_file(spec), side, tmp_path_factory.mktemp("weights"))
    return build_descriptor(
        spec.model_copy(update={"path": str(path), "sha256": None, "input_size": side}), settings
    )  # fmt: skip


def test_another_side_still_knows_the_picture(larger: Descriptor) -> None:
    pictures = [np.asarray(photo(name).convert("RGB")) for name in ("astronaut.png", "rocket.jpg", "coffee.png")]
    changed = [np.ascontiguousarray(one[:, ::-1] // 2 + 60) for one in pictures]
    assert vectors_of(larger, pictures).shape == (3, larger.dim)
    found = quality(larger, pictures, changed, {0: 0, 1: 1, 2: 2})
    assert (found.average_precision, found.recall_at_1) == (1.0, 1.0)
    assert quality(larger, pictures, changed, {0: 1, 1: 2, 2: 0}).recall_at_1 == 0.0


def test_speed_is_measured_of_each(larger: Descriptor) -> None:
    assert pictures_per_second({"larger": larger})["larger"] > 1
