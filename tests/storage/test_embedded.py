"""The embedded servers: found again, closed to strangers, revived with their data, gone when stopped."""

import asyncio
import os
import shutil
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import psutil
import pytest

from storage.embedded.process import ManagedProcess
from storage.embedded.stack import EmbeddedServers
from storage.errors import ConfigurationError
from storage.objects import ObjectStore


@pytest.fixture(scope="module")
def stack() -> Iterator[EmbeddedServers]:
    folder = Path(tempfile.mkdtemp(prefix="sge-"))
    folder.chmod(0o755)
    made = EmbeddedServers(folder)
    made.start()
    yield made
    made.stop()
    shutil.rmtree(folder, ignore_errors=True)


def family(stack: EmbeddedServers) -> list[psutil.Process]:
    """All processes of both servers."""
    roots = [psutil.Process(one.pid) for one in stack.status().values() if one.pid]
    return [member for root in roots for member in (root, *root.children(recursive=True))]


def test_a_second_start_finds_the_first(stack: EmbeddedServers) -> None:
    before = {name: one.pid for name, one in stack.status().items()}
    again = EmbeddedServers(stack.home)
    settings = again.start()
    assert {name: one.pid for name, one in again.status().items()} == before
    assert settings.database_url is not None and settings.s3_endpoint == stack.objects.endpoint


def test_secrets_are_closed_and_on_no_command_line(stack: EmbeddedServers) -> None:
    settings = stack.start()
    assert settings.database_url and settings.s3_secret_key
    secrets = [
        urlsplit(settings.database_url.get_secret_value()).password or "",
        settings.s3_secret_key.get_secret_value(),
    ]
    assert (stack.home / "settings.env").stat().st_mode & 0o777 == 0o600
    for path in (stack.home / "objects" / "configuration").iterdir():
        assert path.stat().st_mode & 0o077 == 0
    for process in family(stack):
        assert not any(secret in " ".join(process.cmdline()) for secret in secrets)
    for log in (stack.home / "logs").iterdir():
        assert log.stat().st_mode & 0o077 == 0
        assert not any(secret in log.read_text(errors="replace") for secret in secrets)


def test_strangers_are_refused(stack: EmbeddedServers) -> None:
    settings = stack.start()
    assert settings.database_url

    async def wrong_password() -> None:
        await asyncpg.connect(host="127.0.0.1", port=stack.postgres.port, user="safeguard", password="wrong", timeout=5)

    with pytest.raises(asyncpg.InvalidPasswordError):
        asyncio.run(wrong_password())

    async def store() -> None:
        objects = ObjectStore(settings)
        await objects.ensure_buckets()
        await objects.put("images/secret.txt", b"secret", "text/plain")
        objects.close()

    asyncio.run(store())
    for address in (
        f"{stack.objects.endpoint}/{settings.s3_bucket}/images/secret.txt",
        f"http://127.0.0.1:{stack.objects.filer_port}/buckets/{settings.s3_bucket}/images/secret.txt",
    ):
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(address, timeout=5)
        assert refused.value.code in (401, 403)


def test_only_loopback_is_listened_on(stack: EmbeddedServers) -> None:
    addresses = [
        connection.laddr.ip
        for process in family(stack)
        for connection in process.net_connections("tcp")
        if connection.status == psutil.CONN_LISTEN
    ]
    assert addresses and set(addresses) <= {"127.0.0.1", "::1"}


@pytest.mark.parametrize("name", ["postgresql", "s3"])
def test_a_killed_server_is_seen_and_revived_with_its_data(stack: EmbeddedServers, name: str) -> None:
    settings = stack.start()

    async def write() -> None:
        objects = ObjectStore(settings)
        await objects.ensure_buckets()
        await objects.put(f"kept/{name}", b"kept", "text/plain")
        objects.close()
        connection = await asyncpg.connect(settings.database_url.get_secret_value())  # type: ignore[union-attr]
        await connection.execute("CREATE TABLE IF NOT EXISTS kept (name text)")
        await connection.execute("INSERT INTO kept VALUES ($1)", name)
        await connection.close()

    asyncio.run(write())
    pid = stack.status()[name].pid
    assert pid
    os.kill(pid, 9)
    psutil.wait_procs([psutil.Process(pid)] if psutil.pid_exists(pid) else [], timeout=5)
    seen = EmbeddedServers(stack.home).status()[name]
    assert seen.crashed and not seen.running
    again = stack.start()
    assert stack.status()[name].running and again.s3_endpoint == settings.s3_endpoint

    async def read() -> None:
        objects = ObjectStore(again)
        assert await objects.get(f"kept/{name}") == b"kept"
        objects.close()
        connection = await asyncpg.connect(again.database_url.get_secret_value())  # type: ignore[union-attr]
        assert await connection.fetchval("SELECT count(*) FROM kept WHERE name = $1", name) == 1
        await connection.close()

    asyncio.run(read())


def test_stop_leaves_no_process_and_start_finds_the_data(stack: EmbeddedServers) -> None:
    members = family(stack)
    stack.stop()
    assert len(members) >= 2 and not any(member.is_running() and member.status() != "zombie" for member in members)
    assert not any(one.running or one.crashed for one in stack.status().values())
    stack.start()
    assert all(one.running for one in stack.status().values())


def test_a_reused_pid_is_left_alone(tmp_path: Path) -> None:
    process = ManagedProcess(tmp_path, "sleeper")
    process.start(["sleep", "60"])
    pid = process.pid
    assert pid and process.alive
    record = tmp_path / "run" / "sleeper.json"
    record.write_text(record.read_text().replace('"started": ', '"started": 1'))
    stranger = ManagedProcess(tmp_path, "sleeper")
    assert not stranger.alive
    stranger.stop()
    assert psutil.pid_exists(pid)
    psutil.Process(pid).kill()


def test_a_folder_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("")
    with pytest.raises(ConfigurationError, match="cannot be used"):
        EmbeddedServers(file / "home").start()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root runs servers as another user")
def test_a_closed_folder_is_named(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    with pytest.raises(ConfigurationError, match=r"chmod o\+x"):
        EmbeddedServers(closed / "home").start()
