"""What is open, weak or about to fail in one installation, each with what to do about it. May import all below."""

import asyncio
import stat
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from urllib.parse import urlsplit

import psutil
from pydantic import ValidationError
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from configs.settings import SETTINGS_FILE, Settings, default_home, load_settings
from deployments.vision.confinement import landlock_version
from graphs.cluster import PROJECT, RayCluster
from graphs.doctor_ports import Listening, is_loopback, listening
from graphs.service import KEY_FILE
from storage.database import create_engine
from storage.embedded.disks import disks
from storage.embedded.stack import EmbeddedServers
from storage.errors import ConfigurationError
from storage.keys import list_keys

_SOON = timedelta(days=14)
_FREE_SHARE, _FREE_BYTES = 0.1, 2**30
_S3_SHARE = 0.01
"""The embedded S3 server takes no object when less of its disk is free; this is built into SeaweedFS's ``mini``."""
_SKEW_S = 1.0
_SECRETS = (SETTINGS_FILE, KEY_FILE, "ray.token")
_CLOSED = ("logs", "run", "objects", "postgres", "ray")


class Level(StrEnum):
    """``bad`` must be mended; ``note`` should be known; ``ok`` was looked at."""

    OK = "ok"
    NOTE = "note"
    BAD = "bad"


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Args:
        what: what was found.
        do: what to do about it; empty where there is nothing to do.
    """

    level: Level
    area: str
    what: str
    do: str = ""


def examine(home: Path | None = None) -> list[Finding]:
    """Looks at everything; a part that does not answer is a finding and hides no other.

    Args:
        home: folder for all state; None takes ``default_home()``.
    Raises:
        ConfigurationError: there is no installation.
    """
    folder = home or default_home()
    if not folder.is_dir():
        raise ConfigurationError(f"there is no installation in {folder}; run `safeguard up`")
    findings = [*of_files(folder)]
    try:
        settings = load_settings(folder)
    except ValidationError as error:
        said = "; ".join(str(one["msg"]).removeprefix("Value error, ") for one in error.errors(include_input=False))
        return [*findings, Finding(Level.BAD, "settings", said, f"correct {folder / SETTINGS_FILE} or the environment")]
    findings += [*of_settings(settings), *of_ports(listening(folder, processes(settings))), *of_disk(folder)]
    findings += [*of_isolation(landlock_version())]
    findings += [*asyncio.run(_of_database(settings)), *of_versions(PROJECT / "requirements.lock")]
    return findings


def processes(settings: Settings) -> Iterator[psutil.Process]:
    """All processes of the installation, each once."""
    seen: set[int] = set()
    servers = (one.pid for one in EmbeddedServers(settings.home).status().values() if one.pid is not None)
    # Some of Ray's agents hide what they are from everybody but their parents.
    for pid in [*servers, *(one.pid for one in RayCluster(settings).processes())]:
        try:
            process = psutil.Process(pid)
            family = [process, *process.children(recursive=True)]
        except psutil.NoSuchProcess:
            continue
        yield from (one for one in family if one.pid not in seen)
        seen |= {one.pid for one in family}


def of_files(home: Path) -> Iterator[Finding]:
    """Secrets are for their owner only."""
    files = [home / name for name in _SECRETS] + [*home.glob("objects/configuration/*")]
    open_files = [path for path in files if path.exists() and path.stat().st_mode & 0o077]
    folders = [home / name for name in _CLOSED if (home / name).is_dir()]
    open_folders = [path for path in folders if path.stat().st_mode & 0o077]
    for path in open_files + open_folders:
        mode, wanted = stat.filemode(path.stat().st_mode), "700" if path.is_dir() else "600"
        yield Finding(Level.BAD, "files", f"others may look into {path} ({mode})", f"chmod {wanted} {path}")
    if not open_files and not open_folders:
        yield Finding(Level.OK, "files", f"secrets in {home} are for their owner only")


def of_ports(found: list[Listening]) -> Iterator[Finding]:
    """What is not on loopback asks for a secret."""
    guarded: dict[str, list[Listening]] = {}
    for one in found:
        where = f"{one.address}:{one.port} ({one.text})"
        if one.local:
            continue
        if one.guard is None:
            yield Finding(
                Level.BAD,
                "ports",
                f"{where} is open to the network and asks nobody for a secret",
                f"close port {one.port} in the firewall to all but this machine",
            )
        elif one.name == "http":
            yield Finding(Level.NOTE, "ports", f"{where} is open to the network", "put a proxy with TLS in front")
        else:
            guarded.setdefault(one.text, []).append(one)
    for guard, some in guarded.items():
        yield Finding(
            Level.NOTE,
            "ports",
            f"{', '.join(f'{one.address}:{one.port}' for one in some)}: open to the network ({guard})",
            "let the firewall admit only those that need them, such as other nodes of the cluster",
        )
    local = sum(one.local for one in found)
    if local:
        yield Finding(Level.OK, "ports", f"{local} of {len(found)} ports are on loopback")


def of_settings(settings: Settings) -> Iterator[Finding]:
    """What the settings open, and what crosses a network in the clear."""
    if settings.webhook_allow_private:
        networks = ", ".join(str(one) for one in settings.webhook_allow_private)
        yield Finding(
            Level.NOTE, "settings", f"webhooks may lead into {networks}",
            "allow single receivers only: whoever has an admin key can make this service call them",
        )  # fmt: skip
    if settings.fetch_allow_private:
        networks = ", ".join(str(one) for one in settings.fetch_allow_private)
        yield Finding(
            Level.NOTE, "settings", f"pictures may be read at addresses in {networks}",
            "allow single servers only: whoever has a key to look up can find out what answers there",
        )  # fmt: skip
    if settings.webhook_allow_http:
        yield Finding(Level.BAD, "settings", "webhooks may use http://", "unset SAFEGUARD_WEBHOOK_ALLOW_HTTP")
    if any(one.prefixlen == 0 for one in settings.trusted_proxies):
        yield Finding(
            Level.BAD, "settings", "X-Forwarded-For is believed whoever sends it",
            "name your proxies only in SAFEGUARD_TRUSTED_PROXIES",
        )  # fmt: skip
    if settings.wrong_keys_per_minute == 0:
        yield Finding(
            Level.BAD, "settings", "keys may be guessed without a limit", "unset SAFEGUARD_WRONG_KEYS_PER_MINUTE"
        )
    database = settings.database_url and urlsplit(settings.database_url.get_secret_value())
    if database and not is_loopback(database.hostname or "") and "ssl" not in database.query:
        yield Finding(
            Level.BAD, "settings", f"PostgreSQL at {database.hostname} is asked without TLS being demanded",
            "add ?ssl=verify-full to SAFEGUARD_DATABASE_URL",
        )  # fmt: skip
    for name, address in (("S3", settings.s3_endpoint), ("the Ray dashboard", settings.ray_dashboard)):
        parts = urlsplit(address or "")
        if parts.scheme == "http" and not is_loopback(parts.hostname or ""):
            yield Finding(Level.BAD, "settings", f"{name} at {parts.hostname} is asked without TLS", "use https://")
    yield Finding(Level.OK, "settings", "no placeholder is used as a secret")


def of_isolation(version: int) -> Iterator[Finding]:
    """Whether decoders can be kept from files; ``version`` of Landlock, 0 is none."""
    if version:
        yield Finding(Level.OK, "isolation", f"decoders can read no file of ours (Landlock {version})")
    else:
        yield Finding(
            Level.NOTE,
            "isolation",
            "this kernel has no Landlock: a picture that takes over its decoder can read what the service's user can",
            "run the service as a user of its own, or in a container",
        )


def of_disk(home: Path) -> Iterator[Finding]:
    """Room for what comes, on every disk that data lie on."""
    for disk in disks(home):
        whose = " and ".join(disk.parts)
        said = f"{_size(disk.free_bytes)} of {_size(disk.total_bytes)} are free at {disk.folder} ({whose})"
        low = disk.free_bytes < max(_FREE_BYTES, _FREE_SHARE * disk.total_bytes)
        least = int(_S3_SHARE * disk.total_bytes) if "s3" in disk.parts else 0
        bad = disk.free_bytes < max(_FREE_BYTES, least)
        level = Level.BAD if bad else Level.NOTE if low else Level.OK
        when = f"below {_size(least)}" if least >= 2**20 else "when it is full"
        yield Finding(level, "disk", said, f"make room: uploads are refused {when}" if low else "")


def _size(bytes_: int) -> str:
    return f"{bytes_ / 2**30:.1f} GiB" if bytes_ >= 2**30 else f"{bytes_ / 2**20:.0f} MiB"


async def _of_database(settings: Settings) -> list[Finding]:
    if settings.database_url is None:
        return [Finding(Level.BAD, "database", "none is set", "run `safeguard up` or set SAFEGUARD_DATABASE_URL")]
    engine = create_engine(settings, pool_size=1)
    try:
        return [*await of_clock(engine), *await of_keys(engine)]
    except Exception as error:
        return [Finding(Level.BAD, "database", f"PostgreSQL does not answer: {type(error).__name__}", "safeguard up")]
    finally:
        await engine.dispose()


async def of_clock(engine: AsyncEngine) -> list[Finding]:
    """This machine's clock against PostgreSQL's, and its version."""
    async with engine.connect() as connection:
        await connection.execute(text("SELECT 1"))
        before = time.time()
        row = (
            await connection.execute(
                text("SELECT extract(epoch FROM clock_timestamp()) AS at, current_setting('server_version') AS version")
            )
        ).one()
        after = time.time()
    skew = max(before - float(row.at), float(row.at) - after, 0.0)
    said = f"PostgreSQL {row.version}; its clock differs from ours by {skew:.1f} s at least"
    if skew > _SKEW_S:
        return [Finding(Level.BAD, "clock", said, "synchronise both clocks: signed addresses and leases rest on them")]
    return [Finding(Level.OK, "clock", said)]


async def of_keys(engine: AsyncEngine) -> list[Finding]:
    """Keys that never expire, and those that are about to."""
    now, found = datetime.now(UTC), []
    valid = [
        key
        for key in await list_keys(engine)
        if key.revoked_at is None and (key.expires_at is None or key.expires_at > now)
    ]
    for key in valid:
        if key.expires_at is None and "admin" in key.scopes:
            found.append(
                Finding(
                    Level.NOTE,
                    "keys",
                    f"the key {key.name!r} may do everything and never expires",
                    f"make one with --days for each user of it, then: safeguard keys revoke {key.name}",
                )
            )
        elif key.expires_at is not None and key.expires_at - now < _SOON and "/old-" not in key.name:
            left = (key.expires_at - now).days
            found.append(
                Finding(
                    Level.NOTE,
                    "keys",
                    f"the key {key.name!r} expires in {left} days",
                    f"safeguard keys rotate {key.name}",
                )
            )
    endless = sum(key.expires_at is None for key in valid)
    found.append(Finding(Level.OK, "keys", f"{len(valid)} keys are valid, {endless} of them without an end"))
    return found


def of_versions(lock: Path) -> Iterator[Finding]:
    """Whether the packages are those that were tried together."""
    wanted = dict(line.split("==", 1) for line in lock.read_text().splitlines() if "==" in line and line[0] != "#")
    others = []
    for name, tried in wanted.items():
        try:
            installed = version(name).partition("+")[0]
        except PackageNotFoundError:
            continue  # what only developers need
        if installed != tried.partition("+")[0].strip():
            others.append(f"{name} {installed} instead of {tried}")
    if others:
        yield Finding(
            Level.NOTE, "versions", f"{len(others)} packages are not those that were tried: {', '.join(others[:5])}",
            "pip install -r requirements.lock",
        )  # fmt: skip
    else:
        yield Finding(Level.OK, "versions", "all packages are those that were tried together")
