"""The commands `backup` and `restore`: what they print, and that a refusal says what to do."""

from pathlib import Path

import pytest

from configs.settings import Settings
from storage.errors import Conflict
from tests.graphs.backed_up import led_to
from tests.graphs.commands.conftest import run


def test_out_and_back(alone: Settings, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with led_to(alone, monkeypatch, home / "commands") as place:
        status, said = run(place, "backup", str(tmp_path / "copy"))
        assert status == 0 and "rows as of" in said and "0 objects" in said and "keep it closed" in said
        with pytest.raises(Conflict, match="a whole backup"):
            run(place, "backup", str(tmp_path / "copy"))
        status, said = run(place, "restore", str(tmp_path / "copy"))
        assert status == 0 and "restored" in said and "The audit is unbroken" in said
        status, said = run(place, "backup", str(tmp_path / "bare"), "--no-pictures", "--no-vectors")
        assert status == 0 and "objects" not in said and "vectors" not in said
        status, said = run(place, "restore", str(tmp_path / "bare"), "--force")
        assert status == 0 and "the bucket must hold them" in said and "safeguard check --repair" in said
