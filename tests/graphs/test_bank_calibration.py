"""Thresholds of one bank, measured on files; banks too poor to measure with."""

import pytest

from benchmarks.local import LocalCascade
from configs.models import load_models
from configs.settings import Settings
from graphs import bank_calibration
from graphs.bank_calibration import measure
from storage.errors import InvalidInput
from tests.graphs.test_calibration import tiles
from tests.service.pictures import NAMES, jpeg, photo


@pytest.fixture
def cascade() -> LocalCascade:
    registry = load_models(Settings().models_file)
    return LocalCascade(registry[registry.default], Settings())


WANTED = {"precision": 0.95, "queries": 12, "seed": 1, "progress": lambda _: None}


def test_measuring(cascade: LocalCascade, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bank_calibration, "LEAST", 4)
    monkeypatch.setattr(bank_calibration, "LEAST_STRANGERS", 2)
    files = tiles()
    found = measure(cascade, files[::8], files[1::16], **WANTED)
    assert found.members >= 4 and found.strangers >= 2 and found.precision >= 0.95 and found.recall > 0.4
    assert 0.0 < found.copy_score < 1.0 and 0 < found.pdq_distance <= 31 and found.pdq_precision >= 0.95
    assert found.queries == 12 + 4 + found.members


def test_banks_that_are_too_poor(cascade: LocalCascade, monkeypatch: pytest.MonkeyPatch) -> None:
    one = jpeg(photo(NAMES[0]))
    with pytest.raises(InvalidInput, match="the bank has 39 pictures that can be read: at least 40"):
        measure(cascade, [one] * 39, [], **WANTED)
    with pytest.raises(InvalidInput, match=r"precision must be between 0\.5 and 1, not 1\.5"):
        measure(cascade, [one], [], **WANTED | {"precision": 1.5})
    monkeypatch.setattr(bank_calibration, "LEAST", 3)
    with pytest.raises(InvalidInput, match=r"1 of 3 pictures of the bank and 0 of 2 others .* at least 3 and 10"):
        measure(cascade, [one] * 3, [one, b"no picture"], **WANTED)
