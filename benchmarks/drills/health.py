"""Whether an installation is whole again: every part has as many living processes as before, and all of them are ready."""

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import psutil

from benchmarks.processes import census
from graphs.cluster import RayCluster
from graphs.service import Running, ready
from storage.errors import SafeGuardError

_PAUSE_S = 0.3


def lacking(wanted: Mapping[str, int], applications: Mapping[str, Any]) -> list[str]:
    """What is not RUNNING by Serve's account, in which a replica that was just killed is RUNNING still.

    Args:
        wanted: replicas by deployment.
    """
    found = []
    for application in applications.values():
        if application.get("status") != "RUNNING":
            found.append(f"the application is {application.get('status')}")
        for name, deployment in application.get("deployments", {}).items():
            living = sum(
                one.get("state") == "RUNNING" and bool(one.get("pid")) and psutil.pid_exists(one["pid"])
                for one in deployment.get("replicas", [])
            )
            if living < wanted.get(name, 0):
                found.append(f"{name}: {living} of {wanted[name]} are RUNNING")
    return found or ([] if applications else ["there is no application"])


class Health:
    """What runs when it is made is what has to run.

    Args:
        home: of a running installation.
        running: where it is.
    """

    def __init__(self, home: Path, running: Running) -> None:
        self._home, self._running = home, running
        self._wanted = census(home)

    def missing(self) -> list[str]:
        """The parts that do not run, or do not run yet; empty where the installation is whole."""
        now = census(self._home)
        found = [f"{part}: {now[part]} of {count}" for part, count in self._wanted.items() if now[part] < count]
        if found:
            return found
        try:
            applications = RayCluster(self._running.settings).applications()
        except SafeGuardError:
            return ["the Ray dashboard does not answer"]
        found = lacking(self._wanted, applications)
        answer = ready(self._running.url)
        if not found and (answer or {}).get("status") != "ready":
            found.append(f"not ready: {answer}")
        return found

    def wait(self, revive: Callable[[], object], over: Callable[[], bool], *, timeout_s: float = 300.0) -> float:
        """Waits until it is whole and ``over`` is true, doing meanwhile what an operator would.

        Args:
            revive: brings back what nothing else brings back.
        Returns:
            Seconds that it took.
        Raises:
            TimeoutError: it did not become whole; the message says what is missing.
        """
        begun, missing = time.monotonic(), ["not looked at yet"]
        while time.monotonic() - begun < timeout_s:
            try:
                revive()
                missing = self.missing()
            except SafeGuardError as error:
                missing = [str(error)]
            if not missing and over():
                return time.monotonic() - begun
            time.sleep(_PAUSE_S)
        raise TimeoutError(f"not whole after {timeout_s:.0f} s: {'; '.join(missing) or 'uploads are not accepted'}")
