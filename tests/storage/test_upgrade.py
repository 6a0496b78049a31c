"""The way up from the last release before policies (schema 0004), on a filled database, and back down to it."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
import pytest_asyncio
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from configs.settings import Settings
from storage import lookback_claims, lookback_steps, moderation
from storage.audit_check import verify
from storage.database import create_engine
from storage.lookback_steps import Pace
from storage.lookback_tables import LookBackKind
from storage.migrate import downgrade, upgrade
from storage.policy_changes import ensure_active
from tests.installation import apart

OLD = "0004"
FILL = """
INSERT INTO api_key (name, hash, scopes, rate_limit) VALUES ('partner', sha256('k'), ARRAY['image:read','admin'], 60);
INSERT INTO image (name, status, model_name, s3_path, sha256, size_bytes, media_type, width, height, uploaded_at,
                   processed_at, attempt, finished_token, failure)
SELECT 'фото ' || i, CASE WHEN i % 50 = 0 THEN 'FAILED' WHEN i % 30 = 0 THEN 'UPLOADED' ELSE 'PROCESSED' END, 'm',
       'images/' || i, sha256(int8send(i / 2)), i, 'image/jpeg', 640, 480, now() - i * interval '1 minute',
       now(), 1, gen_random_uuid(), CASE WHEN i % 50 = 0 THEN 'broken' END
FROM generate_series(1, 600) AS i;
UPDATE image SET status = 'PROCESSING', lease_token = gen_random_uuid(), lease_expires_at = now() - interval '1 hour',
       processed_at = NULL WHERE id = 30;
INSERT INTO image (name, status, model_name, s3_path, sha256, size_bytes, media_type, width, height)
VALUES ('under way', 'UPLOADED', 'm', 'images/under-way', sha256('w'), 1, 'image/png', 1, 1);
INSERT INTO image_match (image_a, image_b, descriptor, relation, method, score, threshold, evidence)
SELECT i, i + 1, 'lite@2', 'copy', 'descriptor', 0.9, 0.8, '{"descriptor": {"name": "lite@2"}}'
FROM generate_series(1, 500, 3) AS i;
INSERT INTO detection (image_id, ordinal, label, score, x0, y0, x1, y1, model)
SELECT i, 0, 'person', 0.8, 0, 0, 10, 10, 'nanodet' FROM generate_series(1, 600, 5) AS i;
INSERT INTO content_score (image_id, model, score)
SELECT i, 'opennsfw@1', CASE WHEN i % 7 = 0 THEN 0.99 ELSE 0.01 END FROM generate_series(1, 600) AS i WHERE i % 50 <> 0;
INSERT INTO idempotency (key_id, idempotency_key, image_id, request_hash) SELECT id, 'once', 1, sha256('r') FROM api_key;
INSERT INTO generation (model_name, state, descriptor) VALUES ('m', 'live', 'lite@2'), ('m', 'previous', 'lite@1');
INSERT INTO calibration (model_name, networks, relation, mode, threshold, wanted_precision, precision, recall, pictures,
                         queries) VALUES ('m', 'lite@2', 'copy', 'active', 0.5, 0.9, 0.9, 0.9, 50, 90);
