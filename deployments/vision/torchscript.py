"""Descriptors from TorchScript files, as published copy-detection networks come. Knows nothing of Ray."""

import numpy as np
import torch
from numpy.typing import NDArray

from configs.models import DescriptorSpec
from configs.settings import Settings
from deployments.vision.devices import torch_device, torch_dtype
from deployments.vision.interfaces import unit_length
from deployments.vision.onnx_networks import normalise
from deployments.vision.weights import weights_file
from storage.errors import ConfigurationError


class TorchScriptDescriptor:
    """A module that turns float[n, 3, s, s] into float[n, dim].

    Raises:
        ConfigurationError: the file is missing, damaged or not TorchScript.
    """

    def __init__(self, spec: DescriptorSpec, settings: Settings) -> None:
        self.input_size, self.dim = spec.input_size, spec.dim
        self._spec = spec
        self._device, self._dtype = torch_device(settings), torch_dtype(settings)
        path = weights_file(spec)
        try:
            self._module = torch.jit.load(str(path), map_location=self._device).to(self._dtype).eval()
        except RuntimeError as error:
            raise ConfigurationError(f"{spec.name} cannot be loaded from {path}: not a TorchScript file") from error

    @torch.inference_mode()  # type: ignore[untyped-decorator]
    def forward(self, frames: NDArray[np.uint8]) -> NDArray[np.float32]:
        """See ``Descriptor.forward``."""
        values = torch.from_numpy(normalise(self._spec, frames)).to(self._device, self._dtype)
        vectors = self._module(values).float().cpu().numpy()
        if vectors.shape != (len(frames), self.dim):
            raise ValueError(f"{self._spec.name} gave {list(vectors.shape)}, models.yaml says dim {self.dim}")
        return unit_length(vectors)
