"""From a line of models.yaml to a network. Torch and transformers are loaded only where a model asks for them."""

from collections.abc import Iterable

from configs.models import DescriptorSpec, DetectorSpec, FilterSpec, ModelRegistry, NetworkSpec
from configs.settings import Settings
from deployments.vision.interfaces import ContentFilter, Descriptor, Detector, Releasable
from deployments.vision.shape import ShapeDescriptor
from storage.errors import ConfigurationError


def build_descriptor(spec: DescriptorSpec, settings: Settings) -> Descriptor:
    """Loads a descriptor.

    Raises:
        ConfigurationError: it cannot be loaded; the message says why.
    """
    if spec.source == "onnx":
        from deployments.vision.onnx_networks import OnnxDescriptor

        return OnnxDescriptor(spec, settings)
    if spec.source == "torchscript":
        from deployments.vision.torchscript import TorchScriptDescriptor

        return TorchScriptDescriptor(spec, settings)
    from deployments.vision.huggingface import HuggingFaceDescriptor

    return HuggingFaceDescriptor(spec, settings)


def build_detector(spec: DetectorSpec, settings: Settings) -> Detector:
    """Loads a detector; the rest as ``build_descriptor``."""
    if spec.source == "onnx":
        from deployments.vision.onnx_networks import OnnxNanoDet

        return OnnxNanoDet(spec, settings)
    if spec.source == "huggingface":
        from deployments.vision.huggingface import HuggingFaceDetector

        return HuggingFaceDetector(spec, settings)
    raise _no_such(spec, "detectors")


def build_filter(spec: FilterSpec, settings: Settings) -> ContentFilter:
    """Loads a content filter; the rest as ``build_descriptor``."""
    if spec.source == "onnx":
        from deployments.vision.onnx_networks import OnnxFilter

        return OnnxFilter(spec, settings)
    if spec.source == "huggingface":
        from deployments.vision.huggingface import HuggingFaceFilter

        return HuggingFaceFilter(spec, settings)
    raise _no_such(spec, "filters")


def build_shapes(registry: ModelRegistry) -> dict[str, ShapeDescriptor]:
    """The shape descriptors that the models of a registry use, by name.

    Raises:
        ConfigurationError: one cannot be loaded; the message says why.
    """
    return {name: ShapeDescriptor(spec) for name, spec in registry.shapes.items()}


def release(networks: Iterable[object]) -> None:
    """Frees what networks keep for larger batches, where they keep something."""
    for network in networks:
        if isinstance(network, Releasable):
            network.release()


def _no_such(spec: NetworkSpec, kind: str) -> ConfigurationError:
    return ConfigurationError(f"{spec.name}: {kind} come from onnx or huggingface, not from {spec.source}")
