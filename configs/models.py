"""What a ``model_name`` means: networks, sizes and thresholds, read from models.yaml. Imports nothing of ours."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

MODEL_NAME = r"^[A-Za-z0-9._-]{1,128}$"
_VERSIONED = re.compile(r"^[a-z0-9][a-z0-9._-]*@[0-9]+$")
Triple = tuple[float, float, float]
Score = Annotated[float, Field(ge=0.0, le=1.0)]


class ModelsFileError(ValueError):
    """models.yaml is missing, malformed or contradicts itself; the message says where."""


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class NetworkSpec(_Part):
    """Where a network comes from and what it takes.

    ``path`` is a file or folder (relative to the project's folder, or to the installed package ``package``), or, for
    ``huggingface``, also the id of a model on the hub.
    """

    name: str = Field(description="name@version; the key in models.yaml")
    source: Literal["onnx", "huggingface", "torchscript"]
    path: str
    package: str | None = Field(None, description="installed Python package that carries the file")
    sha256: str | None = Field(None, pattern=r"^[0-9a-f]{64}$", description="of the file; checked at load")
    revision: str | None = Field(None, description="commit of a hub model: pin it")
    input_size: int = Field(ge=16, le=4096, description="side of the square it takes, pixels")
    layout: Literal["nchw", "nhwc"] = "nchw"
    channels: Literal["rgb", "bgr"] = "rgb"
    mean: Triple = Field((0.0, 0.0, 0.0), description="subtracted from 0..255 values, in the order of the channels")
    std: Triple = Field((1.0, 1.0, 1.0), description="divided by after that")

    @property
    def file(self) -> Path:
        """The path below the project's folder (meaningless for a hub id or a package's file)."""
        return Path(__file__).parent.parent / self.path


class DescriptorSpec(NetworkSpec):
    """A network whose output, brought to length 1, describes a picture."""

    dim: int = Field(ge=8, le=8192, description="numbers of a descriptor")


class DetectorSpec(NetworkSpec):
    """A network that finds people and objects."""

    min_score: Score = Field(0.5, description="boxes below are dropped")
    max_overlap: Score = Field(0.5, description="intersection over union above which the weaker box is dropped")


class FilterSpec(NetworkSpec):
    """A network that says how unsafe a picture is."""

    unsafe: list[int] = Field(min_length=1, description="indices of the unsafe classes; their probabilities are added")
    crop: int | None = Field(None, ge=16, description="side of the centre that the network sees, pixels")
    logits: bool = Field(False, description="the network gives logits instead of probabilities")


class ShapeSpec(_Part):
    """The projection of the shape descriptor: a NumPy archive with float16 ``mean`` [n] and ``weight`` [n, dim]."""

    name: str = Field(description="name@version; the key in models.yaml")
    path: str
    sha256: str | None = Field(None, pattern=r"^[0-9a-f]{64}$", description="of the file; checked at load")
    dim: int = Field(ge=8, le=4096, description="numbers of a shape descriptor")

    @property
    def file(self) -> Path:
        """The path below the project's folder."""
        return Path(__file__).parent.parent / self.path


class Fusion(_Part):
    """Weights of the logistic regression that makes one confidence of what each stage of the cascade says.

    ``tools/fit_fusion.py`` fits them; ``deployments/pipeline/confidence.py`` says what each one weighs.
    """

    bias: float
    pdq: float = Field(ge=0)
    whole: float = Field(ge=0)
    region: float = Field(ge=0)
    shape: float = Field(ge=0)
    inliers: float = Field(ge=0)
    coverage: float = Field(ge=0)
    tightness: float = Field(ge=0)
    template: float = Field(ge=0)


class Thresholds(_Part):
    """What makes a match. All scores are 0 to 1; models.yaml names the command that measured each."""

    pdq_distance: int = Field(ge=0, le=128, description="largest Hamming distance of 256 bits")
    pdq_min_quality: int = Field(ge=0, le=100, description="below, a picture has too little structure for PDQ")
    candidate_score: Score = Field(description="descriptor score from which a stored picture is looked at more closely")
    candidate_shape: Score = Field(description="the same for the shape descriptor")
    copy_confidence: Score = Field(description="confidence of copy_fusion from which a match is a copy")
    semantic_confidence: Score = Field(description="confidence of fusion from which other matches are semantic")
    semantic_score: Score | None = Field(None, description="score of the semantic descriptor from which it matches")


