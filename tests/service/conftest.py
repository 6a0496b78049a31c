"""The whole service, as `safeguard up` brings it up, once for all tests here, in a home of its own."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.client import Client
from benchmarks.reindex import with_another_descriptor
from graphs.service import Running, down, up


@pytest.fixture(scope="session")
def service() -> Iterator[Running]:
    """A running service; leases are short so that crashes are noticed soon, and there is a descriptor to re-index with."""
    folder = Path(tempfile.mkdtemp(prefix="sgs-"))
    folder.chmod(0o755)
    models = with_another_descriptor(folder)
    options = {
        "LEASE_S": 12, "MODELS_FILE": models, "WEBHOOK_ALLOW_PRIVATE": "127.0.0.1/32", "WEBHOOK_RETRY_S": 0.5,
    }  # fmt: skip
    (folder / "settings.env").write_text("".join(f"SAFEGUARD_{name}='{value}'\n" for name, value in options.items()))
    try:
        yield up(folder, say=lambda _: None)
    finally:
        down(folder)
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def client(service: Running) -> Iterator[Client]:
    """With the first key."""
    with Client(service.url, service.key) as made:
        yield made


@pytest.fixture
def emptied(client: Client) -> Client:
    """The same, with no picture of other tests left but members of banks, which cannot be deleted."""
    for status in ("UPLOADED", "PROCESSING", "PROCESSED", "FAILED"):
        for row in client.get("/image/all", status=status):
            assert client.delete(row["id"]) in (204, 404, 409)
    return client
