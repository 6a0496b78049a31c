"""A network cut between two Ray nodes while a bulk job runs on both: a short one, and one that makes the node a dead one."""

import asyncio
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from sqlalchemy import text

from benchmarks.backfill_faults import SOURCE, Outcome, differences, examine, follow, put_corpus
from benchmarks.client import Client
from benchmarks.drills.connections import Relayed
from benchmarks.drills.drill import Drill, Scene
from benchmarks.drills.load import Item
from benchmarks.drills.namespaces import Machine, possible
from benchmarks.environment import with_environment
from benchmarks.nodes import MORE_NODES, Node, living_nodes, wait_for_nodes
from benchmarks.pictures import with_copies
from benchmarks.servers import installation
from configs.settings import Settings
from graphs.jobs import show, start
from graphs.opening import opened
from graphs.service import up
from storage.errors import SafeGuardError, Unavailable
from storage.job_tables import Job, JobStatus

_PHOTOS = 192
_CPUS = 3
"""Two on this machine, which has at least so many, one on the other."""
_SHORT_S = 20.0
_DEAD_S = 180.0
"""Ray asks a node every 3 s, waits 10 s for each answer and gives it up after five that did not come."""
_JOB_S = 800.0
_SHARES = (0.1, 0.5)
_BETWEEN_S = 15.0
"""So long at least the network is whole between the cuts: the answers that did not come are counted anew."""


@contextmanager
def _with_nodes(_: Path) -> Iterator[Mapping[str, object]]:
    with with_environment({MORE_NODES: "1"}):
        yield {}


class _BulkJob:
    """A bulk job of an installation, and what it has made."""

    def __init__(self, home: Path, settings: Settings, data: list[Item], cpus: int) -> None:
        self._home, self._settings, self._size = home, settings, len(data)
        asyncio.run(put_corpus(settings, data))
        made = asyncio.run(
            start(home, SOURCE, model_name=None, cpus=cpus, gpus=0, reads_per_s=None, niceness=0, segment_units=1024)
        )
        assert made.id is not None
        self.id = made.id

    def now(self) -> Job:
        """As the ledger has it."""
        return asyncio.run(show(self._home, self.id))

    def wait_for_share(self, share: float) -> None:
        """Returns when so much is indexed, or the job is over."""
        end = time.monotonic() + _JOB_S
        while (job := self.now()).indexed < share * self._size and job.status in (JobStatus.RUNNING, JobStatus.WAITING):
            if time.monotonic() > end:
                raise TimeoutError(f"{job.indexed} of {self._size} pictures were indexed after {_JOB_S:.0f} s")
            time.sleep(0.3)

    def end(self) -> list[str]:
        """Waits for its end; what is wrong with it."""
        status = follow(self._home, self.id, _JOB_S)
        return [] if status == JobStatus.DONE else [f"the job is {status}: {self.now().message}"]

    def outcome(self) -> Outcome:
        """All that it has made, without what others uploaded."""
        outcome = asyncio.run(examine(self._settings, self.id))
        for name, table in outcome.tables.items():
            outcome.tables[name] = {key: row for key, row in table.items() if _of_corpus(key)}
        return outcome


def _of_corpus(key: object) -> bool:
    paths = key if isinstance(key, frozenset) else {key[0] if isinstance(key, tuple) else key}
    return all(str(path).startswith(SOURCE) for path in paths)


async def _images(home: Path) -> dict[str, int]:
    async with opened(home) as (_, engine), engine.connect() as connection:
        rows = await connection.execute(
            text("SELECT id, name FROM image WHERE starts_with(s3_path, :source)"), {"source": SOURCE}
        )
        return {row.name: row.id for row in rows}


def _undisturbed(data: list[Item], uploads: list[Item]) -> Outcome:
    """What the same job makes beside the same uploads: what else is stored crowds out what is barely similar."""
    with installation() as home:
        running = up(home, say=lambda _: None)
        with Client(running.url, running.key) as client:
            client.wait([client.upload(name, file, key=f"drill-{name}") for name, file in uploads])
        job = _BulkJob(home, running.settings, data, _CPUS - 1)
        if troubles := job.end():
            raise Unavailable(f"undisturbed: {troubles[0]}")
        return job.outcome()


def _cut(scene: Scene, machine: Machine, node: Node, job: _BulkJob) -> None:
    """Both cuts, each when a share of the corpus is indexed."""
    settings, begun = scene.running.settings, time.monotonic()

    def workers() -> str:
        return ", ".join(f"{count} {stage}" for stage, count in sorted(node.workers().items())) or "no worker"

    for share, seconds in zip(_SHARES, (_SHORT_S, _DEAD_S), strict=True):
        job.wait_for_share(share)
        if not node.workers():
            scene.troubles.append("no worker of the job ran on the other node: nothing was tried")
        scene.say(f"{job.now().indexed} pictures indexed, {workers()} on {node.name}: its cable is cut")
        machine.cut()
        begun = time.monotonic()
        while node.name in living_nodes(settings) and time.monotonic() - begun < seconds:
            time.sleep(0.5)
        seen = "alive" if node.name in living_nodes(settings) else "dead"
        if seen == "dead":
            time.sleep(5.0)  # the others go on without it
        machine.heal()
        healed = time.monotonic()
        scene.say(f"healed after {healed - begun:.0f} s: {node.name} is {seen} to the head, {workers()} on it")
        if (seen == "dead") != (seconds == _DEAD_S):
            scene.troubles.append(f"after a cut of {healed - begun:.0f} s the node was {seen}")
        time.sleep(max(0.0, healed + _BETWEEN_S - time.monotonic()))


def _act(scene: Scene) -> None:
    settings = scene.running.settings
    data = with_copies(sorted(scene.photos.glob("*.jpg"))[-_PHOTOS:])
    with Machine() as machine:
        relayed = Relayed(settings, listen=machine.here)
        node = Node(
            settings, 1, head=machine.here, address=machine.there, within=machine.within,
            environment=relayed.environment(), bulk=1,
        )  # fmt: skip
        try:
            wait_for_nodes(settings, 2)
            scene.say(f"{node.name} has joined from a network of its own")
            job = _BulkJob(scene.home, settings, data, _CPUS)
            _cut(scene, machine, node, job)
            scene.troubles += job.end()
            scene.say(f"the job is {job.now().status}; {len(node.processes())} processes are left on {node.name}")
        finally:
            with suppress(SafeGuardError):
                node.kill()
            relayed.close()
    scene.own |= asyncio.run(_images(scene.home))
    rough = job.outcome()
    scene.say("the same job undisturbed, in another installation")
    found = differences(_undisturbed(data, scene.pictures), rough)
    scene.troubles += [f"the job: {line}" for line in found]


NETWORK_CUTS = (
    Drill(
        "cut-network",
        f"no packet passes between two Ray nodes for {_SHORT_S:.0f} s, then until the node is given up",
        _act,
        around=_with_nodes,
        lacks=lambda: None if possible() else "network namespaces take root and iproute2",
    ),
)
