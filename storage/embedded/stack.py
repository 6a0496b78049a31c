"""The embedded servers of one home together, and the settings that lead to them. Imports storage and configs only."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from dotenv import dotenv_values

from configs.settings import SETTINGS_FILE, Settings, load_settings
from storage.embedded.objectstore import EmbeddedObjectStore
from storage.embedded.postgres import EmbeddedPostgres
from storage.embedded.user import require_reachable, service_user
from storage.errors import ConfigurationError

_DATABASE, _ENDPOINT = "SAFEGUARD_DATABASE_URL", "SAFEGUARD_S3_ENDPOINT"
_ACCESS, _SECRET = "SAFEGUARD_S3_ACCESS_KEY", "SAFEGUARD_S3_SECRET_KEY"


@dataclass(frozen=True)
class ServerStatus:
    """One server: ``crashed`` if it was started, not stopped, and has gone away; ``outside`` if it is not ours."""

    running: bool
    crashed: bool
    pid: int | None
    address: str | None
    outside: bool = False


class EmbeddedServers:
    """PostgreSQL and S3 for one home; one that the environment names elsewhere is left out.

    Args:
        home: folder for all state.
    """

    def __init__(self, home: Path) -> None:
        self.home = home
        self._user = service_user()
        self.postgres = EmbeddedPostgres(home, self._user)
        self.objects = EmbeddedObjectStore(home, self._user)

    def start(self) -> Settings:
        """Starts what does not run yet and writes ``settings.env`` (0600).

        Returns:
            The settings that lead to the servers.
        Raises:
            ConfigurationError: the folder cannot be used; the message says why.
            Unavailable: a server does not come up.
        """
        try:
            self.home.mkdir(mode=0o755, parents=True, exist_ok=True)
            require_reachable(self.home, self._user)
            with self._alone():
                self._start()
        except OSError as error:
            raise ConfigurationError(f"{self.home} cannot be used: {error.strerror or error}") from error
        return load_settings(self.home)

    def _start(self) -> None:
        known = self._stored()
        if not self._outside(_ENDPOINT):
            access, secret = self.objects.start(known.get(_ACCESS), known.get(_SECRET))
            known |= {_ENDPOINT: self.objects.endpoint, _ACCESS: access, _SECRET: secret}
            self._store(known)
        if not self._outside(_DATABASE):
            stored = known.get(_DATABASE)
            password = urlsplit(stored).password if stored else None
            if password is None:
                # Written before it is used: a crash in between must not leave data without a password.
                password = self.postgres.new_password()
                self._store(known | {_DATABASE: self.postgres.url_at(0, password)})
            self.postgres.start(password)
            self._store(known | {_DATABASE: self.postgres.url(password)})

    @staticmethod
    def _outside(name: str) -> bool:
        return bool(os.environ.get(name))

    def _stored(self) -> dict[str, str]:
        values = dotenv_values(self.home / SETTINGS_FILE)
        return {name: value for name, value in values.items() if value is not None}

    def _store(self, values: dict[str, str]) -> None:
        if values == self._stored():
            return
        draft = self.home / f"{SETTINGS_FILE}.draft"
        draft.unlink(missing_ok=True)
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as stream:
            stream.write("".join(f"{name}='{value}'\n" for name, value in values.items()))
            os.fsync(stream.fileno())
        draft.rename(self.home / SETTINGS_FILE)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        with (self.home / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def status(self) -> dict[str, ServerStatus]:
        """Each server by name."""
        found = {}
        for name, server, variable in (("postgresql", self.postgres, _DATABASE), ("s3", self.objects, _ENDPOINT)):
            if self._outside(variable):
                address = urlsplit(os.environ[variable])
                found[name] = ServerStatus(True, False, None, f"{address.hostname}:{address.port}", outside=True)
                continue
            process = server.process
            address_here = f"127.0.0.1:{server.port}" if process.alive else None
            found[name] = ServerStatus(process.alive, process.crashed, process.pid, address_here)
        return found

    def stop(self) -> None:
        """Stops all of ours; returns when no process is left. Data stay."""
        if self.home.exists():
            with self._alone():
                self.objects.stop()
                self.postgres.stop()
