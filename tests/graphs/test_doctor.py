"""The doctor finds nothing bad in what we start ourselves, and each thing that is made bad, with what to do."""

import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from ipaddress import ip_network
from pathlib import Path
from typing import Any
from uuid import uuid4

import psutil
import pytest
from pydantic import SecretStr
from sqlalchemy.ext.asyncio import AsyncEngine

from configs.settings import Settings
from graphs.doctor import (
    Finding,
    Level,
    examine,
    of_disk,
    of_files,
    of_isolation,
    of_keys,
    of_ports,
    of_settings,
    of_versions,
    processes,
)
from graphs.doctor_ports import Listening, is_loopback, listening
from storage.embedded.disks import Disk
from storage.errors import ConfigurationError
from storage.keys import create_key, revoke_key
from tests.graphs.commands.conftest import run


def bad(findings: list[Finding]) -> list[Finding]:
    return [one for one in findings if one.level == Level.BAD]


def test_our_own_servers_are_closed(servers: Settings, home: Path) -> None:
    findings = examine(home)
    assert not [one for one in bad(findings) if one.area != "disk"], findings
    assert {"files", "ports", "settings", "disk", "clock", "keys", "versions"} <= {one.area for one in findings}
    code, output = run(home, "doctor")
    assert code == int(bool(bad(findings))) and "loopback" in output
    assert any("on loopback" in one.what for one in findings)
    found = listening(home, processes(servers))
    assert {"postgresql", "s3_s3", "s3_filer"} <= {one.name for one in found} and all(one.local for one in found)


def test_the_command_fails_where_something_is_bad(servers: Settings, home: Path, tmp_path: Path) -> None:
    copied = tmp_path / "home"
    copied.mkdir()
    shutil.copy(home / "settings.env", copied)
    (copied / "settings.env").chmod(0o644)
    code, output = run(copied, "doctor", "--json")
    assert code == 1 and "chmod 600" in output and '"level": "bad"' in output
    (copied / "settings.env").chmod(0o600)
    assert not bad(list(of_files(copied)))
    (copied / "logs").mkdir()
    (copied / "logs").chmod(0o755)
    assert "chmod 700" in bad(list(of_files(copied)))[0].do
    (copied / "settings.env").write_text("SAFEGUARD_S3_ACCESS_KEY=x\nSAFEGUARD_S3_SECRET_KEY=changeme\n")
    (placeholder,) = [one for one in examine(copied) if one.area == "settings"]
    assert placeholder.level == Level.BAD and "placeholder" in placeholder.what
    with pytest.raises(ConfigurationError, match="no installation"):
        examine(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("parts", "free_gib", "total_gib", "level"),
    [
        (("home", "postgresql", "s3"), 60, 500, Level.OK),
        (("home", "postgresql", "s3"), 40, 500, Level.NOTE),
        (("home", "postgresql", "s3"), 4, 500, Level.BAD),
        (("home", "postgresql"), 4, 500, Level.NOTE),
        (("home",), 0.5, 1, Level.BAD),
        (("s3",), 0, 0.05, Level.BAD),
    ],
)
def test_a_disk_is_bad_from_where_uploads_are_refused(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    parts: tuple[str, ...],
    free_gib: float,
    total_gib: float,
    level: Level,
) -> None:
    disk = Disk(parts, tmp_path, int(free_gib * 2**30), int(total_gib * 2**30))
    monkeypatch.setattr("graphs.doctor.disks", lambda home: [disk])
    (finding,) = of_disk(tmp_path)
    assert finding.level == level
    assert (level == Level.OK) == (not finding.do)
    assert ("refused below 5.0 GiB" in finding.do) == ("s3" in parts and level != Level.OK and total_gib == 500)
    assert ("refused when it is full" in finding.do) == (level != Level.OK and "below" not in finding.do)


def test_a_database_that_is_down_hides_nothing(home: Path, tmp_path: Path) -> None:
    (tmp_path / "settings.env").write_text("SAFEGUARD_DATABASE_URL='postgresql://u:abcd1234@127.0.0.1:1/x'\n")
    (tmp_path / "settings.env").chmod(0o600)
    findings = examine(tmp_path)
    assert [one.area for one in bad(findings) if one.area != "disk"] == ["database"]
    assert "abcd1234" not in str(findings) and "versions" in {one.area for one in findings}


@contextmanager
def open_port(address: str) -> Iterator[int]:
    with socket.create_server((address, 0)) as server:
        yield int(server.getsockname()[1])


