"""kill -9: each part in turn, and parts drawn at random one after another."""

import time
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

import numpy as np
import psutil

from benchmarks.drills.drill import Drill, Scene
from benchmarks.processes import PARTS, SANDBOX, process_of, processes
from storage.errors import SafeGuardError

_EARLIEST, _LATEST = 0.2, 0.6
"""Of the uploads, between which a part is killed."""
_FIND_S = 20.0
_RANDOM_KILLS = 6
_LONGEST_PAUSE_S = 6.0


@dataclass(frozen=True)
class Kill:
    """A part, and the seconds before it is killed."""

    pause_s: float
    part: str


def planned(draw: np.random.Generator, parts: list[str], count: int) -> list[Kill]:
    """So many parts, drawn with the pauses before them."""
    return [Kill(float(draw.uniform(0, _LONGEST_PAUSE_S)), str(draw.choice(parts))) for _ in range(count)]


def _found(scene: Scene, part: str) -> psutil.Process | None:
    """The oldest process of a part; None where there is none for a while, such as while Ray starts it again."""
    end = time.monotonic() + _FIND_S
    while (process := process_of(scene.home, part)) is None and time.monotonic() < end:
        time.sleep(0.05)
    return process


def _kill(scene: Scene, part: str, process: psutil.Process | None) -> bool:
    """Kills a process of a part; False where it had gone by itself."""
    try:
        if process is None:
            return False
        process.kill()
    except psutil.NoSuchProcess:
        return False
    scene.say(f"killed the {part} (process {process.pid})")
    return True


def _kill_each(scene: Scene, part: str) -> None:
    """Kills the processes of a part that run now, one after another, at shares of the load that are drawn.

    They are looked up before, since that takes longer than an upload; decoders, which come and go, when it is time.
    """
    victims = [None] if part == SANDBOX else list(processes(scene.home)[part])
    for victim, share in zip(victims, sorted(scene.draw.uniform(_EARLIEST, _LATEST, len(victims))), strict=True):
        scene.wait_for_uploads(float(share))
        if not _kill(scene, part, victim or _found(scene, part)):
            scene.troubles.append(f"a process of the {part} had gone by itself: nothing was tried")
    if not victims:
        scene.troubles.append(f"no process of the {part} was found: nothing was tried")


def _kill_at_random(scene: Scene) -> None:
    """Kills parts that are drawn; PostgreSQL, S3 and the Ray head are brought back before the next."""
    parts = [part for part in PARTS if processes(scene.home)[part]]
    for kill in planned(scene.draw, parts, _RANDOM_KILLS):
        time.sleep(kill.pause_s)
        if not _kill(scene, kill.part, _found(scene, kill.part)):
            scene.say(f"the {kill.part} does not run at this moment")
        time.sleep(1.5)  # Ray's head takes a second to see that one of its parts has ended
        with suppress(SafeGuardError):  # it is tried again when the last part was killed
            scene.revive()


def _of(part: str) -> Drill:
    name = part.replace(" ", "-").lower()
    return Drill(f"kill-{name}", f"kill -9 of the {part}", partial(_kill_each, part=part))


KILLS = (
    *(_of(part) for part in PARTS),
    Drill(
        "kill-at-random",
        f"kill -9 of {_RANDOM_KILLS} parts that are drawn, at moments that are drawn",
        _kill_at_random,
        2,
    ),
)