INSERT INTO job (kind, status, source, model_name, options, created_by, units, objects, done)
VALUES ('backfill', 'done', 's3://corpus/', 'm', '{"unit": 100}', 'anna', 1, 2, 2);
INSERT INTO job_unit (job_id, number, state, image_ids, paths, etags, sizes)
SELECT id, 0, 'done', '{7,8}', '{"s3://corpus/a","s3://corpus/b"}', '{x,y}', '{1,2}' FROM job;
INSERT INTO job_failure (job_id, image_id, path, etag, size, reason)
SELECT id, 9999, 's3://corpus/c', 'z', 3, 'no picture' FROM job;
INSERT INTO writer_fence (name, epoch, holder) VALUES ('vectors', 7, 'somebody');
INSERT INTO queue_poll (model_name, last_polled_at) VALUES ('workers', now());
INSERT INTO audit (actor, action, subject, detail)
SELECT 'кто', 'image.delete', 'image/' || i, jsonb_build_object('n', i / 7.0) FROM generate_series(1, 2500) AS i
"""
KEPT = {
    "api_key": "id, name, hash, scopes, rate_limit, created_at", "image": "*", "image_match": "*", "detection": "*",
    "content_score": "*", "idempotency": "*", "generation": "model_name, state, descriptor, changed_at",
    "calibration": "*", "job": "*", "job_unit": "*", "job_failure": "*", "writer_fence": "*", "queue_poll": "*",
}  # fmt: skip
"""What must be the same before and after; the audit is numbered anew and grows."""
SHAPE = """
SELECT table_name || '.' || column_name || ' ' || data_type || ' ' || is_nullable || coalesce(column_default, '') ||
       is_identity FROM information_schema.columns WHERE table_schema = current_schema()
UNION ALL SELECT indexdef FROM pg_indexes WHERE schemaname = current_schema()
UNION ALL SELECT conrelid::regclass || conname || pg_get_constraintdef(oid) FROM pg_constraint
          WHERE connamespace = current_schema()::regnamespace AND contype <> 'n'
