"""Clocks that are wrong by minutes: the database's, by whose clock leases are given and end, and that of a pipeline."""

import asyncio
import os
import time
from pathlib import Path
from typing import Any

import yaml
from sqlalchemy import text

from benchmarks.drills.drill import Drill, Scene
from benchmarks.processes import process_of
from graphs.cluster import CONFIG, RayCluster
from storage.database import create_engine

_JUMP_S = 600
_SKEW_S = 480
"""Object stores refuse requests that are signed more than 15 minutes off."""
_JUMPS = 3
_PAUSE_S = (2.0, 4.0)
_FIND_S = 20.0
_LIBRARY = "FAKETIME_LIBRARY"
_MOVED = {
    "pictures": text(
        "UPDATE image SET lease_expires_at = lease_expires_at - make_interval(secs => :s) WHERE status = 'PROCESSING'"
        " AND lease_token IS NOT NULL"
    ),
    "deliveries": text(
        "UPDATE delivery SET due_at = due_at - make_interval(secs => :s) WHERE state = 'waiting' AND lease_token IS NOT NULL"
    ),
}
"""A clock that jumps forward by so many seconds makes of every lease what moving its end back by them does."""


async def _moved(scene: Scene, jump_s: float) -> dict[str, int]:
    engine = create_engine(scene.running.settings, pool_size=1)
    try:
        async with engine.begin() as connection:
            return {what: (await connection.execute(one, {"s": jump_s})).rowcount for what, one in _MOVED.items()}
    finally:
        await engine.dispose()


def _jump(scene: Scene) -> None:
    """Jumps forward, back and forward, each as soon as a picture is in work; what that does has time to come."""
    for number, pause_s in enumerate(scene.draw.uniform(*_PAUSE_S, _JUMPS)):
        jump_s, end = (_JUMP_S if number % 2 == 0 else -_JUMP_S), time.monotonic() + _FIND_S
        while not (moved := asyncio.run(_moved(scene, jump_s)))["pictures"] and time.monotonic() < end:
            time.sleep(0.02)
        found = ", ".join(f"{count} of {what}" for what, count in moved.items())
        scene.say(f"the leases jumped {'forward' if jump_s > 0 else 'back'} by {_JUMP_S} s: {found}")
        if not moved["pictures"]:
            scene.troubles.append("no picture was in work: nothing was tried")
        time.sleep(float(pause_s))


def library() -> Path | None:
    """libfaketime, which Debian has as a package of that name."""
    given = os.environ.get(_LIBRARY)
    found = [Path(given)] if given else sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))
    return next((one for one in found if one.is_file()), None)


def _lacks() -> str | None:
    return None if library() else f"libfaketime is not installed, and {_LIBRARY} names none"


def skewed(config: dict[str, Any], preload: Path, skew_s: int) -> dict[str, Any]:
    """The Serve configuration with a pipeline whose clock is wrong."""
    wrong = {"LD_PRELOAD": str(preload), "FAKETIME": f"{skew_s:+d}s", "FAKETIME_DONT_FAKE_MONOTONIC": "1"}
    for application in config["applications"]:
        for deployment in application["deployments"]:
            if deployment["name"] == "Pipeline":
                deployment["ray_actor_options"]["runtime_env"] = {"env_vars": wrong}
    return config


def _skew(scene: Scene) -> None:
    """A pipeline whose clock is behind, then one whose clock is ahead."""
    preload = library()
    assert preload is not None
    cluster, config = RayCluster(scene.running.settings), scene.home / "skewed.yaml"
    try:
        for share, skew_s in ((0.1, -_SKEW_S), (0.5, _SKEW_S)):
            scene.wait_for_uploads(share)
            config.write_text(yaml.safe_dump(skewed(yaml.safe_load(CONFIG.read_text()), preload, skew_s)))
            cluster.deploy(config)
            pipeline = process_of(scene.home, "Pipeline")
            if pipeline is None or pipeline.environ().get("FAKETIME") != f"{skew_s:+d}s":
                scene.troubles.append("the pipeline has the right clock: nothing was tried")
            scene.say(f"the clock of the pipeline is wrong by {skew_s:+d} s")
        scene.wait_for_uploads(1.0)
    finally:
        cluster.deploy(CONFIG)
    scene.say("it is right again")


CLOCKS = (
    Drill(
        "skew-database", f"all leases end {_JUMP_S} s earlier, then later, as if the database's clock jumped", _jump, 4
    ),
    Drill(
        "skew-pipeline", f"a pipeline whose clock is {_SKEW_S} s behind, then one that is ahead", _skew, lacks=_lacks
    ),
)
