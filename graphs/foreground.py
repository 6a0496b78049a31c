"""``safeguard up --foreground``: stays while Ray runs and stops everything when told to. May import all below."""

import signal
import threading
from pathlib import Path
from types import FrameType

from configs.settings import default_home, load_settings
from graphs.cluster import RayCluster
from graphs.service import down

_LOOK_EVERY_S = 2.0


def stay(home: Path | None) -> int:
    """Waits until SIGTERM or SIGINT comes, or Ray has gone away; then stops everything.

    Returns:
        An exit code: 0 where it was told to end.
    """
    told = threading.Event()

    def tell(number: int, frame: FrameType | None) -> None:
        told.set()

    for one in (signal.SIGTERM, signal.SIGINT):
        signal.signal(one, tell)
    cluster = RayCluster(load_settings(home or default_home()))
    while not told.wait(_LOOK_EVERY_S):
        if not cluster.alive:
            down(home)
            return 1
    down(home)
    return 0
