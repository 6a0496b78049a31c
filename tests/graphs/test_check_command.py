"""The check at the command line: what it says, what it refuses, and its report."""

import asyncio
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from configs.settings import Settings
from graphs import check_report
from graphs.check import Check, check
from graphs.check_report import Kind, Report, progress_line, show
from storage.errors import ConfigurationError, Unavailable
from storage.objects import ObjectStore
from tests.graphs.checked import ROOT, World, engine, object_gone, objects, secret, servers, world

__all__ = ["engine", "objects", "servers", "world"]


async def test_a_wrong_database_or_bucket_is_not_taken_for_the_truth(world: World) -> None:
    paths = [image.s3_path for image in world.pictures]
    elsewhere = world.settings.model_copy(update={"s3_bucket": f"{world.settings.s3_bucket}-corpus"})
    other = ObjectStore(elsewhere)
    mistaken = Check(world.engine, other, elsewhere, world.processor.registry, repair=True, grace_s=0)
    with pytest.raises(ConfigurationError, match="right bucket"):
        await mistaken.run()
    other.close()
    assert {one.status for one in await world.execute("SELECT status FROM image")} == {"PROCESSED"}
    await world.execute("TRUNCATE image CASCADE")
    with pytest.raises(ConfigurationError, match="right database"):
        await world.check(repair=True)
    for path in paths:
        assert await world.objects.get(path)
    assert (await world.check()).found[Kind.EXTRA_OBJECT].count == 5, "to look is harmless"


def test_what_does_not_answer_is_said_in_one_line(servers: Settings, tmp_path: Path) -> None:
    def run(**lines: str) -> None:
        (tmp_path / "settings.env").write_text(
            "".join(f"SAFEGUARD_{name}='{value}'\n" for name, value in lines.items())
        )
        check(tmp_path, repair=False, grace_s=None)

    with pytest.raises(ConfigurationError, match="no database"):
        run()
    url, s3 = secret(servers)
    with pytest.raises(Unavailable, match="database does not answer"):
        run(**s3, DATABASE_URL="postgresql://u:p@127.0.0.1:9/none")
    down = {"S3_ENDPOINT": "http://127.0.0.1:9", "S3_ATTEMPTS": "1", "S3_CONNECT_TIMEOUT_S": "0.5"}
    with pytest.raises(Unavailable, match="object store does not answer"):
        run(**s3 | down, DATABASE_URL=url)
    with pytest.raises(Unavailable, match="bucket of the pictures is missing"):
        run(**s3 | {"S3_BUCKET": "no-such-bucket"}, DATABASE_URL=url)
    with pytest.raises(ConfigurationError, match="lacks tables"):
        run(**s3, DATABASE_URL=f"{url.rpartition('/')[0]}/postgres")


async def test_the_command_line(world: World, tmp_path: Path) -> None:
    url, s3 = secret(world.settings)
    lines = s3 | {"DATABASE_URL": url}
    (tmp_path / "settings.env").write_text("".join(f"SAFEGUARD_{name}='{value}'\n" for name, value in lines.items()))

    async def run(*arguments: str) -> tuple[int, str]:
        command = [sys.executable, str(ROOT / "safeguard.py"), "check", "--home", str(tmp_path), *arguments]
        done = await asyncio.to_thread(
            subprocess.run, command, capture_output=True, text=True, timeout=240, env=os.environ | {"COLUMNS": "200"}
        )
        assert "Traceback" not in done.stderr
        return done.returncode, done.stdout

    code, said = await run()
    assert code == 0 and "consistent; looked at" in said
    await object_gone(world)
    code, said = await run("--json")
    report = json.loads(said)
    assert code == 1 and report["clean"] is False
    (finding,) = report["findings"]
    assert (finding["kind"], finding["count"], finding["repaired"]) == ("missing_object", 1, 0)
    code, said = await run("--repair")
    assert code == 0 and "1: the image becomes FAILED" in said


def test_the_report_and_the_progress_can_be_read_in_a_log_file(monkeypatch: pytest.MonkeyPatch) -> None:
    report = Report(repair=False)
    for number in range(7):
        report.add(Kind.EXTRA_OBJECT, f"images/[red]{number}")
    assert report.found[Kind.EXTRA_OBJECT].examples == [f"images/[red]{number}" for number in range(5)]
    stream = io.StringIO()
    console = Console(file=stream, width=160)
    show(report, console)
    with progress_line(console) as say:
        for number in range(1000):
            say(f"images to {number}")
    said = stream.getvalue()
    assert "images/[red]4" in said and "7 findings" in said and "\x1b" not in said
    assert "images to" not in said, "a line every ten seconds, not one for each page"
    monkeypatch.setattr(check_report, "_LOG_EVERY_S", 0.0)
    with progress_line(console) as say:
        say("images to 7 of [9]")
    assert stream.getvalue().endswith("images to 7 of [9]\n")
