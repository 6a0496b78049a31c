"""Asks for known vulnerabilities of every pinned package, and says plainly what could not be asked.

    make audit          # or: python -m tools.audit .venv-audit/bin/pip-audit [requirements.lock]

Exit code 0: every package was looked up and none has a known vulnerability. 1: some have. 2: some, or all, could not be
looked up, because the index does not know them or is not the one that has this data; then nothing is known of them.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

_SHOWN = 5


def judge(said: dict[str, Any]) -> tuple[int, list[str]]:
    """Exit code and lines for what pip-audit found.

    Args:
        said: its JSON.
    """
    packages = said.get("dependencies", [])
    skipped = [one["name"] for one in packages if "skip_reason" in one]
    lines, vulnerable = [], 0
    for one in packages:
        for found in one.get("vulns", []):
            fixed = ", ".join(found.get("fix_versions", [])) or "no version"
            lines.append(f"{one['name']} {one['version']}: {found['id']}, mended in {fixed}")
        vulnerable += bool(one.get("vulns"))
    asked = len(packages) - len(skipped)
    lines.append(f"{asked} of {len(packages)} packages were looked up; {vulnerable} have known vulnerabilities")
    if skipped or not packages:
        names = ", ".join(skipped[:_SHOWN]) + (", …" if len(skipped) > _SHOWN else "")
        lines.append(f"NOT AUDITED: {len(skipped)} packages ({names}): the vulnerability data could not be reached")
    return (1 if vulnerable else 2 if skipped or not packages else 0), lines


def main() -> int:
    """See the module's docstring."""
    program, lock = sys.argv[1], Path(sys.argv[2] if len(sys.argv) > 2 else "requirements.lock")
    command = [
        program, "--requirement", str(lock), "--no-deps", "--disable-pip", "--progress-spinner", "off", "--format", "json",
        "--timeout", "15",
    ]  # fmt: skip
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
        said = json.loads(done.stdout)
    except (OSError, ValueError, subprocess.TimeoutExpired) as error:
        print(f"NOT AUDITED: {type(error).__name__}; the vulnerability data could not be reached")
        return 2
    code, lines = judge(said)
    print("\n".join(lines))
    return code


if __name__ == "__main__":
    sys.exit(main())
