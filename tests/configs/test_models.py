"""models.yaml: the shipped file is sound, a mistake is named with its place, another descriptor is one line."""

from pathlib import Path

import pytest
import yaml

from configs.models import ModelsFileError, load_models
from configs.settings import Settings


def changed(tmp_path: Path, change) -> Path:
    content = yaml.safe_load(Settings().models_file.read_text())
    change(content)
    path = tmp_path / "models.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def test_the_shipped_file() -> None:
    registry = load_models(Settings().models_file)
    model = registry[registry.default]
    assert registry.known() == ["safeguard-v1"]
    assert model.descriptor.file.is_file() and model.detector.file.is_file()
    assert model.shape is not None and model.shape.file.is_file()
    assert all(spec.sha256 for spec in (model.descriptor, model.detector, model.content_filter, model.shape))


def test_another_descriptor_is_one_line(tmp_path: Path) -> None:
    def change(content) -> None:
        content["descriptors"]["other@2"] = {**content["descriptors"]["lite0-copy@2"], "dim": 512}
        content["models"]["safeguard-v1"]["descriptor"] = "other@2"

    registry = load_models(changed(tmp_path, change))
    assert list(registry.descriptors) == ["other@2"] and registry["safeguard-v1"].descriptor.dim == 512


def with_alternatives(content, **alternatives) -> None:
    """Two further descriptors in the file, and what the model changes with them."""
    for name in ("other@3", "plain@1"):
        content["descriptors"][name] = {**content["descriptors"]["lite0-copy@2"], "dim": 512}
    content["models"]["safeguard-v1"]["alternatives"] = alternatives


def weights(content, section: str, **changed) -> dict:
    return {**content["models"]["safeguard-v1"][section], **changed}


def test_descriptors_may_be_there_before_a_model_uses_them(tmp_path: Path) -> None:
    registry = load_models(changed(tmp_path, with_alternatives))
    assert list(registry.descriptors) == ["lite0-copy@2"]
    assert list(registry.available_descriptors) == ["lite0-copy@2", "other@3", "plain@1"]
    assert registry.available_descriptors["other@3"].dim == 512


def test_a_model_with_another_descriptor(tmp_path: Path) -> None:
    def change(content) -> None:
        overrides = {"fusion": weights(content, "fusion", bias=-3.0),
                     "thresholds": weights(content, "thresholds", copy_confidence=0.7)}  # fmt: skip
        with_alternatives(content, **{"other@3": overrides})

    registry = load_models(changed(tmp_path, change))
    own = registry["safeguard-v1"]
    assert registry.with_descriptor("safeguard-v1", "lite0-copy@2") is own
    other = registry.with_descriptor("safeguard-v1", "other@3")
    assert (other.name, other.descriptor_name, other.descriptor.dim) == ("safeguard-v1", "other@3", 512)
    assert other.fusion.bias == -3.0 and other.fusion.pdq == own.fusion.pdq and other.copy_fusion == own.copy_fusion
    assert other.thresholds.copy_confidence == 0.7 and own.thresholds.copy_confidence == 0.98
    plain = registry.with_descriptor("safeguard-v1", "plain@1")
    assert plain == own.model_copy(update={"descriptor": registry.available_descriptors["plain@1"]})
    with pytest.raises(ModelsFileError, match=r"models\.safeguard-v1: 'x@1' is not among descriptors: lite0-copy@2, "):
        registry.with_descriptor("safeguard-v1", "x@1")


def test_the_semantic_descriptor_is_no_alternative(tmp_path: Path) -> None:
    def change(content) -> None:
        with_alternatives(content)
        content["models"]["safeguard-v1"]["semantic"] = "other@3"
        content["models"]["safeguard-v1"]["thresholds"]["semantic_score"] = 0.5

    with pytest.raises(ModelsFileError, match="'other@3' is its semantic descriptor"):
        load_models(changed(tmp_path, change)).with_descriptor("safeguard-v1", "other@3")


MISTAKES = {
    "alternatives: 'x@1' is not among descriptors: lite0-copy@2, other@3": lambda c: with_alternatives(
        c, **{"x@1": {}}
    ),
    "alternatives: lite0-copy@2 is the model's own": lambda c: with_alternatives(c, **{"lite0-copy@2": {}}),
    "alternatives.other@3.fusion.bias: Field required": lambda c: with_alternatives(c, **{"other@3": {"fusion": {}}}),
    "alternatives.other@3.shape: Extra inputs": lambda c: with_alternatives(c, **{"other@3": {"shape": "shape@2"}}),
    "models.safeguard-v1: alternatives.other@3: Input should be": lambda c: with_alternatives(c, **{"other@3": "fast"}),
    "alternatives: Input should be a valid dict": lambda c: c["models"]["safeguard-v1"].update(alternatives=["x@1"]),
    "set both or neither": lambda c: with_alternatives(
        c, **{"other@3": {"thresholds": weights(c, "thresholds", semantic_score=0.5)}}
    ),
    "descriptors.unused@1: dim: Field required": lambda c: c["descriptors"].update(
        {"unused@1": {"source": "onnx", "path": "x.onnx", "input_size": 160}}
    ),
    "descriptor 'lite9@1'|'lite9@1' is not among descriptors": lambda c: c["models"]["safeguard-v1"].update(
        descriptor="lite9@1"
    ),
    "must be name@version": lambda c: c["descriptors"].update({"lite0": {}}),
    "copy_confidence.*less than or equal to 1": lambda c: c["models"]["safeguard-v1"]["thresholds"].update(
        copy_confidence=1.5
    ),
    "fusion.shape.*greater than or equal to 0": lambda c: c["models"]["safeguard-v1"]["fusion"].update(shape=-1),
    "fusion.inliers: Field required": lambda c: c["models"]["safeguard-v1"]["fusion"].pop("inliers"),
    "shape: 'shape@9'|'shape@9' is not among shapes": lambda c: c["models"]["safeguard-v1"].update(shape="shape@9"),
    "semantic_score go together": lambda c: c["models"]["safeguard-v1"].update(semantic="lite0-copy@2"),
    "typo.*Extra inputs": lambda c: c["models"]["safeguard-v1"].update(typo=1),
    "unknown sections: detectorz": lambda c: c.update(detectorz={}),
    "names no model": lambda c: c.update(models={}),
    "default: 'x' is not among": lambda c: c.update(default="x"),
    "description.*Field required": lambda c: c["models"]["safeguard-v1"].pop("description"),
}


@pytest.mark.parametrize("message", MISTAKES)
def test_mistakes_are_named(tmp_path: Path, message: str) -> None:
    with pytest.raises(ModelsFileError, match=message):
        load_models(changed(tmp_path, MISTAKES[message]))


def test_a_missing_and_a_broken_file(tmp_path: Path) -> None:
    with pytest.raises(ModelsFileError, match="cannot be read"):
        load_models(tmp_path / "none.yaml")
    (tmp_path / "bad.yaml").write_text("a: [1")
    with pytest.raises(ModelsFileError, match="is not YAML"):
        load_models(tmp_path / "bad.yaml")
