"""Steps of a look-back: a page costs what a page holds; rows of removed members go in a step that judges nothing."""

from collections.abc import AsyncIterator

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from configs.settings import Settings
from storage import bank_members, banks, lookback_claims, lookback_steps, lookbacks
from storage.hash_findings import add_findings
from storage.lookback_claims import HeldLookBack
from storage.lookback_steps import Pace
from storage.lookback_tables import LookBackKind
from storage.objects import ObjectStore
from storage.quarantine import Rule
from tests.banks import bank_of
from tests.filtering import SAFE, processed
from tests.installation import own_engine
from tests.plans import nodes

PACE = Pace(60.0)
RULE = Rule(100, 0.1, 10.0, 3600.0, 86_400.0)
MANY = """
INSERT INTO image (name, status, model_name, s3_path, sha256, size_bytes, media_type, width, height, uploaded_at)
SELECT 'x', 'PROCESSED', 'm', 'images/' || i, sha256(int8send(i % 3)), 1, 'image/png', 1, 1, now()
FROM generate_series(1, 6000) AS i;
INSERT INTO hash_finding (image_id, member_id, distance)
SELECT image.id, member.id, 1 FROM image CROSS JOIN bank_member member WHERE member.pdq IS NOT NULL;
UPDATE bank_member SET image_id = (SELECT id FROM image ORDER BY id OFFSET 3000 LIMIT 1), pdq = NULL
WHERE id = (SELECT max(id) FROM bank_member);
INSERT INTO bank_member (bank_id, sha256, added_by) SELECT max(id), sha256(int8send(1)), 'test' FROM bank;
INSERT INTO image_match (image_a, image_b, relation, method, score, threshold, evidence, descriptor)
SELECT least(image.id, member.image_id), greatest(image.id, member.image_id), 'copy', 'descriptor', 1, 0, '{}', d
FROM image JOIN bank_member member ON member.image_id <> image.id CROSS JOIN unnest('{a@1,b@1}'::text[]) AS d
"""


@pytest.fixture
async def alone(servers: Settings) -> AsyncIterator[AsyncEngine]:
    async with own_engine(servers) as engine:
        yield engine


async def _held(engine: AsyncEngine) -> HeldLookBack:
    held = await lookback_claims.claim(engine, lease_s=60, max_attempts=3)
    assert held is not None
    return held


async def test_a_page_reads_no_more_of_each_member_than_a_page(alone: AsyncEngine) -> None:
    bank, _ = await bank_of(alone, [b"a" * 32, b"b" * 32])
    async with alone.begin() as connection:
        for statement in MANY.split(";"):
            await connection.execute(text(statement))
    async with alone.execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
        await connection.execute(text("ANALYZE"))
    arguments = {"bank": bank, "first": 0, "last": 10, "after": 0, "page": 20}
    async with alone.connect() as connection:
        explained = text(f"EXPLAIN (ANALYZE, FORMAT JSON) {lookback_steps._TOUCHED}")
        (plan,) = (await connection.execute(explained, arguments)).scalar_one()
        everything = list((await connection.execute(text("SELECT id FROM image ORDER BY id"))).scalars())
        found: list[int] = []
        while page := list((await connection.execute(lookback_steps._TOUCHED, arguments)).scalars()):
            found += page
            arguments["after"] = page[-1]
    read = [
        (one["Node Type"], one.get("Index Name"), one["Actual Rows"])
        for one in nodes(plan["Plan"])
        if one.get("Relation Name") in {"image_match", "hash_finding"}
    ]
    assert len(read) >= 3 and all(rows <= 2 * 20 + 1 for *_, rows in read), read
    assert found == everything


async def test_rows_of_removed_members_go_in_a_step_that_judges_nothing(
    alone: AsyncEngine, objects: ObjectStore
) -> None:
    bank, (member, other) = await bank_of(alone, [b"a" * 32, b"b" * 32])
    (image,) = await processed(alone, objects, [SAFE])
    async with alone.begin() as connection:
        await add_findings(connection, {image: {member: 3}})
    await bank_members.remove(alone, bank, member, actor="test")
    async with alone.connect() as connection:
        gone = await connection.scalar(text("SELECT removed_at::text FROM bank_member WHERE id = :id"), {"id": member})
    batch = {"through": member, "phase": "touch", "after": 0, "gone": {str(member): gone}}
    held = (await _held(alone)).at({"end": image, "member": 0, "batch": batch})

    async def members() -> list[int]:
        async with alone.connect() as connection:
            return list((await connection.execute(text("SELECT id FROM bank_member ORDER BY id"))).scalars())

    judged = await lookback_steps.touch(alone, held, PACE, RULE, batch_members=1)
    assert "batch" in judged.cursor and await members() == [member, other]
    assert (await lookbacks.get(alone, held.id)).images_done == 1
    ended = await lookback_steps.touch(alone, judged, PACE, RULE, batch_members=1)
    assert "batch" not in ended.cursor and await members() == [other]
    found = await lookbacks.get(alone, held.id)
    assert (found.images_done, found.members_done, found.kind) == (1, 1, LookBackKind.MEMBERS)


async def test_a_removal_is_known_by_its_moment_in_any_time_zone(alone: AsyncEngine) -> None:
    bank, (member,) = await bank_of(alone, [b"a" * 32])
    await banks.remove(alone, bank, actor="test")
    async with alone.begin() as connection:
        await connection.execute(text("SET LOCAL TimeZone TO 'Asia/Kathmandu'"))
        gone = await connection.scalar(text("SELECT removed_at::text FROM bank WHERE id = :id"), {"id": bank})
    batch = {"through": member, "phase": "touch", "after": 0, "gone": {str(member): gone}}
    held = (await _held(alone)).at({"end": 0, "member": 0, "bank_gone": gone, "batch": batch})
    await lookback_steps.finish(alone, await lookback_steps.touch(alone, held, PACE, RULE, batch_members=1))
    async with alone.connect() as connection:
        left = [await connection.scalar(text(f"SELECT count(*) FROM {table}")) for table in ("bank_member", "bank")]
    assert left == [0, 0]