def test_an_open_port_is_found_and_told_from_a_guarded_one(tmp_path: Path) -> None:
    own = [psutil.Process(os.getpid())]
    with open_port("127.0.0.1") as local, open_port("0.0.0.0") as metrics, open_port("0.0.0.0") as gcs:
        (tmp_path / "ports.json").write_text(f'{{"ray_metrics": {metrics}, "ray_gcs": {gcs}, "http": {local}}}')
        found = {one.port: one for one in listening(tmp_path, own)}
    assert found[local].local and not found[metrics].local and not found[gcs].local
    said = {one.what.split()[0].rstrip(":"): one for one in of_ports(list(found.values())) if one.do}
    assert said[f"0.0.0.0:{metrics}"].level == Level.BAD and str(metrics) in said[f"0.0.0.0:{metrics}"].do
    assert said[f"0.0.0.0:{gcs}"].level == Level.NOTE
    assert f"127.0.0.1:{local}" not in said
    (http,) = of_ports([Listening("http", "::", 8000, "haproxy", "keys")])
    assert "TLS" in http.do


def test_a_stranger_is_not_taken_for_ray_by_a_folder_it_names(tmp_path: Path) -> None:
    code = "import socket; server = socket.create_server(('0.0.0.0', 0)); print('open', flush=True); input()"
    command = [sys.executable, "-c", code, "/opt/ray/head"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stdout.readline() == "open\n"
        (found,) = listening(tmp_path, [psutil.Process(process.pid)])
        process.communicate("\n")
    assert found.name == "other" and [one.level for one in of_ports([found])] == [Level.BAD]


@pytest.mark.parametrize(
    ("address", "local"),
    [("127.0.0.1", True), ("::1", True), ("::ffff:127.0.0.1", True), ("localhost", True), ("127.8.8.8", True),
     ("0.0.0.0", False), ("::", False), ("10.0.0.1", False), ("db.example", False), ("", False)],
)  # fmt: skip
def test_loopback(address: str, local: bool) -> None:
    assert is_loopback(address) is local


@pytest.mark.parametrize(
    ("change", "said", "level"),
    [
        ({}, None, None),
        ({"webhook_allow_http": True}, "http://", Level.BAD),
        ({"webhook_allow_private": [ip_network("10.0.0.0/8")]}, "webhooks may lead into 10.0.0.0/8", Level.NOTE),
        ({"fetch_allow_private": [ip_network("10.0.0.0/8")]}, "read at addresses in 10.0.0.0/8", Level.NOTE),
        ({"trusted_proxies": [ip_network("0.0.0.0/0")]}, "whoever sends it", Level.BAD),
        ({"wrong_keys_per_minute": 0}, "guessed", Level.BAD),
        ({"s3_endpoint": "http://s3.example"}, "s3.example", Level.BAD),
        ({"s3_endpoint": "https://s3.example"}, None, None),
        ({"database_url": SecretStr("postgresql://u:abcd1234@db.example/x")}, "db.example", Level.BAD),
        ({"database_url": SecretStr("postgresql://u:abcd1234@db.example/x?ssl=verify-full")}, None, None),
    ],
)
def test_what_settings_open(servers: Settings, change: dict[str, Any], said: str | None, level: Level | None) -> None:
    findings = list(of_settings(servers.model_copy(update=change)))
    told = [one for one in findings if one.do]
    assert [one.level for one in told] == ([level] if level else [])
    assert said is None or said in told[0].what
    assert "abcd1234" not in str(findings)


async def test_keys_without_an_end_or_near_theirs(engine: AsyncEngine) -> None:
    name = uuid4().hex
    await create_key(engine, name, ["admin"], actor="test")
    soon = datetime.now(UTC) + timedelta(days=3)
    await create_key(engine, f"{name}-soon", ["image:read"], expires_at=soon, actor="test")
    await create_key(engine, f"{name}-plain", ["image:read"], actor="test")
    mine = [one for one in await of_keys(engine) if name in one.what]
    assert len(mine) == 2 and any("never expires" in one.what for one in mine)
    assert any(f"keys rotate {name}-soon" in one.do for one in mine)
    for key in (name, f"{name}-soon", f"{name}-plain"):
        await revoke_key(engine, key, actor="test")
    assert not [one for one in await of_keys(engine) if name in one.what]


def test_a_kernel_that_cannot_confine_is_told() -> None:
    assert [one.level for version in (0, 4) for one in of_isolation(version)] == [Level.NOTE, Level.OK]


def test_other_versions_are_named(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    lock.write_text("# made\npillow==0.1\nno-such-package==1.0\n")
    (finding,) = of_versions(lock)
    assert "pillow" in finding.what and "no-such-package" not in finding.what


def test_keys_are_rotated_by_the_command(servers: Settings, home: Path) -> None:
    name = uuid4().hex
    assert run(home, "keys", "create", name, "--scope", "image:read")[0] == 0
    code, key = run(home, "keys", "rotate", name, "--overlap", "2")
    assert code == 0 and key.startswith("sg_")
    code, refused = run(home, "keys", "rotate", name, "--overlap", "-1")
    assert code != 0 and "overlap" in refused
    code, revoked = run(home, "keys", "revoke", name)
    assert code == 0 and f"{name}/old-" in revoked
