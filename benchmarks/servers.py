"""PostgreSQL and S3 of a benchmark's own, which are gone afterwards."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from configs.settings import Settings
from storage.embedded.stack import EmbeddedServers
from storage.migrate import upgrade


@contextmanager
def own_servers() -> Iterator[Settings]:
    """Settings that lead to running servers with the newest schema and nothing in them."""
    home = Path(tempfile.mkdtemp(prefix="sg-bench-"))
    home.chmod(0o755)
    servers = EmbeddedServers(home)
    try:
        settings = servers.start()
        upgrade(settings)
        yield settings
    finally:
        servers.stop()
        shutil.rmtree(home, ignore_errors=True)
