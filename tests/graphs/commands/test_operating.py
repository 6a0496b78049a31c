"""The command `prepare`: what Serve needs of PostgreSQL and S3 before somebody else deploys it."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from configs.settings import Settings
from storage.migrate import downgrade
from storage.objects import ObjectStore
from tests.graphs.backed_up import led_to, rows
from tests.graphs.commands.conftest import run
from tests.installation import apart


@pytest.fixture
def bare(servers: Settings) -> Iterator[Settings]:
    """An empty database, and buckets that are not there."""
    with apart(servers) as made:
        downgrade(made, "base")
        yield made.model_copy(update={"s3_bucket": f"{made.s3_bucket}-b", "s3_vectors_bucket": f"{made.s3_bucket}-c"})


def test_schema_buckets_and_policy(bare: Settings, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with led_to(bare, monkeypatch, home / "prepared") as place:
        for _ in range(2):
            status, said = run(place, "prepare")
            assert status == 0 and "safeguard keys create" in said
    assert asyncio.run(rows(bare, "SELECT count(*) FROM policy_version WHERE active")) == [(1,)]
    assert asyncio.run(rows(bare, "SELECT count(*) FROM api_key")) == [(0,)]
    store = ObjectStore(bare)
    asyncio.run(store.ping())
    store.close()
    assert not (place / "admin.key").exists()
