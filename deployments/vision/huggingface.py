"""Networks of Hugging Face, by id or folder, through transformers' Auto classes. Knows nothing of Ray."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import (
    AutoImageProcessor,
    AutoModel,
    AutoModelForImageClassification,
    AutoModelForObjectDetection,
)

from configs.models import DescriptorSpec, DetectorSpec, FilterSpec, NetworkSpec
from configs.settings import Settings
from deployments.vision.devices import torch_device, torch_dtype
from deployments.vision.interfaces import Box, unit_length
from storage.errors import ConfigurationError


class HuggingFaceNetwork:
    """A model and its processor. The processor only normalises: frames come with the size that the model takes.

    Args:
        auto: the Auto class that builds it.
        spec: folder or hub id, and its revision.
        settings: device and precision.
    Raises:
        ConfigurationError: the folder or hub id cannot be loaded.
    """

    def __init__(self, auto: Any, spec: NetworkSpec, settings: Settings) -> None:
        self.spec = spec
        self.device, self.dtype = torch_device(settings), torch_dtype(settings)
        where = str(spec.file) if spec.file.is_dir() else spec.path
        try:
            # backend="pil": the default needs torchvision, which this project does not carry.
            self.processor = AutoImageProcessor.from_pretrained(where, revision=spec.revision, backend="pil")
            self.model = auto.from_pretrained(where, revision=spec.revision, dtype=self.dtype).to(self.device).eval()
        except (OSError, ValueError, KeyError, ImportError) as error:
            raise ConfigurationError(
                f"{spec.name} cannot be loaded from {where}: neither a folder with a model and its "
                f"preprocessor_config.json, nor a hub model that can be reached ({type(error).__name__})"
            ) from error

    @torch.inference_mode()  # type: ignore[untyped-decorator]
    def run(self, frames: NDArray[np.uint8]) -> Any:
        """The model's output for uint8[n, s, s, 3] frames.

        Raises:
            ValueError: the frames have another size.
        """
        side = self.spec.input_size
        if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[1:] != (side, side, 3):
            raise ValueError(f"{self.spec.name} takes uint8[n, {side}, {side}, 3], got {list(frames.shape)}")
        inputs = self.processor(
            images=list(frames), return_tensors="pt", do_resize=False, do_center_crop=False, do_pad=False
        )
        return self.model(inputs["pixel_values"].to(self.device, self.dtype))


class HuggingFaceDescriptor:
    """``AutoModel``: the pooled output where the model has one, else the mean over the last hidden states."""

    def __init__(self, spec: DescriptorSpec, settings: Settings) -> None:
        self.input_size, self.dim = spec.input_size, spec.dim
        self._network = HuggingFaceNetwork(AutoModel, spec, settings)

    def forward(self, frames: NDArray[np.uint8]) -> NDArray[np.float32]:
        """See ``Descriptor.forward``."""
        output = self._network.run(frames)
        pooled = getattr(output, "pooler_output", None)
        if pooled is None:
            hidden = output.last_hidden_state
            pooled = hidden.mean(dim=(2, 3)) if hidden.ndim == 4 else hidden.mean(dim=1)
        vectors = pooled.float().cpu().numpy().reshape(len(frames), -1)
        if vectors.shape[1] != self.dim:
            raise ValueError(f"{self._network.spec.name} gives {vectors.shape[1]} numbers, models.yaml says {self.dim}")
        return unit_length(vectors)


class HuggingFaceDetector:
    """``AutoModelForObjectDetection``; labels are the model's own."""

    def __init__(self, spec: DetectorSpec, settings: Settings) -> None:
        self.input_size = spec.input_size
        self._spec = spec
        self._network = HuggingFaceNetwork(AutoModelForObjectDetection, spec, settings)

    def forward(self, frames: NDArray[np.uint8]) -> Any:
        """The model's logits and boxes."""
        return self._network.run(frames)

    def finish(self, raw: Any, sizes: list[tuple[int, int]]) -> list[list[Box]]:
        """See ``Detector.finish``."""
        shapes = torch.tensor([(height, width) for width, height in sizes])
        results = self._network.processor.post_process_object_detection(
            raw, threshold=self._spec.min_score, target_sizes=shapes
        )
        names = self._network.model.config.id2label
        found = []
        for result, (width, height) in zip(results, sizes, strict=True):
            limits = np.asarray([width, height] * 2, np.float32)
            rows = zip(
                result["scores"].float().cpu().numpy(),
                result["labels"].cpu().numpy(),
                np.clip(result["boxes"].float().cpu().numpy(), 0, limits),
                strict=True,
            )
            boxes = [Box(names[int(label)], float(score), *map(float, box)) for score, label, box in rows]
            found.append(sorted(boxes, key=lambda box: -box.score))
        return found


class HuggingFaceFilter:
    """``AutoModelForImageClassification``: probabilities of the unsafe classes, added."""

    def __init__(self, spec: FilterSpec, settings: Settings) -> None:
        self.input_size = spec.input_size
        self._unsafe = spec.unsafe
        self._network = HuggingFaceNetwork(AutoModelForImageClassification, spec, settings)
        classes = int(self._network.model.config.num_labels)
        if max(spec.unsafe) >= classes:
            raise ConfigurationError(f"{spec.name} has {classes} classes; unsafe names {max(spec.unsafe)}")

    def forward(self, frames: NDArray[np.uint8]) -> NDArray[np.float32]:
        """See ``ContentFilter.forward``."""
        shares = torch.softmax(self._network.run(frames).logits.float(), dim=1)[:, self._unsafe].sum(dim=1)
        return np.asarray(shares.clamp(0, 1).cpu().numpy(), np.float32)