class Alternative(_Part):
    """What a model changes with another descriptor, whose scores have another scale; what is left out stays its own."""

    fusion: Fusion | None = None
    copy_fusion: Fusion | None = None
    thresholds: Thresholds | None = None


class ModelSpec(_Part):
    """One ``model_name`` with its networks."""

    name: str = Field(pattern=MODEL_NAME)
    description: str
    descriptor: DescriptorSpec
    detector: DetectorSpec
    content_filter: FilterSpec | None
    shape: ShapeSpec | None = None
    semantic: DescriptorSpec | None = Field(None, description="a self-supervised or text-image model, for subjects")
    max_regions: int = Field(ge=0, le=32, description="detected regions that get a descriptor of their own")
    min_region_share: float = Field(gt=0, lt=1, description="least share of the picture's area")
    views: bool = Field(True, description="describe parts of stored pictures, and parts and turns of queries")
    verified: int = Field(8, ge=0, le=100, description="best candidates whose local features are compared; 0: none")
    matched: int = Field(
        24, ge=0, le=200, description="candidates whose contours are compared where that settles nothing"
    )
    fusion: Fusion = Field(description="of the confidence that two pictures show the same picture or subject")
    copy_fusion: Fusion = Field(description="of the confidence that one is a copy of the other, not just alike")
    thresholds: Thresholds
    alternatives: dict[str, Alternative] = Field(
        default_factory=dict, description="what changes with another descriptor, by name@version"
    )

    @model_validator(mode="after")
    def _semantic_has_a_threshold(self) -> Self:
        changed = [one.thresholds for one in self.alternatives.values() if one.thresholds]
        if any((self.semantic is None) != (one.semantic_score is None) for one in (self.thresholds, *changed)):
            raise ValueError("a semantic descriptor and thresholds.semantic_score go together: set both or neither")
        return self

    @model_validator(mode="after")
    def _alternatives_are_others(self) -> Self:
        if self.descriptor.name in self.alternatives:
            raise ValueError(f"alternatives: {self.descriptor.name} is the model's own descriptor")
        return self

    @property
    def descriptor_name(self) -> str:
        """name@version."""
        return self.descriptor.name

    @property
    def detector_name(self) -> str:
        """name@version."""
        return self.detector.name

    @property
    def filter_name(self) -> str | None:
        """name@version, None without a filter."""
        return self.content_filter.name if self.content_filter else None


class ModelRegistry(Mapping[str, ModelSpec]):
    """The models of a file by name, in its order.

    Args:
        models: by name.
        default: the one that is taken where none is named.
        descriptors: further descriptors that a model could use, by name@version.
    """

    def __init__(
        self, models: dict[str, ModelSpec], default: str, descriptors: Mapping[str, DescriptorSpec] | None = None
    ) -> None:
        self._models = models
        self._descriptors = dict(descriptors or {})
        self.default = default

    def __getitem__(self, name: str) -> ModelSpec:
        return self._models[name]

    def __iter__(self) -> Any:
        return iter(self._models)

    def __len__(self) -> int:
        return len(self._models)

    def known(self) -> list[str]:
        """Names of the models that the platform processes by itself."""
        return list(self._models)

    @property
    def descriptors(self) -> dict[str, DescriptorSpec]:
        """Every descriptor in use, by name@version."""
        used = [spec for model in self.values() for spec in (model.descriptor, model.semantic) if spec]
        return {spec.name: spec for spec in used}

    @property
    def available_descriptors(self) -> dict[str, DescriptorSpec]:
        """Every descriptor of the file, in use or not, by name@version."""
        return self._descriptors | self.descriptors

    def with_descriptor(self, model_name: str, descriptor: str) -> ModelSpec:
        """A model as it is with another descriptor: weights and thresholds of its ``alternatives``, all else its own.

        Args:
            descriptor: name@version; the model's own gives the model itself.
        Raises:
            ModelsFileError: the file does not know the descriptor, or the model uses it for subjects already.
        """
        model = self[model_name]
        if descriptor == model.descriptor_name:
            return model
        spec = self.available_descriptors.get(descriptor)
        if spec is None:
            known = ", ".join(self.available_descriptors)
            raise ModelsFileError(f"models.{model_name}: {descriptor!r} is not among descriptors: {known}")
        if model.semantic is not None and descriptor == model.semantic.name:
            raise ModelsFileError(f"models.{model_name}: {descriptor!r} is its semantic descriptor; choose another")
        changed = model.alternatives.get(descriptor, Alternative())
        values = {name: value for name, value in changed if value is not None}
        return model.model_copy(update={"descriptor": spec, **values})

    @property
    def detectors(self) -> dict[str, DetectorSpec]:
        """Every detector in use, by name@version."""
        return {model.detector.name: model.detector for model in self.values()}

    @property
    def shapes(self) -> dict[str, ShapeSpec]:
        """Every shape descriptor in use, by name@version."""
        return {model.shape.name: model.shape for model in self.values() if model.shape}

    @property
    def filters(self) -> dict[str, FilterSpec]:
        """Every content filter in use, by name@version."""
        return {model.content_filter.name: model.content_filter for model in self.values() if model.content_filter}


