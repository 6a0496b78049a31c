"""Connections that break in the middle: to PostgreSQL, to S3, and of clients to the REST API, all at the same time."""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from sqlalchemy import make_url

from benchmarks.drills.drill import Drill, Scene
from benchmarks.drills.relay import Relay, fates
from benchmarks.environment import with_environment
from configs.settings import Settings
from storage.database import database_dsn
from storage.embedded.stack import EmbeddedServers

_LEAST_S = 30.0
_LIMITS = {"PostgreSQL": (300_000, 12.0), "S3": (1_000_000, 8.0), "the REST API": (1_000_000, 8.0)}
"""Bytes after which a connection has met its fate, and seconds that it stalls, at the most. A statement has 10 s."""


class Relayed:
    """PostgreSQL and S3 of an installation behind relays, which its processes take for the servers.

    Args:
        settings: lead to the servers themselves.
        listen: the address of the relays.
    """

    def __init__(self, settings: Settings, *, listen: str = "127.0.0.1") -> None:
        self._settings = settings
        self._database = make_url(database_dsn(settings))
        store = urlsplit(settings.s3_endpoint or "")
        self.relays = {
            "PostgreSQL": Relay(self._database.host or "", self._database.port or 0, listen=listen),
            "S3": Relay(store.hostname or "", store.port or 0, listen=listen),
        }
        self._listen = listen

    def environment(self) -> dict[str, str]:
        """Leads a process to the relays."""
        database = self._database.set(host=self._listen, port=self.relays["PostgreSQL"].port)
        return {
            "SAFEGUARD_DATABASE_URL": database.render_as_string(hide_password=False),
            "SAFEGUARD_S3_ENDPOINT": f"http://{self.relays['S3'].address}",
        }

    def close(self) -> None:
        """Ends the relays."""
        for relay in self.relays.values():
            relay.close()


class _Drops:
    """The drill: ``around`` puts the relays in, ``act`` breaks what passes through them."""

    def __init__(self) -> None:
        self._relays: dict[str, Relay] = {}

    @contextmanager
    def around(self, home: Path) -> Iterator[Mapping[str, object]]:
        """The servers are started before `up` comes, which then finds only the relays."""
        settings = EmbeddedServers(home).start()
        relayed = Relayed(settings)
        self._relays = relayed.relays
        assert settings.s3_access_key is not None and settings.s3_secret_key is not None
        keys = {"s3_access_key": settings.s3_access_key, "s3_secret_key": settings.s3_secret_key}
        try:
            with with_environment(relayed.environment()):
                yield {name: key.get_secret_value() for name, key in keys.items()}
        finally:
            relayed.close()

    def act(self, scene: Scene) -> None:
        """Breaks connections until all uploads were accepted, and for half a minute at least."""
        api = urlsplit(scene.running.url)
        clients = Relay(api.hostname or "", api.port or 0)
        relays = self._relays | {"the REST API": clients}
        try:
            scene.load.through(f"http://{clients.address}")
            for (part, relay), draw in zip(relays.items(), scene.draw.spawn(len(relays)), strict=True):
                most_bytes, most_s = _LIMITS[part]
                relay.disturb(fates(draw, most_bytes=most_bytes, most_s=most_s))
            begun = time.monotonic()
            scene.wait_for_uploads(1.0)
            time.sleep(max(0.0, begun + _LEAST_S - time.monotonic()))
            for part, relay in relays.items():
                relay.calm()
                befell = ", ".join(f"{count} {kind}" for kind, count in sorted(relay.befell.items()))
                scene.say(f"connections to {part}: {befell or 'none was broken'}")
                if not relay.befell:
                    scene.troubles.append(f"no connection to {part} was broken: nothing was tried")
        finally:
            scene.load.through(scene.running.url)
            clients.close()


def _made() -> Drill:
    drops = _Drops()
    about = "connections to PostgreSQL, S3 and the REST API are reset, stall, or lose one end unheard"
    return Drill("drop-connections", about, drops.act, 2, drops.around)


DROPS = (_made(),)
