"""One server process of an installation: started detached, remembered on disk, found again, stopped. Imports errors only."""

import json
import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import psutil

from storage.embedded.user import ServiceUser

_SAME_START_S = 0.05
"""Start times are kept to a hundredth of a second; a pid that was given out anew started later."""


class ManagedProcess:
    """A process known by pid and start time, so that a pid reused by a stranger is never signalled.

    Args:
        home: folder of the installation; the record lies in ``run/``, the log in ``logs/``.
        name: of the server.
    """

    def __init__(self, home: Path, name: str) -> None:
        self.name = name
        self.log = home / "logs" / f"{name}.log"
        self._record = home / "run" / f"{name}.json"
        self._child: subprocess.Popen[bytes] | None = None

    def _read(self) -> dict[str, Any] | None:
        try:
            content: dict[str, Any] = json.loads(self._record.read_text())
        except (OSError, ValueError):
            return None
        return content

    def _process(self) -> psutil.Process | None:
        if self._child is not None:
            self._child.poll()  # a child that has ended would stay a zombie
        record = self._read()
        if record is None:
            return None
        try:
            process = psutil.Process(record["pid"])
            same = abs(process.create_time() - record["started"]) < _SAME_START_S
            return process if same and process.status() != psutil.STATUS_ZOMBIE else None
        except (psutil.NoSuchProcess, KeyError):
            return None

    @property
    def pid(self) -> int | None:
        """Its process id, None where it does not run."""
        process = self._process()
        return process.pid if process else None

    @property
    def alive(self) -> bool:
        """True while it runs."""
        return self._process() is not None

    @property
    def crashed(self) -> bool:
        """True if it was started, not stopped, and has gone away."""
        return self._read() is not None and not self.alive

    def start(
        self, command: list[str], *, environment: dict[str, str] | None = None, folder: Path | None = None,
        user: ServiceUser | None = None,
    ) -> None:  # fmt: skip
        """Starts it in a session of its own: it outlives the caller and gets none of its signals.

        Args:
            command: program and arguments; never a secret, since everybody can read them.
            environment: added to the caller's.
            folder: working directory.
            user: whom it runs as; None is the caller.
        """
        for place in (self.log.parent, self._record.parent):
            place.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        with os.fdopen(descriptor, "ab") as log:
            self._child = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=folder or "/",
                env=os.environ | (environment or {}),
                start_new_session=True,
                **(user.arguments() if user else {}),
            )
        started = psutil.Process(self._child.pid).create_time()
        draft = self._record.with_suffix(".draft")
        draft.write_text(json.dumps({"pid": self._child.pid, "started": started, "command": command[0]}))
        draft.rename(self._record)

    def stop(self, *, with_signal: signal.Signals = signal.SIGTERM, grace_s: float = 10.0) -> None:
        """Asks it to end, then ends it, with all its children; returns when they are gone."""
        process = self._process()
        if process is not None:
            family = [process, *process.children(recursive=True)]
            process.send_signal(with_signal)
            _, left = psutil.wait_procs(family, timeout=grace_s)
            for one in left:
                try:
                    one.kill()
                except psutil.NoSuchProcess:
                    continue
            psutil.wait_procs(left, timeout=5.0)
            if self._child is not None:
                self._child.poll()
        self._record.unlink(missing_ok=True)

    def log_tail(self, lines: int = 5) -> str:
        """The last lines of its log."""
        try:
            return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])
        except OSError:
            return ""

    def wait(self, ready: Any, timeout_s: float) -> bool:
        """Waits until ``ready()`` is true.

        Returns:
            False if the process ends or ``timeout_s`` seconds pass first.
        """
        end = time.monotonic() + timeout_s
        while time.monotonic() < end:
            if ready():
                return True
            if not self.alive:
                return False
            time.sleep(0.05)
        return False
