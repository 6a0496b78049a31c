"""Which tables a registry needs."""

from configs.models import ModelRegistry, load_models
from configs.settings import Settings
from deployments.similarity.replicas import known_spaces, spaces_of, spaces_of_model
from storage.vector_rows import PDQ_SPACE, VectorSpace


def test_one_table_for_each_descriptor_and_one_for_pdq() -> None:
    known = load_models(Settings.model_fields["models_file"].default)
    spec = known[known.default]
    other = spec.model_copy(
        update={"name": "other", "descriptor": spec.descriptor.model_copy(update={"name": "wide@2", "dim": 2048})}
    )
    same = spec.model_copy(update={"name": "same"})
    registry = ModelRegistry({one.name: one for one in (spec, other, same)}, spec.name)
    assert spaces_of(registry) == [
        PDQ_SPACE,
        VectorSpace(spec.descriptor_name, spec.descriptor.dim),
        VectorSpace("shape@2", 128),
        VectorSpace("wide@2", 2048),
    ]
    assert len({space.table_name for space in spaces_of(registry)}) == 4


def test_the_tables_of_a_model_are_those_that_its_networks_fill() -> None:
    known = load_models(Settings.model_fields["models_file"].default)
    spec = known[known.default]
    assert [space.name for space in spaces_of_model(spec)] == ["pdq@1", spec.descriptor_name, "shape@2"]
    wide = spec.descriptor.model_copy(update={"name": "wide@2", "dim": 2048})
    bare = spec.model_copy(update={"shape": None, "semantic": wide})
    assert [space.name for space in spaces_of_model(bare)] == ["pdq@1", spec.descriptor_name, "wide@2"]
    assert spaces_of(ModelRegistry({}, "none")) == [PDQ_SPACE]


def test_tables_that_a_model_could_use_are_known_too() -> None:
    known = load_models(Settings.model_fields["models_file"].default)
    spec = known[known.default]
    wide = spec.descriptor.model_copy(update={"name": "wide@2", "dim": 2048})
    registry = ModelRegistry({spec.name: spec}, spec.name, {wide.name: wide, spec.descriptor_name: spec.descriptor})
    assert known_spaces(registry) == [*spaces_of(registry), VectorSpace("wide@2", 2048)]
