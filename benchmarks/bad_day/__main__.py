"""Plants a slow replica, a full disk and a poison image, one after another, and finds each as an operator would.

    python -m benchmarks.bad_day PHOTOS [--cause slow|disk|poison …] [--slow Ingress] [--pictures 40] [--limit-s 240]

A real Prometheus scrapes a running service by the configuration that `safeguard up` writes, with a copy of the alert rules
that is in a hurry (hurry.py). While clients use the service a cause is planted. From then on only this is asked: which alerts
fire, what the panels show that the runbook names, and what its commands print. Exit code 1 if no alert fires, no command
names the cause, no panel shows it, or the alert does not end once it is mended. A full disk needs root.
"""

import argparse
import math
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.bad_day import hurry
from benchmarks.bad_day.causes import Cause, FullDisk, PoisonImage, SlowReplica
from benchmarks.bad_day.runbook import RUNBOOK, Section, run, sections
from benchmarks.client import Client
from benchmarks.disks import Disk, NoDisk, mounted
from benchmarks.mixed_load import Item, Load
from benchmarks.pictures import pictures
from benchmarks.prometheus import MISSING, Prometheus, installed, prometheus
from benchmarks.servers import installation
from graphs.check import check
from graphs.service import Running, down, up

CAUSES = ("slow", "disk", "poison")
_DISK_MIB = 768
_WARM_S = 40.0
_SHOWN_S = 60.0
CLIENTS = {"search": 1, "upload": 1, "read": 2}
PAUSES_S = {"search": 0.3, "upload": 0.5, "read": 0.1}


@dataclass
class Found:
    """How one cause was found."""

    title: str
    planted: str
    fired: tuple[str, ...] = ()
    after_s: float = float("nan")
    alert: str = ""
    labels: dict[str, str] = field(default_factory=dict)
    panel: str = ""
    command: str = ""
    remedy: str = ""
    ended_s: float = float("nan")

    @property
    def whole(self) -> bool:
        """Whether it was found, and its alert has ended."""
        return bool(self.command and self.panel) and not math.isnan(self.ended_s)


class Operator:
    """Who sees alerts and panels, and reads the runbook; knows nothing else.

    Args:
        server: the Prometheus.
        home: of the installation, for its command line.
        console: told what is seen.
        limit_s: for an alert to fire, and to end.
    """

    def __init__(self, server: Prometheus, home: Path, console: Console, limit_s: float) -> None:
        self._server, self._home, self._console, self._limit_s = server, home, console, limit_s
        self._runbook = sections(RUNBOOK.read_text())

    def firing(self) -> list[dict[str, str]]:
        """The labels of each alert that fires."""
        return [one["metric"] for one in self._server.query('ALERTS{alertstate="firing"}')]

    def quiet(self) -> None:
        """Waits until no alert fires.

        Raises:
            TimeoutError: one goes on.
        """
        try:
            self._until(lambda: not self.firing())
        except TimeoutError as error:
            raise TimeoutError(f"before anything is planted {self.firing()} fires") from error

    def _until(self, done: Callable[[], bool]) -> float:
        begun = time.monotonic()
        while not done():
            if time.monotonic() - begun > self._limit_s:
                raise TimeoutError
            time.sleep(1.0)
        return time.monotonic() - begun

    def find(self, cause: Cause) -> Found:
        """From planting to the end of the alert."""
        found = Found(cause.title, cause.plant())
        self._console.print(f"planted: {found.planted}")
        begun = time.monotonic()
        asked: set[tuple[tuple[str, str], ...]] = set()
        while not found.command and time.monotonic() - begun < self._limit_s:
            for labels in self.firing():
                key = tuple(sorted(labels.items()))
                if key not in asked and not found.command:
                    asked.add(key)
                    found.fired += (labels["alertname"],)
                    found.after_s = time.monotonic() - begun
                    self._look(cause, found, labels)
            time.sleep(1.0)
        if found.command:
            found.remedy = cause.mend(lambda: self._mend(self._runbook[found.alert], found.labels))
            try:
                found.ended_s = self._until(lambda: found.alert not in {one["alertname"] for one in self.firing()})
            except TimeoutError:
                self._console.print(f"{found.alert} still fires after {self._limit_s:.0f} s")
        return found

    def _look(self, cause: Cause, found: Found, labels: dict[str, str]) -> None:
        """What the runbook says of an alert: its panels, then its commands."""
        section = self._runbook[labels["alertname"]]
        told = {
            name: one for name, one in labels.items() if name not in ("__name__", "alertname", "alertstate", "severity")
        }
        self._console.print(f"  alert {section.alert} {told or ''}", markup=False)
        for command in section.looks:
            said = run(command, self._home, labels)
            if cause.named(said):
                found.alert, found.command, found.labels = section.alert, command, labels
                found.panel = self._panels(cause, section)
                line = next((line for line in said.splitlines() if cause.named(line)), "")
                self._console.print(
                    f"  {command}: {' '.join(line.replace('│', ' ').split())}", markup=False, soft_wrap=True
                )
                return
            self._console.print(f"  {command}: does not name it", markup=False)

    def _panels(self, cause: Cause, section: Section) -> str:
        """Those of the panels named there that show the cause; figures are half a minute old before they are shown."""

        def shown() -> list[str]:
            return [
                panel.title
                for panel in section.panels
                if any(cause.shown(self._server.query(query)) for query, _ in panel.queries)
            ]

        end = time.monotonic() + _SHOWN_S
        while not (titles := shown()) and time.monotonic() < end:
            time.sleep(2.0)
        return ", ".join(titles)

    def _mend(self, section: Section, labels: dict[str, str]) -> str:
        for command in section.remedies:
            run(command, self._home, labels)
        return "; ".join(section.remedies)


