"""The running application is updated in place while clients search, upload, read and list: no request may fail.

    python -m benchmarks.rolling PHOTOS [--pictures 100] [--quiet-s 30] [--searchers 2] [--uploaders 2]

An installation in a folder of its own (removed afterwards). First a new release by `safeguard update`, which replaces every
replica; then a Serve configuration that differs in a `user_config` only, which replaces none. Exit code 1 if a request
failed, a replica was not replaced or was without need, an upload is not PROCESSED, or the check finds anything.
"""

import argparse
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import yaml
from rich.console import Console
from rich.table import Table

from benchmarks.client import Client
from benchmarks.mixed_load import KINDS, Load, Phase
from benchmarks.pictures import pictures
from benchmarks.servers import installation
from graphs.check import check
from graphs.cluster import CONFIG, RayCluster
from graphs.replicas import Replica, replicas_of
from graphs.service import Running, up
from graphs.updating import update
from storage.errors import SafeGuardError

SETTLE_S = 15.0
"""After an update, for what still drains."""


class Succession(threading.Thread):
    """Watches which replicas run, when those of each deployment are all new ones, and which deployments lose old ones."""

    def __init__(self, cluster: RayCluster) -> None:
        super().__init__(daemon=True)
        self._cluster, self._end, self._begun = cluster, threading.Event(), time.monotonic()
        self.before = self._now()
        self.first_s: dict[str, float] = {}
        self.all_s: dict[str, float] = {}
        self.lost: set[str] = set()

    @property
    def replaced(self) -> set[str]:
        """Deployments that lost a replica and got another; one that only grows or shrinks follows its load."""
        return self.lost & self.first_s.keys()

    def _now(self) -> dict[str, set[str]]:
        return running_of(list(replicas_of(self._cluster.applications())))

    def run(self) -> None:
        while not self._end.wait(0.5):
            try:
                self.note(self._now(), time.monotonic() - self._begun)
            except SafeGuardError:
                continue

    def note(self, now: dict[str, set[str]], at_s: float) -> None:
        """Takes down what runs at a moment."""
        for deployment, ids in now.items():
            new = ids - self.before.get(deployment, set())
            if new:
                self.first_s.setdefault(deployment, at_s)
            if new and new == ids:
                self.all_s.setdefault(deployment, at_s)
            if self.before.get(deployment, set()) - ids:
                self.lost.add(deployment)

    def close(self) -> None:
        """Ends; one last look."""
        self._end.set()
        self.join()
        self.note(self._now(), time.monotonic() - self._begun)


def running_of(found: list[Replica]) -> dict[str, set[str]]:
    """Ids of the running replicas by deployment."""
    ids: dict[str, set[str]] = {}
    for one in found:
        ids.setdefault(one.deployment, set())
        if one.state == "RUNNING":
            ids[one.deployment].add(one.id)
    return ids


@contextmanager
def watched(cluster: RayCluster) -> Iterator[Succession]:
    """Watches the replicas as long as the block runs."""
    watch = Succession(cluster)
    watch.start()
    try:
        yield watch
    finally:
        watch.close()


def changed_user_config(home: Path) -> Path:
    """serve_config.yaml with another wait for batches."""
    content = yaml.safe_load(CONFIG.read_text())
    for deployment in content["applications"][0]["deployments"]:
        if "user_config" in deployment:
            deployment["user_config"]["batch_wait_s"] *= 2
    file = home / "user_config.yaml"
    file.write_text(yaml.safe_dump(content, sort_keys=False))
    return file


def drill(running: Running, load: Load, quiet_s: float, console: Console) -> tuple[list[Phase], list[str]]:
    """Both updates under load; returns the phases, and what is wrong with the replicas."""
    cluster, troubles, phases = RayCluster(running.settings), [], []

    def phase(name: str, seconds: float = 0.0) -> None:
        phases.append(load.enter(name))
        time.sleep(seconds)

    phase("before", quiet_s)
    phase("new release")
    begun = time.monotonic()
    with watched(cluster) as watch:
        update(running.settings.home, say=lambda _: None)
        took = time.monotonic() - begun
        time.sleep(SETTLE_S)
    console.print(f"new release: done after {took:.0f} s; seconds until the first new replica, and until all are new:")
    times = (f"{name} {watch.first_s[name]:.0f}/{at:.0f}" for name, at in sorted(watch.all_s.items()))
    console.print(f"  {', '.join(times)}")
    troubles += [f"{name} has old replicas still" for name in sorted(watch.before.keys() - watch.all_s.keys())]
    phase("between", quiet_s)
    phase("user_config")
    begun = time.monotonic()
    with watched(cluster) as watch:
        cluster.deploy(changed_user_config(running.settings.home))
        took = time.monotonic() - begun
        time.sleep(SETTLE_S)
    replaced = sorted(watch.replaced)
    console.print(f"user_config: done after {took:.1f} s; replicas replaced: {', '.join(replaced) or 'none'}")
    troubles += [f"replicas of {name} were replaced by a change of user_config" for name in replaced]
    phase("after", quiet_s)
    return phases, troubles


def show(phases: list[Phase], console: Console) -> None:
    """A table of answers, failures and p95."""
    table = Table("phase", *(f"{kind}: answered, failed, p95 ms" for kind in KINDS))
    for phase in phases:
        failed = phase.failed()
        cells = (f"{len(phase.times_ms[kind])}, {failed[kind]}, {phase.quantile(kind, 0.95):.0f}" for kind in KINDS)
        table.add_row(phase.name, *cells)
    console.print(table)


def main() -> None:
    """Runs it and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path)
    parser.add_argument("--pictures", type=int, default=100)
    parser.add_argument("--quiet-s", type=float, default=30.0)
    clients = {"search": 2, "upload": 2, "read": 2, "list": 1}
    for kind, name in zip(KINDS, ("searchers", "uploaders", "readers", "listers"), strict=True):
        parser.add_argument(f"--{name}", type=int, default=clients[kind], dest=kind)
    options = parser.parse_args()
    console = Console(width=130, highlight=False)
    data = pictures(options.photos, options.pictures)
    with installation() as home:
        running = up(home, say=lambda _: None)
        with Client(running.url, running.key) as client:
            stored = [client.upload(*item, key=f"rolling-{item[0]}") for item in data]
            client.wait(stored, timeout_s=600)
        counts = {kind: getattr(options, kind) for kind in KINDS}
        load = Load(running, data, counts, {"search": 0.5, "upload": 1.0, "read": 0.1, "list": 0.5}, stored)
        try:
            phases, troubles = drill(running, load, options.quiet_s, console)
        finally:
            load.close()
        with Client(running.url, running.key) as client:
            ended = Counter(client.wait(stored + load.ids, timeout_s=600).values())
        report = check(home, repair=False, grace_s=None)
    show(phases, console)
    requests = sum(len(times) for phase in phases for times in phase.times_ms.values())
    failures = [line for phase in phases for line in phase.failures]
    console.print(f"{requests} requests answered, {len(failures)} failed")
    found = "consistent" if report.clean else report.as_dict()
    console.print(f"uploads accepted {len(stored) + len(load.ids)}, ended {dict(ended)}; check: {found}")
    troubles += failures[:10]
    troubles += [] if set(ended) == {"PROCESSED"} else [f"uploads: {dict(ended)}"]
    troubles += [] if report.clean else ["the check found something"]
    for line in troubles:
        console.print(line, markup=False, soft_wrap=True)
    console.print("as it should be" if not troubles else f"{len(troubles)} troubles")
    sys.exit(bool(troubles))


if __name__ == "__main__":
    main()
