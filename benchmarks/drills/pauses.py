"""SIGSTOP: a server that neither answers nor refuses, and then goes on as if nothing had been."""

import time
from functools import partial

from benchmarks.drills.drill import Drill, Scene
from benchmarks.processes import family, process_of, stopped

_PAUSE_S = 30.0
_SHARE = (0.2, 0.5)


def _stop(scene: Scene, part: str) -> None:
    process = process_of(scene.home, part)
    if process is None:
        scene.troubles.append(f"the {part} does not run: nothing was tried")
        return
    scene.wait_for_uploads(float(scene.draw.uniform(*_SHARE)))
    some = family(process)
    with stopped(some):
        scene.say(f"stopped the {part} ({len(some)} processes)")
        time.sleep(_PAUSE_S)
    scene.say("it goes on")


PAUSES = tuple(
    Drill(f"stop-{part.lower()}", f"SIGSTOP of the {part} for {_PAUSE_S:.0f} s", partial(_stop, part=part))
    for part in ("PostgreSQL", "S3")
)