def planned(names: Sequence[str], running: Running, slow: str, disk: Disk | None) -> Iterator[Cause]:
    """The causes of a run, in the order of the names."""
    for name in names:
        if name == "slow":
            yield SlowReplica(running, slow)
        elif name == "poison":
            yield PoisonImage(running)
        elif disk is not None:
            yield FullDisk(disk)


@contextmanager
def used(running: Running, data: list[Item]) -> Iterator[Load]:
    """Clients that use the service until the block ends."""
    with Client(running.url, running.key) as client:
        stored = [client.upload(*item, key=f"bad-day-{item[0]}") for item in data]
        client.wait(stored, timeout_s=600)
    load = Load(running, data, CLIENTS, PAUSES_S, stored)
    try:
        yield load
    finally:
        load.close()


def show(rows: Sequence[Found], console: Console) -> None:
    """The table."""
    table = Table("cause", "fired after, s", "alerts", "found by", "panel that showed it", "command that named it", "remedy",
                  "alert ended after, s")  # fmt: skip
    for one in rows:
        times = f"{one.after_s:.0f}", f"{one.ended_s:.0f}"
        table.add_row(
            one.title,
            times[0],
            ", ".join(dict.fromkeys(one.fired)),
            one.alert,
            one.panel,
            one.command,
            one.remedy,
            times[1],
        )
    console.print(table)


def main() -> None:
    """See the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path)
    parser.add_argument("--cause", action="append", choices=CAUSES)
    parser.add_argument("--slow", default="Ingress", help="a deployment with two replicas or more")
    parser.add_argument("--pictures", type=int, default=40)
    parser.add_argument("--limit-s", type=float, default=240.0, help="for an alert to fire, and to end")
    options = parser.parse_args()
    console = Console(width=150, highlight=False)
    if not installed():
        console.print(f"nothing was tried: {MISSING}")
        sys.exit(2)
    names = options.cause or list(CAUSES)
    rows, data = [], pictures(options.photos, options.pictures)
    with installation() as home, ExitStack() as stack:
        disk, untried = None, False
        if "disk" in names:
            try:
                disk = stack.enter_context(mounted(home / "objects" / "data", _DISK_MIB))
                stack.callback(down, home)  # before the disk goes
            except NoDisk as error:
                console.print(f"the full disk is not tried: {error}")
                untried = True
        running = up(home, say=lambda _: None)
        server = stack.enter_context(prometheus(hurry.write(home), home / "prometheus"))
        console.print(f"alert rules in a hurry: `for: {hurry.FOR}`, windows of minutes are {hurry.WINDOW}")
        with used(running, data):
            time.sleep(_WARM_S)
            operator = Operator(server, home, console, options.limit_s)
            for cause in planned(names, running, options.slow, disk):
                operator.quiet()
                try:
                    rows.append(operator.find(cause))
                finally:
                    cause.stop()
        report = check(home, repair=False, grace_s=None)
    show(rows, console)
    console.print(f"check: {'consistent' if report.clean else report.as_dict()}")
    lost = [one.title for one in rows if not one.whole]
    console.print("each that was tried was found" if not lost else f"not found: {', '.join(lost)}")
    sys.exit(1 if lost or not report.clean else 2 if untried else 0)


if __name__ == "__main__":
    main()
