"""The whole installation: embedded servers, schema, buckets, Ray, the application and the first keys. May import all below."""

import asyncio
import json
import os
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from configs.settings import Settings, default_home, load_settings
from graphs import monitoring
from graphs.cluster import RayCluster
from storage.database import create_engine
from storage.embedded.stack import EmbeddedServers
from storage.errors import SafeGuardError, Unavailable
from storage.keys import SCOPES, create_key, list_keys, revoke_key
from storage.migrate import upgrade
from storage.objects import ObjectStore
from storage.policy_changes import ensure_active

KEY_FILE = "admin.key"
FIRST_KEY = "first-key"


@dataclass(frozen=True)
class Running:
    """Where a running service is found."""

    url: str
    dashboard: str
    key_file: Path
    settings: Settings

    @property
    def key(self) -> str:
        """The first key, with every scope."""
        return self.key_file.read_text().strip()


def up(home: Path | None = None, *, say: Any = print) -> Running:
    """Starts what does not run yet and returns when uploads are accepted.

    Args:
        home: folder for all state; None takes ``default_home()``.
        say: told what is being done, a line at a time.
    Raises:
        ConfigurationError: an option, folder or file is wrong.
        Unavailable: a part did not come up in time.
    """
    folder = home or default_home()
    key_file = folder / KEY_FILE
    settings = prepare(home, say=say, key_wanted=not key_file.exists())
    say("Ray …")
    cluster = RayCluster(settings)
    cluster.start()
    if not cluster.outside:
        monitoring.write(folder, cluster)
    say("the application …")
    cluster.deploy()
    url = cluster.url
    wait_ready(url)
    return Running(url, cluster.dashboard, key_file, settings)


def prepare(home: Path | None = None, *, say: Any = print, key_wanted: bool = False) -> Settings:
    """Brings schema, buckets and the first policy to what this version needs, without Ray; embedded servers are started.

    Args:
        key_wanted: make a first key too, in ``<home>/admin.key``.
    Raises:
        ConfigurationError, Unavailable: as ``up``.
    """
    folder = home or default_home()
    say("PostgreSQL and S3 …")
    settings = EmbeddedServers(folder).start()
    say("schema and buckets …")
    upgrade(settings)
    key = asyncio.run(_ensure(settings, key_wanted=key_wanted))
    if key is not None:
        _write_secret(folder / KEY_FILE, key)
    return settings


async def _ensure(settings: Settings, *, key_wanted: bool) -> str | None:
    """Makes the buckets, the first policy and, where wanted, a first key; one whose file was lost is revoked."""
    objects = ObjectStore(settings)
    engine = create_engine(settings, pool_size=1)
    try:
        await objects.ensure_buckets(settings.s3_vectors_bucket)
        await ensure_active(engine, actor="safeguard up")
        if not key_wanted:
            return None
        for known in await list_keys(engine):
            if known.name.startswith(FIRST_KEY):
                await revoke_key(engine, known.name, actor="safeguard up")
        return await create_key(engine, f"{FIRST_KEY}-{int(time.time() * 1000)}", SCOPES, actor="safeguard up")
    finally:
        objects.close()
        await engine.dispose()


def _write_secret(path: Path, secret: str) -> None:
    draft = path.with_suffix(".draft")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as stream:
        stream.write(secret + "\n")
    draft.rename(path)


def ready(url: str) -> dict[str, Any] | None:
    """What ``/health/ready`` says: None where nothing answers."""
    try:
        with urllib.request.urlopen(f"{url}/health/ready", timeout=10) as answer:
            content: dict[str, Any] = json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            try:
                content = json.load(error)
            except ValueError:
                return None
    except (OSError, ValueError):
        return None
    return content


def wait_ready(url: str, timeout_s: float = 90.0) -> None:
    """Returns when all parts answer.

    Raises:
        Unavailable: they do not in time.
    """
    end = time.monotonic() + timeout_s
    while True:
        answer = ready(url)
        if answer is not None and answer.get("status") == "ready":
            return
        if time.monotonic() > end:
            raise Unavailable(f"{url}/health/ready is not green after {timeout_s:.0f} s: {answer}")
        time.sleep(0.5)


def down(home: Path | None = None) -> None:
    """Stops everything that belongs to this home; all data stay."""
    folder = home or default_home()
    if not folder.exists():
        return
    RayCluster(load_settings(folder)).stop()
    EmbeddedServers(folder).stop()


def status(home: Path | None = None) -> list[tuple[str, str, str]]:
    """Each part with its state (running, stopped, crashed, …) and where it is."""
    folder = home or default_home()
    rows = []
    if not folder.exists():
        return [("installation", "none", str(folder))]
    for name, server in EmbeddedServers(folder).status().items():
        state = "running" if server.running else "crashed" if server.crashed else "stopped"
        rows.append((name, state, server.address or ""))
    cluster = RayCluster(load_settings(folder))
    try:
        applications = cluster.applications()
        url = cluster.url if applications else ""
    except SafeGuardError:
        rows.append(("ray", "crashed" if cluster.crashed else "stopped", ""))
        return rows
    rows.append(("ray", "running", cluster.dashboard))
    for name, application in applications.items():
        rows.append((name, str(application.get("status", "")).lower(), url))
        for deployment, detail in application.get("deployments", {}).items():
            replicas = detail.get("replicas", [])
            running = sum(replica.get("state") == "RUNNING" for replica in replicas)
            rows.append((f"  {deployment}", str(detail.get("status", "")).lower(), f"{running} replicas running"))
    answer = ready(url) if url else None
    if answer is not None:
        for part, said in answer.get("checks", {}).items():
            rows.append((f"  ready: {part}", "ok" if said.get("ok") else "failed", str(said.get("detail", ""))))
    return rows