UNION ALL SELECT tgname FROM pg_trigger WHERE NOT tgisinternal
UNION ALL SELECT proname FROM pg_proc WHERE pronamespace = current_schema()::regnamespace ORDER BY 1
"""
OLD_QUERIES = (
    # As the release with schema 0004 sends them: an upload, a claim, its end, a deletion with its entry, a page.
    """INSERT INTO image (name, status, model_name, s3_path, sha256, size_bytes, media_type, width, height, uploaded_at)
    VALUES ('new', 'UPLOADED', 'fresh', 'images/new', sha256('new'), 1, 'image/png', 1, 1, now())""",
    """UPDATE image SET status = 'PROCESSING', attempt = attempt + 1, lease_token = gen_random_uuid(),
       lease_expires_at = now() + make_interval(secs => 60), not_before = NULL
    WHERE id IN (SELECT id FROM image WHERE status = 'UPLOADED' AND uploaded_at IS NOT NULL AND model_name = 'fresh'
                 AND (not_before IS NULL OR not_before <= now()) ORDER BY id LIMIT 4 FOR UPDATE SKIP LOCKED)""",
    """UPDATE image SET status = 'PROCESSED', processed_at = now(), finished_token = lease_token, lease_token = NULL,
       lease_expires_at = NULL, failure = NULL WHERE model_name = 'fresh' AND status = 'PROCESSING'""",
    """INSERT INTO image_match (image_a, image_b, descriptor, relation, method, score, threshold, evidence)
    SELECT 1, id, 'lite@2', 'copy', 'pdq', 1, 1, '{}' FROM image WHERE model_name = 'fresh'
    ON CONFLICT (image_a, image_b, descriptor) DO UPDATE SET score = excluded.score""",
    "DELETE FROM image WHERE id = 2",
    "INSERT INTO audit (actor, action, subject, detail) VALUES ('partner', 'image.delete', 'image/2', '{}')",
    "UPDATE writer_fence SET epoch = epoch + 1, holder = 'old' WHERE name = 'vectors'",
)


@pytest.fixture
def old(servers: Settings) -> Iterator[Settings]:
    """A database as the release with schema 0004 has filled it."""
    with apart(servers) as made:
        downgrade(made, "base")
        upgrade(made, OLD)
        yield made


@pytest_asyncio.fixture
async def filled(old: Settings) -> AsyncIterator[AsyncEngine]:
    made = create_engine(old, pool_size=1)
    async with made.begin() as connection:
        for statement in FILL.split(";\n"):
            await connection.exec_driver_sql(statement)
    yield made
    await made.dispose()


async def rows(engine: AsyncEngine, statement: str) -> list[tuple[Any, ...]]:
    async with engine.connect() as connection:
        return [tuple(row) for row in await connection.execute(text(statement))]


async def held(engine: AsyncEngine) -> dict[str, list[tuple[Any, ...]]]:
    return {name: await rows(engine, f"SELECT {columns} FROM {name} ORDER BY 1, 2") for name, columns in KEPT.items()}


async def judged(engine: AsyncEngine) -> int:
    """Works the one look-back off, as the pipeline does; returns how many steps it took."""
    work = await lookback_claims.claim(engine, lease_s=60, max_attempts=3)
    assert work is not None and work.kind == LookBackKind.JUDGE
    (newest,) = (await rows(engine, "SELECT max(id) FROM image"))[0]
    pace, steps = Pace(60.0), 0
    work = await lookback_steps.begin_batch(engine, work, {"end": newest, "after": 0}, pace, members=None)
    while (after := await lookback_steps.judge_page(engine, work, pace)) is not None:
        work, steps = after, steps + 1
    await lookback_steps.finish(engine, work)
    return steps


async def test_up_with_verdicts_and_down_to_what_was(old: Settings, filled: AsyncEngine) -> None:
    shape, before = await rows(filled, SHAPE), await held(filled)
    audit = "SELECT at, actor, action, subject, detail::text FROM audit ORDER BY {0} LIMIT 2500"
    entries = await rows(filled, audit.format("id"))
    assert len(before["image"]) == 601 and len(entries) == 2500

    await filled.dispose()
    await asyncio.to_thread(upgrade, old)
    assert await held(filled) == before
    assert await rows(filled, audit.format("sequence")) == entries
    assert (await verify(filled)).head.sequence == 2500

    assert await ensure_active(filled, actor="up") == 1
    assert await ensure_active(filled, actor="up") is None
    (lookback,) = await rows(filled, "SELECT kind, created_by, cause, state FROM look_back")
    assert lookback == ("judge", "up", "policy 1 was applied", "waiting")
    lazily = await moderation.standing(filled, 14)
    assert lazily.decision.verdict == "block" and lazily.decision.policy_id == 1, "before the look-back comes to it"
    assert await judged(filled) > 1
    verdicts = dict(await rows(filled, "SELECT verdict, count(*) FROM moderation GROUP BY 1"))
    processed = await rows(filled, "SELECT count(*) FROM image WHERE status = 'PROCESSED'")
    assert sum(verdicts.values()) == processed[0][0] and verdicts["block"] > 70 and verdicts["allow"] > 400
    assert await rows(filled, "SELECT image_id FROM moderation WHERE (verdict = 'block') <> (image_id % 7 = 0)") == []
    assert await held(filled) == before
    assert (await verify(filled)).broken is None

    await filled.dispose()
    await asyncio.to_thread(downgrade, old, OLD)
    assert await rows(filled, SHAPE) == shape
    assert await held(filled) == before
    assert await rows(filled, audit.format("id")) == entries
    async with filled.begin() as connection:
        for statement in OLD_QUERIES:
            assert (await connection.execute(text(statement))).rowcount == 1, statement
    assert await rows(filled, "SELECT count(*) FROM image_match WHERE 2 IN (image_a, image_b)") == [(0,)]

    await filled.dispose()
    await asyncio.to_thread(upgrade, old)
    assert (await verify(filled)).broken is None
    assert await ensure_active(filled, actor="up again") is not None
    assert await judged(filled) > 1
    assert await rows(filled, "SELECT count(*) FROM image WHERE model_name = 'fresh' AND status = 'PROCESSED'") == [
        (1,)
    ]
    fresh = "SELECT verdict FROM moderation JOIN image ON image.id = image_id WHERE model_name = 'fresh'"
    assert await rows(filled, fresh) == [("review",)], "no filter has seen it"


async def test_a_database_without_images_begins_no_look_back(servers: Settings, old: Settings) -> None:
    await asyncio.to_thread(upgrade, old)
    made = create_engine(old, pool_size=1)
    assert await ensure_active(made, actor="up") == 1
    assert await rows(made, "SELECT count(*) FROM look_back") == [(0,)]
    await made.dispose()
