"""Rows out of one snapshot and back: whatever a text may hold, all or nothing, counters and the audit's guard included."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest

from configs.settings import Settings
from storage.copies import database
from storage.errors import ConfigurationError, Conflict, Unavailable
from tests.installation import apart

ODD = ["", "\\N", "\\.", "a\tb\nc\rd\\e", "\x01\x02", "ёж 😀", '"quoted", {braces}', "NULL"]


@pytest.fixture
def target(servers: Settings) -> Iterator[Settings]:
    with apart(servers) as made:
        yield made


async def connected(settings: Settings) -> asyncpg.Connection:
    assert settings.database_url
    return await asyncpg.connect(settings.database_url.get_secret_value())


FILL = """
INSERT INTO image (id, name, status, model_name, s3_path, sha256, size_bytes, media_type, width, height, uploaded_at, failure)
SELECT 1000 + i, words[i], 'FAILED', words[i], 'images/' || i || words[i], sha256(int8send(i)), i, 'a/b', 1, 1, now(),
       nullif(words[i], '') FROM (SELECT $1::text[] AS words) AS given, generate_series(1, cardinality(words)) AS i
"""


async def test_odd_values_links_and_counters_come_back(alone: Settings, target: Settings, tmp_path: Path) -> None:
    here = await connected(alone)
    await here.execute(FILL, ODD)
    await here.execute(
        "INSERT INTO image_match (image_a, image_b, relation, method, score, threshold, evidence) "
        "VALUES (1001, 1002, 'copy', 'pdq', 0.1::float8 + 0.2::float8, 1e-300, $1)", '{"a": "\\\\ \\u0001 ё", "b": 1.50}',
    )  # fmt: skip
    await here.execute("SELECT setval(pg_get_serial_sequence('image', 'id'), 5000, true)")
    began = await here.fetch("SELECT * FROM image ORDER BY id")
    copy = await database.dump(alone, tmp_path, lambda _: None)
    names = [one.name for one in copy.tables]
    assert names.index("image") < names.index("image_match") and names.index("bank") < names.index("bank_member")
    assert {one.name: one.rows for one in copy.tables}["image"] == len(ODD)
    assert await database.knows(alone, copy.head) and not await database.knows(target, copy.head[:-2] + "zz")

    await database.load(target, tmp_path, copy, [1003], lambda _: None)
    there = await connected(target)
    assert await there.fetch("SELECT * FROM image ORDER BY id") == [row for row in began if row["id"] != 1003]
    links = "SELECT score, threshold, evidence::text, created_at FROM image_match"
    assert await there.fetch(links) == await here.fetch(links)
    assert await there.fetchval("SELECT nextval(pg_get_serial_sequence('image', 'id'))") == 5001
    with pytest.raises(asyncpg.InsufficientPrivilegeError, match="append-only"):
        await there.execute("DELETE FROM audit")
    await there.close()
    await here.execute("DELETE FROM image")
    await here.close()


async def test_what_fails_leaves_the_rows_that_were_there(alone: Settings, target: Settings, tmp_path: Path) -> None:
    here, there = await connected(alone), await connected(target)
    await here.execute(FILL, ODD[:2])
    await there.execute(FILL, ODD[:3])
    copy = await database.dump(alone, tmp_path, lambda _: None)
    audit = await there.fetch("SELECT * FROM audit")
    whole = (tmp_path / "image.copy").read_bytes()
    for damaged, error in (
        (whole.replace(b"\t", b" ", 1), Unavailable),  # a column is missing
        (whole.splitlines(keepends=True)[0], ConfigurationError),  # a row is missing
    ):
        (tmp_path / "image.copy").write_bytes(damaged)
        with pytest.raises(error):
            await database.load(target, tmp_path, copy, [], lambda _: None)
        assert await there.fetchval("SELECT count(*) FROM image") == 3
        assert await there.fetch("SELECT * FROM audit") == audit
    await there.execute("ALTER TABLE image ADD COLUMN extra int")
    with pytest.raises(ConfigurationError, match="not that of revision"):
        await database.load(target, tmp_path, copy, [], lambda _: None)
    await here.execute("DELETE FROM image")
    await here.close()
    await there.close()


async def test_a_service_is_noticed_and_an_empty_database_has_nothing(target: Settings, tmp_path: Path) -> None:
    held = await database.rows_there(target, frozenset(["api_key", "audit"]))
    assert "audit" not in held and not held["image"] and held["policy_version"], "the first policy is there"
    assert target.database_url
    other = await asyncpg.connect(
        target.database_url.get_secret_value(), server_settings={"application_name": "safeguard"}
    )
    with pytest.raises(Conflict, match="a service has 1 connections"):
        await database.rows_there(target, frozenset())
    await other.close()
    bare = await connected(target)
    await bare.execute("DROP TABLE alembic_version")
    await bare.close()
    with pytest.raises(ConfigurationError, match="nothing to back up"):
        await database.dump(target, tmp_path, lambda _: None)
    gone = target.model_copy(update={"database_url": type(target.database_url)("postgresql://u:x1@127.0.0.1:9/x")})
    with pytest.raises(Unavailable):
        await asyncio.wait_for(database.dump(gone, tmp_path, lambda _: None), 30)
