"""What could not be looked up is never taken for sound."""

from typing import Any

import pytest

from tools.audit import judge

SOUND = {"name": "a", "version": "1", "vulns": []}
ILL = {"name": "b", "version": "2", "vulns": [{"id": "CVE-1", "fix_versions": ["3"]}]}
SKIPPED = {"name": "c", "skip_reason": "not found"}


@pytest.mark.parametrize(
    ("packages", "code", "said"),
    [
        ([SOUND], 0, "1 of 1 packages were looked up; 0 have"),
        ([SOUND, ILL], 1, "b 2: CVE-1, mended in 3"),
        ([SOUND, SKIPPED], 2, "NOT AUDITED: 1 packages (c)"),
        ([ILL, SKIPPED], 1, "NOT AUDITED"),
        ([SKIPPED] * 9, 2, "0 of 9 packages"),
        ([], 2, "NOT AUDITED"),
    ],
)
def test_judge(packages: list[dict[str, Any]], code: int, said: str) -> None:
    found, lines = judge({"dependencies": packages})
    assert found == code and said in "\n".join(lines)
