"""`safeguard failures`: one line for the same file, nothing cut short, nothing that steers a terminal."""

import asyncio
from pathlib import Path

from sqlalchemy import text

from graphs.opening import opened
from tests.graphs.commands.conftest import run

ADD = """INSERT INTO image (name, status, model_name, s3_path, sha256, size_bytes, media_type, width, height, uploaded_at,
attempt, failure) VALUES (:name, 'FAILED', 'safeguard-v1', :path, :sha, 1, 'image/png', 1, 1, now(), 1, :failure)"""


async def add(folder: Path, names: list[str], sha: bytes, failure: str) -> None:
    async with opened(folder) as (_, engine), engine.begin() as connection:
        for name in names:
            row = {"name": name, "path": f"{sha.hex()}/{name}", "sha": sha, "failure": failure}
            await connection.execute(text(ADD), row)


def test_failures_are_told_in_lines(folder: Path) -> None:
    asyncio.run(
        add(folder, ["a.png", "b.png"], b"\xab" * 32, "the image is damaged or cut short, and " + "so on " * 30)
    )
    asyncio.run(add(folder, ["c\x1b[31m.png"], b"\xcd" * 32, "no worker finished it"))
    status, said = run(folder, "failures")
    lines = said.splitlines()
    assert status == 0 and len(lines) == 2
    assert lines[0].startswith("2 × FAILED: newest ") and "'b.png'" in lines[0] and lines[0].rstrip().endswith("so on")
    assert "abababababababab:" in lines[0] and "no worker finished it" in lines[1] and "\x1b" not in said
    assert run(folder, "failures", "--most", "1")[1].count("FAILED") == 1


def test_without_any_it_says_so(folder: Path) -> None:
    async def clear() -> None:
        async with opened(folder) as (_, engine), engine.begin() as connection:
            await connection.execute(text("DELETE FROM image WHERE status = 'FAILED'"))

    asyncio.run(clear())
    assert run(folder, "failures") == (0, "no image has failed or is tried again\n")
