"""Loopback ports of one installation: chosen free, remembered, so that addresses survive a restart. Imports errors only."""

import json
import random
import socket
import time
from pathlib import Path

from storage.errors import ConfigurationError

_RANGE = range(20_000, 32_000)
"""Below the range from which Linux gives ports to outgoing connections, above the one where Ray's workers listen."""

_FREED_S = 10.0
"""How long the port of a server that ran before is waited for."""


def is_free(port: int) -> bool:
    """True if nothing listens on ``port``, on loopback or on all addresses."""
    for address in ("127.0.0.1", "0.0.0.0"):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((address, port))
            except OSError:
                return False
    return True


class Ports:
    """The ports of one home.

    Args:
        home: they are remembered in its ``ports.json``.
    """

    def __init__(self, home: Path) -> None:
        self._file = home / "ports.json"

    def _read(self) -> dict[str, int]:
        try:
            content: dict[str, int] = json.loads(self._file.read_text())
        except (OSError, ValueError):
            return {}
        return content

    def get(self, name: str) -> int:
        """The remembered port of ``name``.

        Raises:
            ConfigurationError: it has none: the server was never started.
        """
        port = self._read().get(name)
        if port is None:
            raise ConfigurationError(f"{name} has not been started in {self._file.parent}; run `safeguard up`")
        return port

    def take(self, name: str, *, wanted: int | None = None) -> int:
        """A free port for a server that is about to start: the remembered one, else ``wanted``, else any.

        The remembered one is waited for: a process that was killed may hold its port a little longer than it is seen to
        live, and whoever runs meanwhile knows the server under that port alone.
        """
        known = self._read()
        end = time.monotonic() + _FREED_S
        while name in known and not is_free(known[name]) and time.monotonic() < end:
            time.sleep(0.1)
        taken = {port for other, port in known.items() if other != name}
        choices = [port for port in (known.get(name), wanted) if port is not None]
        choices += random.sample(_RANGE, 200)
        for port in choices:
            if port not in taken and is_free(port):
                known[name] = port
                draft = self._file.with_suffix(".draft")
                draft.write_text(json.dumps(known, indent=1))
                draft.rename(self._file)
                return port
        raise ConfigurationError(f"no free port was found for {name}")
