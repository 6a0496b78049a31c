"""The networks that ship with the project, on real pictures; and files that are not what they should be."""

import subprocess
import sys

import numpy as np
import pytest
from skimage import data

from configs.models import ModelSpec, load_models
from configs.settings import Settings
from deployments.vision.factory import build_descriptor, build_detector, build_filter
from deployments.vision.interfaces import ContentFilter, Descriptor, Detector, prepare_square
from storage.errors import ConfigurationError
from tests.deployments.vision.contracts import DescriptorContract, DetectorContract, FilterContract


@pytest.fixture(scope="module")
def model() -> ModelSpec:
    registry = load_models(Settings().models_file)
    return registry[registry.default]


class TestDescriptor(DescriptorContract):
    @pytest.fixture(scope="class")
    def network(self, model: ModelSpec) -> Descriptor:
        return build_descriptor(model.descriptor, Settings())

    def test_a_copy_is_nearer_than_a_stranger(self, network: Descriptor) -> None:
        cat, mirrored, coffee = data.chelsea(), data.chelsea()[:, ::-1], data.coffee()
        vectors = network.forward(
            np.stack([prepare_square(one, network.input_size) for one in (cat, mirrored, coffee)])
        )
        assert vectors[0] @ vectors[1] > 0.9 > 0.6 > vectors[0] @ vectors[2]


class TestDetector(DetectorContract):
    @pytest.fixture(scope="class")
    def network(self, model: ModelSpec) -> Detector:
        return build_detector(model.detector, Settings())

    def test_it_sees_the_astronaut_and_the_motorcycle(self, network: Detector) -> None:
        pictures = [data.astronaut(), data.stereo_motorcycle()[0]]
        sizes = [(picture.shape[1], picture.shape[0]) for picture in pictures]
        frames = np.stack([prepare_square(picture, network.input_size) for picture in pictures])
        person, motorcycle = (found[0] for found in network.finish(network.forward(frames), sizes))
        assert (person.label, motorcycle.label) == ("person", "motorcycle")
        # The motorcycle stands at about (105, 75) to (690, 455) of 741 × 500 pixels, seen by eye.
        box = (motorcycle.x0, motorcycle.y0, motorcycle.x1, motorcycle.y1)
        assert np.abs(np.asarray(box) - (105, 75, 690, 455)).max() < 30


class TestFilter(FilterContract):
    @pytest.fixture(scope="class")
    def network(self, model: ModelSpec) -> ContentFilter:
        assert model.content_filter is not None
        return build_filter(model.content_filter, Settings())

    def test_harmless_pictures_are_harmless(self, network: ContentFilter) -> None:
        frames = np.stack([prepare_square(one, network.input_size) for one in (data.chelsea(), data.coffee())])
        assert network.forward(frames).max() < 0.1


def test_damaged_missing_and_foreign_weights_are_named(model: ModelSpec, tmp_path) -> None:
    whole = model.descriptor.file.read_bytes()
    cut = tmp_path / "cut.onnx"
    cut.write_bytes(whole[: len(whole) // 2])
    settings = Settings()
    with pytest.raises(ConfigurationError, match=r"damaged or of another version.*cut\.onnx"):
        build_descriptor(model.descriptor.model_copy(update={"path": str(cut)}), settings)
    with pytest.raises(ConfigurationError, match="cannot be loaded"):
        build_descriptor(model.descriptor.model_copy(update={"path": str(cut), "sha256": None}), settings)
    with pytest.raises(ConfigurationError, match="are missing"):
        build_descriptor(model.descriptor.model_copy(update={"path": "models/none.onnx"}), settings)
    with pytest.raises(ConfigurationError, match="needs the package"):
        build_descriptor(model.descriptor.model_copy(update={"package": "no_such_package_here"}), settings)
    with pytest.raises(ConfigurationError, match="not from torchscript"):
        build_detector(model.detector.model_copy(update={"source": "torchscript"}), settings)
    wrong = build_descriptor(model.descriptor.model_copy(update={"dim": 512}), settings)
    side = model.descriptor.input_size
    with pytest.raises(ValueError, match="says dim 512"):
        wrong.forward(np.zeros((1, side, side, 3), np.uint8))


def test_memory_of_large_batches_is_freed_and_taken_again() -> None:
    code = """
import ctypes
import numpy as np, psutil
from configs.models import load_models
from configs.settings import Settings
from deployments.vision.factory import build_detector, release

registry = load_models(Settings().models_file)
network = build_detector(registry[registry.default].detector, Settings())
frames = np.random.default_rng(3).integers(0, 256, (16, network.input_size, network.input_size, 3), np.uint8)

def held():
    return psutil.Process().memory_info().rss / 2**20

loaded = held()
before = [one.copy() for one in network.forward(frames)]  # outputs are part of the arena
full = held()
release([network, object()])
ctypes.CDLL(None).malloc_trim(0)
print(full - loaded, held() - loaded, all(np.array_equal(one, other) for one, other in zip(before, network.forward(frames))))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    full, left, same = done.stdout.split()
    assert float(full) > 150 and float(left) < 50 and same == "True", done.stdout
