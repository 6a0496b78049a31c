"""docs/review.md, typed into a shell as a moderator would: from an upload to a reversal."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.client import Client
from graphs.service import Running
from tests.service.pictures import edited

pytestmark = pytest.mark.service
ROOT = Path(__file__).parents[2]


def commands(page: str) -> str:
    """All that a page has the reader type; what it says of keys and addresses is another in a test."""
    blocks = re.findall(r"^```sh\n(.*?)^```", (ROOT / "docs" / page).read_text(), re.MULTILINE | re.DOTALL)
    typed = "".join(blocks).replace(".venv/bin/python safeguard.py", f"{sys.executable} {ROOT / 'safeguard.py'}")
    return re.sub(r"^(KEY|API)=.*\n", "", typed, flags=re.MULTILINE)


def test_the_page_for_reviewers_can_be_typed(service: Running, client: Client, tmp_path: Path) -> None:
    (tmp_path / "cat.jpg").write_bytes(edited("chelsea.png", "crop70", seed=11))
    environment = os.environ | {
        "KEY": service.key,
        "API": f"{service.url}/api/v1",
        "SAFEGUARD_HOME": str(service.settings.home),
    }
    typed = commands("review.md") + "\necho the image was $IMAGE\n"
    assert typed.count("curl") > 10 and typed.count("safeguard.py") > 5
    run = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", typed],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert run.returncode == 0, run.stdout[-3000:] + run.stderr[-3000:]
    (image,) = re.findall(r"the image was (\d+)", run.stdout)
    actions = [one["action"] for one in client.get("/audit", subject=f"image/{image}")]
    assert actions.count("image.reverse") == 2 and actions.count("image.decide") >= 6
    explained = client.get(f"/image/{image}/moderation", explain="true")
    assert explained["verdict"] == "allow" and explained["decided_by"] == "policy"
    assert (tmp_path / "clear.img").read_bytes() == (tmp_path / "cat.jpg").read_bytes()
    assert 0 < (tmp_path / "preview.jpg").stat().st_size < (tmp_path / "cat.jpg").stat().st_size
