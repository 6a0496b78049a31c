"""``safeguard update``: a new version takes the place of the running one, replica by replica. May import all below."""

import asyncio
from importlib.metadata import version
from pathlib import Path
from typing import Any

from sqlalchemy.exc import DBAPIError

from configs.settings import Settings, default_home, load_settings
from graphs import monitoring
from graphs.cluster import CONFIG, RayCluster
from graphs.releases import new_release
from graphs.service import wait_ready
from storage.database import create_engine
from storage.errors import ConfigurationError, SafeGuardError, Unavailable
from storage.migrate import newest_revision, revision

_LIMIT_S = 900.0


def update(home: Path | None = None, *, config: Path = CONFIG, say: Any = print) -> str:
    """Replaces every replica by one with the code, models and settings that lie here now, and returns when all are new.

    The old ones answer until the new ones do (``max_surge_percent`` in serve_config.yaml), so no request fails. Where new
    ones do not start, the old ones go on.

    Args:
        home: folder for all state; None takes ``default_home()``.
        config: the Serve configuration.
        say: told what is being done, a line at a time.
    Returns:
        The name of the new release.
    Raises:
        ConfigurationError: nothing runs, this version needs another schema or another Ray, or new replicas do not start.
        Unavailable: a part does not answer, or is not ready in time.
    """
    folder = home or default_home()
    if not folder.is_dir():
        raise ConfigurationError(f"there is no installation in {folder}; run `safeguard up`")
    settings = load_settings(folder)
    cluster = RayCluster(settings)
    try:
        applications = cluster.applications()
    except SafeGuardError as error:
        raise ConfigurationError("the service does not run: `safeguard up` starts it with this version") from error
    if not applications:
        raise ConfigurationError("no application is deployed: `safeguard up` deploys this version")
    same_ray(cluster.ray_version(), version("ray"))
    same_schema(asyncio.run(_revision(settings)), newest_revision())
    release = new_release()
    if not cluster.outside:
        monitoring.write(folder, cluster)
    say(f"release {release}: new replicas, then the old ones end …")
    cluster.deploy(config, release=release, timeout_s=_LIMIT_S)
    wait_ready(cluster.url)
    return release


def same_ray(running: str, installed: str) -> None:
    """Replicas talk to the Ray that runs.

    Raises:
        ConfigurationError: another one is installed by now.
    """
    if running != installed:
        raise ConfigurationError(
            f"Ray {running} runs and {installed} is installed: that takes a restart, `safeguard down` and `safeguard up`"
        )


def same_schema(held: str | None, wanted: str) -> None:
    """Old and new replicas work side by side, so both must know the schema.

    Raises:
        ConfigurationError: this version needs another one than the database has.
    """
    if held != wanted:
        raise ConfigurationError(
            f"this version needs schema {wanted} and the database has {held}: that takes a restart, `safeguard down` and"
            " `safeguard up`"
        )


async def _revision(settings: Settings) -> str | None:
    engine = create_engine(settings, pool_size=1)
    try:
        return await revision(engine)
    except (OSError, DBAPIError) as error:
        raise Unavailable("the database does not answer") from error
    finally:
        await engine.dispose()
