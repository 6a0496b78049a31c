"""A small seeded round of what benchmarks.fuzz_uploads does at length."""

from collections.abc import Callable
from pathlib import Path

from benchmarks.fuzz_uploads import fuzz, sources
from benchmarks.mutations import MUTATIONS, mutated
from configs.settings import Settings
from deployments.vision.decoding import ImageInfo, probe
from deployments.vision.sandbox import sandbox_of
from storage.errors import SafeGuardError


def test_mutated_pictures_end_as_pictures_or_as_errors_of_ours(tmp_path: Path) -> None:
    files = sources(None)
    fuzzed = fuzz(files, range(300), 7, Settings(_env_file=None), tmp_path)
    assert not fuzzed.unexpected and not fuzzed.late and not list(tmp_path.iterdir())
    ends = sum(fuzzed.ends.values(), start=type(next(iter(fuzzed.ends.values())))())
    assert ends.total() == 300 and ends["picture"] > 20 and ends["UnsupportedImage"] > 20
    assert set(fuzzed.ends) == {*MUTATIONS, "polyglot"}
    assert fuzzed.growth_mib < 200


def test_a_mutation_is_told_by_its_number() -> None:
    files = sources(None)
    assert [mutated(files, 1, number) for number in range(60)] == [mutated(files, 1, number) for number in range(60)]
    assert mutated(files, 1, 5) != mutated(files, 2, 5)
    assert sum(mutated(files, 1, number)[2] != files[mutated(files, 1, number)[0]] for number in range(60)) > 50


def test_confinement_changes_no_answer() -> None:
    files, settings = sources(None), Settings(_env_file=None)
    sandbox = sandbox_of(settings)
    limits = {"max_bytes": 10**7, "max_pixels": 10**7, "max_frames": 100}

    def answer(ask: Callable[..., ImageInfo], data: bytes) -> object:
        try:
            return ask(data, **limits)
        except SafeGuardError as error:
            return type(error), str(error)

    for number in range(200):
        data = mutated(files, 11, number)[2]
        assert answer(sandbox.probe, data) == answer(probe, data), number
    sandbox.close()
