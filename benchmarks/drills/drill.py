"""What a drill is, and what it may do to the installation that it is given."""

import time
import zlib
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from rich.console import Console

from benchmarks.disks import Disk
from benchmarks.drills.load import Item, Load
from benchmarks.receiver import Receiver
from graphs.cluster import RayCluster
from graphs.service import Running, up
from storage.embedded.stack import EmbeddedServers


@dataclass
class Scene:
    """A running installation under load, as a drill finds it.

    Args:
        home: of the installation.
        running: where it is.
        photos: folder of further pictures; those at its end are in no load.
        pictures: names and files of the load and of the member that is in a bank.
        load: uploads that are under way; all of them were accepted when the drill is judged.
        receiver: of a webhook that wants every event.
        disks: by ``PostgreSQL`` and ``S3``, on which their data lie; empty where none can be mounted.
        draw: random numbers of this drill: the same for a seed, whichever drills run beside it.
        own: ids of images that the drill made itself, by name: they must come to an end too.
        troubles: what the drill itself found wrong; the invariants are not its business.
    """

    home: Path
    running: Running
    photos: Path
    pictures: list[Item]
    load: Load
    receiver: Receiver
    disks: Mapping[str, Disk]
    draw: np.random.Generator
    console: Console
    begun: float = field(default_factory=time.monotonic)
    own: dict[str, int] = field(default_factory=dict)
    troubles: list[str] = field(default_factory=list)

    def say(self, what: str) -> None:
        """A line of the log, with the seconds since the load began."""
        self.console.print(f"{time.monotonic() - self.begun:7.1f} s  {what}", highlight=False, markup=False)

    def wait_for_uploads(self, share: float) -> None:
        """Returns when so much of the load, from 0 to 1, was accepted."""
        self.load.wait(int(share * self.load.size))

    def revive(self) -> bool:
        """What an operator does when PostgreSQL, S3 or the Ray head has ended: `up`. False where they all run.

        Raises:
            SafeGuardError: it does not come up.
        """
        servers = EmbeddedServers(self.home).status()
        ended = [name for name, server in servers.items() if server.crashed]
        if RayCluster(self.running.settings).crashed:
            ended.append("the Ray head")
        if ended:
            up(self.home, say=lambda _: None)
            self.say(f"`up` has brought back {', '.join(ended)}")
        return bool(ended)


@dataclass(frozen=True)
class Drill:
    """One thing that goes wrong.

    Args:
        name: on the command line and in the table.
        about: one line of what it does.
        act: does it while the load runs, and returns when the disturbance is over; from then on the seconds until the
            installation is whole again are counted.
        batches: how many drills' pictures it uploads.
        around: given for a drill that needs an installation of its own: entered with its empty home before `up`, left
            after `down`; what it yields are options for its settings.env, named as in ``configs.settings``.
        lacks: says what this machine lacks for it, None where it can be done.
    """

    name: str
    about: str
    act: Callable[[Scene], None]
    batches: int = 1
    around: Callable[[Path], AbstractContextManager[Mapping[str, object]]] | None = None
    lacks: Callable[[], str | None] = lambda: None


def random_of(seed: int, name: str) -> np.random.Generator:
    """The random numbers of a drill."""
    return np.random.default_rng([seed, zlib.crc32(name.encode())])
