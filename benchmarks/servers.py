"""Installations of a benchmark's own, whole ones and PostgreSQL and S3 alone, which are gone afterwards."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from configs.settings import Settings
from graphs.service import down
from storage.embedded.ports import Ports
from storage.embedded.stack import EmbeddedServers
from storage.migrate import upgrade


@contextmanager
def _folder() -> Iterator[Path]:
    home = Path(tempfile.mkdtemp(prefix="sg-bench-"))
    home.chmod(0o755)
    try:
        yield home
    finally:
        shutil.rmtree(home, ignore_errors=True)


@contextmanager
def installation() -> Iterator[Path]:
    """A home that is stopped and removed at the end; what is in it is for the caller to start.

    Its REST API gets a port that is drawn: two that start at the same moment would both take the usual one.
    """
    with _folder() as home:
        Ports(home).take("http")
        try:
            yield home
        finally:
            down(home)


@contextmanager
def own_servers() -> Iterator[Settings]:
    """Settings that lead to running servers with the newest schema and nothing in them."""
    with _folder() as home:
        servers = EmbeddedServers(home)
        try:
            settings = servers.start()
            upgrade(settings)
            yield settings
        finally:
            servers.stop()
