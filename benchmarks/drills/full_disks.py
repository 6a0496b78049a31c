"""A full disk under PostgreSQL and under S3, and room again after a while."""

import time
from functools import partial

from benchmarks.drills.drill import Drill, Scene

_FULL_S = 15.0
_SHARE = (0.2, 0.5)


def _fill(scene: Scene, part: str) -> None:
    disk = scene.disks.get(part)
    if disk is None:
        scene.troubles.append("no disk can be mounted here, which only root can: nothing was tried")
        return
    scene.wait_for_uploads(float(scene.draw.uniform(*_SHARE)))
    disk.fill()
    try:
        scene.say(f"the disk of {part} is full")
        time.sleep(_FULL_S)
    finally:
        disk.empty()
    scene.say("there is room again")


FULL_DISKS = tuple(
    Drill(f"full-{part.lower()}", f"no room on the disk of {part} for {_FULL_S:.0f} s", partial(_fill, part=part))
    for part in ("PostgreSQL", "S3")
)
