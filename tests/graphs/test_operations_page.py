"""docs/operations.md: its commands work as they are printed, from one installation into another; names and links lead on."""

import asyncio
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from configs.settings import Settings
from storage.database import create_engine
from storage.objects import ObjectStore
from storage.uploads import NewImage, upload
from tests.graphs.backed_up import led_to, rows
from tests.installation import apart

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "operations.md").read_text()
SECTIONS = dict(re.findall(r"^## (.+?)\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL))
STARTS_RAY = re.compile(r"safeguard\.py (up|down)$")


@pytest.fixture
def target(servers: Settings) -> Iterator[Settings]:
    with apart(servers) as made:
        yield made


def commands(section: str) -> list[str]:
    (block,) = re.findall(r"```sh\n(.*?)```", SECTIONS[section], re.DOTALL)
    return block.splitlines()


def run(line: str, home: Path, folder: Path) -> str:
    line = line.replace(".venv/bin/python", sys.executable).replace("/srv/backup", str(folder))
    done = subprocess.run(
        ["sh", "-c", line], cwd=ROOT, env=os.environ | {"SAFEGUARD_HOME": str(home)}, capture_output=True, text=True,
        timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"
    return done.stdout


async def add_image(settings: Settings) -> None:
    engine, store = create_engine(settings), ObjectStore(settings)
    await upload(engine, store, NewImage("a", "workers", b"x", "image/png", 1, 1), caller=0)
    store.close()
    await engine.dispose()


def test_the_commands_work_in_their_order(
    alone: Settings, target: Settings, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asyncio.run(add_image(alone))
    with led_to(alone, monkeypatch, home / "page") as place:
        for line in commands("Backup"):
            run(line, place, tmp_path)
    with led_to(target, monkeypatch, home / "page-2") as place:
        said = [run(line, place, tmp_path) for line in commands("Restore") if not STARTS_RAY.search(line)]
        assert "restored" in said[0] and "consistent" in said[1] and "unbroken" in said[2]
        images = "SELECT name, s3_path FROM image"
        assert asyncio.run(rows(target, images)) == asyncio.run(rows(alone, images))
        (down,) = commands("Upgrade")
        run(down, place, tmp_path)
    assert asyncio.run(rows(target, "SELECT version_num FROM alembic_version")) == [("0004",)]
    assert asyncio.run(rows(target, images)) == asyncio.run(rows(alone, images))


def test_names_and_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\(([^)#]+)", PAGE):
        assert (ROOT / "docs" / target).exists(), target
    assert {name.lower() for name in re.findall(r"SAFEGUARD_(\w+)", PAGE)} <= set(Settings.model_fields)
    alerts = (ROOT / "configs" / "monitoring" / "alerts.yml").read_text()
    assert all(f"alert: {name}\n" in alerts for name in re.findall(r"`((?:Storage|Disk)\w+)`", PAGE))
    used = set(re.findall(r"`safeguard (\w+)", PAGE)) | set(re.findall(r"safeguard\.py (\w+)", PAGE))
    helped = subprocess.run(
        [sys.executable, "safeguard.py", "--help"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    assert all(re.search(rf"\b{name}\b", helped) for name in used), used