def _section(content: dict[str, Any], name: str) -> dict[str, dict[str, Any]]:
    section = content.get(name) or {}
    if not isinstance(section, dict) or not all(isinstance(value, dict) for value in section.values()):
        raise ModelsFileError(f"{name}: must map names to options")
    for key in section:
        if not isinstance(key, str) or (name != "models" and not _VERSIONED.match(key)):
            raise ModelsFileError(f"{name}: {key!r} must be name@version, such as lite0-gem@1")
    return section


def _resolve(content: dict[str, Any], model: str, section: str, key: str | None) -> dict[str, Any] | None:
    if key is None:
        return None
    known = _section(content, section)
    if key not in known:
        raise ModelsFileError(f"models.{model}: {key!r} is not among {section}: {', '.join(known) or 'none'}")
    return {"name": key, **known[key]}


def _malformed(path: Path, place: str, error: ValidationError) -> ModelsFileError:
    details = "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors())
    return ModelsFileError(f"{path}: {place}: {details}")


def _descriptors(path: Path, content: dict[str, Any]) -> dict[str, DescriptorSpec]:
    found = {}
    for name, options in _section(content, "descriptors").items():
        try:
            found[name] = DescriptorSpec.model_validate({"name": name, **options})
        except ValidationError as error:
            raise _malformed(path, f"descriptors.{name}", error) from error
    return found


def load_models(path: Path) -> ModelRegistry:
    """Reads and checks models.yaml.

    Raises:
        ModelsFileError: the file is missing or malformed, a name is unknown, a value is out of range.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ModelsFileError(f"{path} cannot be read: {error.strerror}") from error
    except yaml.YAMLError as error:
        raise ModelsFileError(f"{path} is not YAML: {error}") from error
    if not isinstance(content, dict):
        raise ModelsFileError(
            f"{path} must hold the sections default, models, descriptors, shapes, detectors and filters"
        )
    unknown = set(content) - {"default", "models", "descriptors", "shapes", "detectors", "filters"}
    if unknown:
        raise ModelsFileError(f"{path}: unknown sections: {', '.join(sorted(map(str, unknown)))}")
    descriptors = _descriptors(path, content)
    models: dict[str, ModelSpec] = {}
    for name, options in _section(content, "models").items():
        parts = {
            "descriptor": _resolve(content, name, "descriptors", options.get("descriptor")),
            "detector": _resolve(content, name, "detectors", options.get("detector")),
            "semantic": _resolve(content, name, "descriptors", options.get("semantic")),
            "shape": _resolve(content, name, "shapes", options.get("shape")),
            "content_filter": _resolve(content, name, "filters", options.get("content_filter")),
        }
        try:
            models[name] = ModelSpec.model_validate({"name": name, **options, **parts})
        except ValidationError as error:
            raise _malformed(path, f"models.{name}", error) from error
        for other in models[name].alternatives:
            _resolve(content, f"{name}.alternatives", "descriptors", other)
    if not models:
        raise ModelsFileError(f"{path} names no model")
    default = content.get("default") or next(iter(models))
    if default not in models:
        raise ModelsFileError(f"{path}: default: {default!r} is not among the models: {', '.join(models)}")
    return ModelRegistry(models, default, descriptors)
