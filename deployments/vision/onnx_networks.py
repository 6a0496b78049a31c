"""Networks from ONNX files through ONNX Runtime: the embedded default, on a CPU or a GPU. Knows nothing of Ray."""

import os
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from configs.models import DescriptorSpec, DetectorSpec, FilterSpec, NetworkSpec
from configs.settings import Settings
from deployments.vision import nanodet
from deployments.vision.interfaces import Box, unit_length
from deployments.vision.weights import weights_file
from storage.errors import ConfigurationError


def network_threads(settings: Settings) -> int:
    """Threads of one network call: the setting's, else what Ray gave the replica (OMP_NUM_THREADS), at least 1."""
    share = os.environ.get("OMP_NUM_THREADS", "")
    return settings.model_threads or (max(1, int(share)) if share.isdigit() else 1)


def normalise(spec: NetworkSpec, frames: NDArray[np.uint8]) -> NDArray[np.float32]:
    """float32 frames as the network takes them: [n, 3, s, s] or [n, s, s, 3].

    Raises:
        ValueError: the frames are not uint8[n, input_size, input_size, 3].
    """
    side = spec.input_size
    if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[1:] != (side, side, 3):
        raise ValueError(f"{spec.name} takes uint8[n, {side}, {side}, 3], got {frames.dtype}{list(frames.shape)}")
    pixels = frames if spec.channels == "rgb" else frames[..., ::-1]
    values = (pixels.astype(np.float32) - np.asarray(spec.mean, np.float32)) / np.asarray(spec.std, np.float32)
    return np.ascontiguousarray(values.transpose(0, 3, 1, 2) if spec.layout == "nchw" else values)


class OnnxNetwork:
    """One session of ONNX Runtime.

    Args:
        spec: file, checksum and normalisation.
        settings: device and threads.
    Raises:
        ConfigurationError: the file is missing, damaged, or not a network that this version reads.
    """

    def __init__(self, spec: NetworkSpec, settings: Settings) -> None:
        self.spec = spec
        self._settings = settings
        self._session = self._opened()
        self._input = self._session.get_inputs()[0].name
        batch = self._session.get_inputs()[0].shape[0]
        self._one_by_one = isinstance(batch, int) and batch == 1

    def _opened(self) -> Any:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = network_threads(self._settings)
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        # Replicas share cores: a thread that spins while it waits takes them from the others.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        providers = ["CPUExecutionProvider"]
        if self._settings.device != "cpu" and "CUDAExecutionProvider" in onnxruntime.get_available_providers():
            providers.insert(0, "CUDAExecutionProvider")
        path = weights_file(self.spec)
        try:
            return onnxruntime.InferenceSession(str(path), options, providers=providers)
        except Exception as error:
            raise ConfigurationError(
                f"{self.spec.name} cannot be loaded from {path}: not a network we can run"
            ) from error

    def run(self, frames: NDArray[np.uint8]) -> list[NDArray[Any]]:
        """The outputs of the network, each [n, …]."""
        values = normalise(self.spec, frames)
        return self.run_values(values)

    def run_values(self, values: NDArray[np.float32]) -> list[NDArray[Any]]:
        """As ``run``, for frames that are normalised already."""
        session = self._session
        if self._one_by_one and len(values) > 1:
            parts = [session.run(None, {self._input: values[i : i + 1]}) for i in range(len(values))]
            return [np.concatenate(outputs) for outputs in zip(*parts, strict=True)]
        return list(session.run(None, {self._input: values}))

    def release(self) -> None:
        """Loads the network anew: its arena keeps what the largest batch so far has taken, and its own shrinking leaves half."""
        self._session = self._opened()


class OnnxDescriptor:
    """A descriptor whose first output is float[n, dim]."""

    def __init__(self, spec: DescriptorSpec, settings: Settings) -> None:
        self.input_size, self.dim = spec.input_size, spec.dim
        self._network = OnnxNetwork(spec, settings)

    def forward(self, frames: NDArray[np.uint8]) -> NDArray[np.float32]:
        """See ``Descriptor.forward``."""
        vectors = self._network.run(frames)[0]
        if vectors.shape != (len(frames), self.dim):
            raise ValueError(f"{self._network.spec.name} gave {list(vectors.shape)}, models.yaml says dim {self.dim}")
        return unit_length(vectors.astype(np.float32))

    def release(self) -> None:
        """See ``Releasable.release``."""
        self._network.release()


class OnnxNanoDet:
    """NanoDet; its outputs become boxes in ``nanodet.boxes``."""

    def __init__(self, spec: DetectorSpec, settings: Settings) -> None:
        self.input_size = spec.input_size
        self._spec = spec
        self._network = OnnxNetwork(spec, settings)

    def forward(self, frames: NDArray[np.uint8]) -> list[NDArray[np.float32]]:
        """Class scores and distances of the three levels, each float32[n, cells, 80 or 44]."""
        return self._network.run(frames)

    def finish(self, raw: list[NDArray[np.float32]], sizes: list[tuple[int, int]]) -> list[list[Box]]:
        """See ``Detector.finish``."""
        return [
            nanodet.boxes(
                [output[place] for output in raw],
                size,
                side=self.input_size,
                min_score=self._spec.min_score,
                max_overlap=self._spec.max_overlap,
            )
            for place, size in enumerate(sizes)
        ]

    def release(self) -> None:
        """See ``Releasable.release``."""
        self._network.release()


class OnnxFilter:
    """A classifier; the probabilities of its unsafe classes are added."""

    def __init__(self, spec: FilterSpec, settings: Settings) -> None:
        self.input_size = spec.input_size
        self._spec = spec
        self._network = OnnxNetwork(spec, settings)

    def forward(self, frames: NDArray[np.uint8]) -> NDArray[np.float32]:
        """See ``ContentFilter.forward``."""
        values = normalise(self._spec, frames)
        if self._spec.crop:
            edge = (self.input_size - self._spec.crop) // 2
            inside = slice(edge, edge + self._spec.crop)
            values = values[:, inside, inside] if self._spec.layout == "nhwc" else values[:, :, inside, inside]
        outputs = self._network.run_values(np.ascontiguousarray(values))[0].astype(np.float32)
        if self._spec.logits:
            exponents = np.exp(outputs - outputs.max(axis=1, keepdims=True))
            outputs = exponents / exponents.sum(axis=1, keepdims=True)
        return np.asarray(np.clip(outputs[:, self._spec.unsafe].sum(axis=1), 0.0, 1.0), np.float32)

    def release(self) -> None:
        """See ``Releasable.release``."""
        self._network.release()
