"""TorchScript descriptors, on a tiny network that the test scripts itself."""

from pathlib import Path

import pytest
import torch

from configs.models import DescriptorSpec
from configs.settings import Settings
from deployments.vision.factory import build_descriptor
from deployments.vision.interfaces import Descriptor
from storage.errors import ConfigurationError
from tests.deployments.vision.contracts import DescriptorContract


def spec(path: Path) -> DescriptorSpec:
    return DescriptorSpec(name="tiny@1", source="torchscript", path=str(path), input_size=32, dim=16, std=(255,) * 3)


class TestTorchScript(DescriptorContract):
    @pytest.fixture(scope="class")
    def network(self, tmp_path_factory: pytest.TempPathFactory) -> Descriptor:
        torch.manual_seed(0)
        module = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 5, 2), torch.nn.ReLU(), torch.nn.AdaptiveAvgPool2d(4),
                                     torch.nn.Flatten(), torch.nn.Linear(128, 16))  # fmt: skip
        path = tmp_path_factory.mktemp("torchscript") / "tiny.pt"
        torch.jit.script(module).save(str(path))
        return build_descriptor(spec(path), Settings(device="cpu"))


def test_another_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "not.pt"
    path.write_bytes(b"not a network")
    with pytest.raises(ConfigurationError, match="not a TorchScript file"):
        build_descriptor(spec(path), Settings(device="cpu"))


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_a_gpu_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="SAFEGUARD_DEVICE=cuda"):
        build_descriptor(spec(tmp_path / "tiny.pt"), Settings(device="cuda"))
