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


MISTAKES = {
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
