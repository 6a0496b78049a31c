"""What the README and docs/review.md tell moderators, typed into a shell: from an upload to a reversal."""

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
    blocks = re.findall(r"^```sh\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    typed = "".join(blocks).replace(".venv/bin/python safeguard.py", f"{sys.executable} {ROOT / 'safeguard.py'}")
    return re.sub(r"^(KEY|API)=.*\n", "", typed, flags=re.MULTILINE)


def type_in(page: str, service: Running, folder: Path) -> tuple[int, str]:
    """Types a page; returns the image that it was about and what was printed."""
    environment = os.environ | {
        "KEY": service.key,
        "API": f"{service.url}/api/v1",
        "SAFEGUARD_HOME": str(service.settings.home),
    }
    typed = f"{commands(page)}\necho the image was $IMAGE\n"
    run = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", typed],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert run.returncode == 0, run.stdout[-3000:] + run.stderr[-3000:]
    (image,) = re.findall(r"the image was (\d+)", run.stdout)
    return int(image), run.stdout


def test_the_page_for_reviewers_can_be_typed(service: Running, client: Client, tmp_path: Path) -> None:
    (tmp_path / "cat.jpg").write_bytes(edited("chelsea.png", "crop70", seed=11))
    page = (ROOT / "docs" / "review.md").read_text()
    assert commands(page).count("curl") > 10 and commands(page).count("safeguard.py") > 5
    image, _ = type_in(page, service, tmp_path)
    actions = [one["action"] for one in client.get("/audit", subject=f"image/{image}")]
    assert actions.count("image.reverse") == 2 and actions.count("image.decide") >= 6
    explained = client.get(f"/image/{image}/moderation", explain="true")
    assert explained["verdict"] == "allow" and explained["decided_by"] == "policy"
    assert (tmp_path / "clear.img").read_bytes() == (tmp_path / "cat.jpg").read_bytes()
    assert 0 < (tmp_path / "preview.jpg").stat().st_size < (tmp_path / "cat.jpg").stat().st_size


def test_the_readme_keeps_a_picture_out(service: Running, client: Client, tmp_path: Path) -> None:
    (tmp_path / "cat.jpg").write_bytes(edited("motorcycle_left.png", "crop70", seed=12))
    readme = (ROOT / "README.md").read_text()
    (section,) = re.findall(r"^## Keep a picture out\n(.*?)^## ", readme, re.MULTILINE | re.DOTALL)
    image, printed = type_in(section, service, tmp_path)
    assert client.get(f"/image/{image}/moderation")["verdict"] == "allow"
    assert "news coverage" in printed
    (bank,) = [one for one in client.get("/banks") if one["name"] == "Reported"]
    client._http.delete(f"/banks/{bank['id']}").raise_for_status()
