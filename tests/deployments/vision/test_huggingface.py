"""The Hugging Face source, on tiny models of real classes that the tests make and save: no hub is asked."""

from pathlib import Path

import pytest
import torch
from transformers import (
    ViTConfig,
    ViTForImageClassification,
    ViTImageProcessorPil,
    ViTModel,
    YolosConfig,
    YolosForObjectDetection,
    YolosImageProcessorPil,
)

from configs.models import DescriptorSpec, DetectorSpec, FilterSpec
from configs.settings import Settings
from deployments.vision.factory import build_descriptor, build_detector, build_filter
from deployments.vision.interfaces import ContentFilter, Descriptor, Detector
from storage.errors import ConfigurationError
from tests.deployments.vision.contracts import DescriptorContract, DetectorContract, FilterContract

CPU = Settings(device="cpu")
TINY = {
    "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64, "patch_size": 16,
}  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    return tmp_path_factory.mktemp("huggingface")


class TestDescriptor(DescriptorContract):
    @pytest.fixture(scope="class")
    def network(self, folder: Path) -> Descriptor:
        where = folder / "vit"
        ViTModel(ViTConfig(image_size=64, **TINY)).save_pretrained(where)
        ViTImageProcessorPil(size={"height": 64, "width": 64}).save_pretrained(where)
        return build_descriptor(
            DescriptorSpec(name="vit@1", source="huggingface", path=str(where), input_size=64, dim=32), CPU
        )


class TestDetector(DetectorContract):
    @pytest.fixture(scope="class")
    def network(self, folder: Path) -> Detector:
        where = folder / "yolos"
        config = YolosConfig(image_size=[64, 64], num_detection_tokens=10, id2label={0: "cat", 1: "tram"}, **TINY)
        YolosForObjectDetection(config).save_pretrained(where)
        YolosImageProcessorPil().save_pretrained(where)
        spec = DetectorSpec(name="yolos@1", source="huggingface", path=str(where), input_size=64, min_score=0.1)
        return build_detector(spec, CPU)

    def test_labels_are_the_models_own(self, network: Detector) -> None:
        import numpy as np

        frames = np.random.default_rng(0).integers(0, 256, (1, 64, 64, 3), np.uint8)
        (boxes,) = network.finish(network.forward(frames), [(64, 64)])
        assert boxes and {box.label for box in boxes} <= {"cat", "tram"}


class TestFilter(FilterContract):
    @pytest.fixture(scope="class")
    def network(self, folder: Path) -> ContentFilter:
        where = folder / "classifier"
        config = ViTConfig(image_size=64, id2label={0: "safe", 1: "unsafe", 2: "suggestive"}, **TINY)
        ViTForImageClassification(config).save_pretrained(where)
        ViTImageProcessorPil(size={"height": 64, "width": 64}).save_pretrained(where)
        return build_filter(
            FilterSpec(name="vit@1", source="huggingface", path=str(where), input_size=64, unsafe=[1, 2]), CPU
        )


def test_a_folder_without_a_model_is_named(tmp_path: Path) -> None:
    spec = DescriptorSpec(name="none@1", source="huggingface", path=str(tmp_path), input_size=64, dim=32)
    with pytest.raises(ConfigurationError, match=r"none@1 cannot be loaded"):
        build_descriptor(spec, CPU)


def test_a_class_that_the_model_lacks_is_named(folder: Path) -> None:
    where = folder / "two"
    ViTForImageClassification(ViTConfig(image_size=64, num_labels=2, **TINY)).save_pretrained(where)
    ViTImageProcessorPil(size={"height": 64, "width": 64}).save_pretrained(where)
    spec = FilterSpec(name="two@1", source="huggingface", path=str(where), input_size=64, unsafe=[5])
    with pytest.raises(ConfigurationError, match="has 2 classes; unsafe names 5"):
        build_filter(spec, CPU)
