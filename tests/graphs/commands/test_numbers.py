"""Options that are numbers: what is none, or out of all proportion, is refused in one line and before anything is done."""

import pytest
from typer.testing import CliRunner

from safeguard import app


@pytest.mark.parametrize(
    "command",
    [
        ("keys", "create", "name", "--scope", "image:read", "--days"),
        ("keys", "rotate", "name", "--overlap"),
        ("banks", "calibrate", "bank", "--precision"),
        ("banks", "create", "name", "--copy-score"),
        ("banks", "create", "name", "--semantic-score"),
        ("calibrate", "--precision"),
        ("calibrate", "--semantic-precision"),
        ("backfill", "s3://bucket/", "--reads-per-s"),
        ("check", "--grace"),
    ],
)
@pytest.mark.parametrize("value", ["nan", "inf", "-inf", "1e300"])
def test_a_number_outside_every_range(command: tuple[str, ...], value: str) -> None:
    done = CliRunner().invoke(app, [*command, value])
    assert done.exit_code == 2 and "Invalid value" in done.output
    assert isinstance(done.exception, SystemExit)
