"""The figures for the metrics: exact while few, near enough when many."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from configs.facts import Facts
from configs.policies import Judgement
from configs.settings import Settings
from storage import figures
from storage.decisions import row_of, store
from storage.figures import decisions_since, last_entry, slow_figures
from storage.lookback_tables import LookBackKind
from storage.lookbacks import begin
from storage.outbox import EventType, emit_many
from tests.installation import own_engine
from tests.plans import nodes

FILL = text("""
INSERT INTO image (name, status, model_name, s3_path, sha256, size_bytes, media_type, width, height, uploaded_at,
                   lease_token, lease_expires_at)
SELECT 'x', :status, :model, gen_random_uuid()::text, sha256(int8send(i)), 1, 'image/png', 1, 1,
       now() - make_interval(secs => :age_s), CASE WHEN :status = 'PROCESSING' THEN gen_random_uuid() END,
       CASE WHEN :status = 'PROCESSING' THEN now() + make_interval(secs => :lease_s) END
FROM generate_series(1, :count) AS i
""")


@pytest_asyncio.fixture(scope="module")
async def own(servers: Settings) -> AsyncIterator[AsyncEngine]:
    """An empty database of this module's own."""
    async with own_engine(servers) as engine:
        yield engine


async def fill(
    engine: AsyncEngine, model: str, status: str, count: int, *, age_s: float = 0, lease_s: float = 60
) -> None:
    values = {"model": model, "status": status, "count": count, "age_s": age_s, "lease_s": lease_s}
    async with engine.begin() as connection:
        await connection.execute(FILL, values)


async def execute(engine: AsyncEngine, *statements: str) -> None:
    async with engine.begin() as connection:
        for statement in statements:
            await connection.execute(text(statement))


async def test_an_empty_installation(own: AsyncEngine) -> None:
    found = await figures.figures(own, ["safeguard-v1"])
    assert found.waiting == {("safeguard-v1", "UPLOADED"): 0, ("safeguard-v1", "PROCESSING"): 0}
    assert found.oldest_s == {"safeguard-v1": 0.0} and found.overdue == 0 and found.review == (0, 0.0)
    assert found.deliveries == {"waiting": 0, "dead": 0} and found.webhooks == {"ok": 0, "failing": 0, "off": 0}
    assert found.lookbacks == {"waiting": 0, "dead": 0} and not found.jobs and not found.job_figures
    slow = await slow_figures(own, ["safeguard-v1"])
    assert slow.verdicts == {"allow": 0, "review": 0, "block": 0} and not slow.recall and slow.database_bytes > 10**6


async def test_queues_and_leases(own: AsyncEngine) -> None:
    await fill(own, "m1", "UPLOADED", 7, age_s=90)
    await fill(own, "m1", "UPLOADED", 3, age_s=5)
    await fill(own, "m2", "PROCESSING", 4, lease_s=-1)
    await fill(own, "m2", "PROCESSING", 2)
    await fill(own, "m2", "FAILED", 5)
    await fill(own, "m2", "PROCESSED", 6)
    found = await figures.figures(own, [])
    assert found.waiting == {("m1", "UPLOADED"): 10, ("m2", "PROCESSING"): 6}
    assert 90 <= found.oldest_s["m1"] < 150 and found.overdue == 4
    assert (await slow_figures(own, [])).finished == {("m2", "FAILED"): 5, ("m2", "PROCESSED"): 6}


async def test_many_images_are_estimated(own: AsyncEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    await fill(own, "many", "PROCESSED", 900)
    await execute(own, "ANALYZE image")
    monkeypatch.setattr(figures, "EXACT", 100)
    found = (await slow_figures(own, ["many"])).finished
    assert 600 < found["many", "PROCESSED"] < 1200


async def test_review_webhooks_and_look_backs(own: AsyncEngine) -> None:
    async with own.begin() as connection:
        ids = list((await connection.execute(text("SELECT id FROM image ORDER BY id LIMIT 5"))).scalars())
        policy = (await connection.execute(text("SELECT id FROM policy_version WHERE active"))).scalar_one()
    verdicts = ["review", "review", "block", "allow", "allow"]
    before = await last_entry(own)
    async with own.begin() as connection:
        rows = []
        for image_id, verdict in zip(ids, verdicts, strict=True):
            said = Judgement(verdict=verdict, rule="r", reason="why", severity=1, fired=[])
            rows.append(row_of(Facts(image_id, "m", "image/png", 1, 1, 1), said, "d", "test", policy, None))
        rows[-1] |= {"actor": "jane", "policy_id": None}
        await store(connection, rows)
    last, made = await decisions_since(own, before)
    assert made == {("review", "policy"): 2, ("block", "policy"): 1, ("allow", "policy"): 1, ("allow", "person"): 1}
    assert last == before + 5 and await decisions_since(own, last) == (last, {})
    await execute(
        own,
        "UPDATE moderation SET changed_at = now() - interval '1 hour'",
        "INSERT INTO webhook (types, url, secret, created_by) VALUES ('{}', 'a', 's', 't')",
        "INSERT INTO webhook (types, url, secret, created_by, failing_since) VALUES ('{}', 'b', 's', 't', now())",
        "INSERT INTO webhook (types, url, secret, created_by, enabled) VALUES ('{}', 'c', 's', 't', false)",
    )
    async with own.begin() as connection:
        await emit_many(connection, [(EventType.LOOKBACK_FINISHED, None, {})] * 3)
        await begin(connection, LookBackKind.JUDGE, cause="test", actor="test")
    await execute(
        own,
        "UPDATE delivery SET state = 'dead' WHERE event_id = (SELECT max(event_id) FROM delivery)",
        "UPDATE delivery SET begun_at = now() - interval '50 s'",
        "UPDATE look_back SET images_done = 40, members = 8, members_done = 3, created_at = now() - interval '30 s'",
        "INSERT INTO look_back (kind, state, cause, created_by) VALUES ('judge', 'dead', 'x', 't')",
    )
    found = await figures.figures(own, [])
    assert found.review[0] == 2 and 3600 <= found.review[1] < 3700
    assert found.webhooks == {"ok": 1, "failing": 1, "off": 1}
    assert found.deliveries == {"waiting": 4, "dead": 2} and 50 <= found.delivery_oldest_s < 100
    assert found.lookbacks == {"waiting": 1, "dead": 1}
    assert found.lookback_members == {"all": 8, "done": 3}
    assert found.lookback_images == 40 and 30 <= found.lookback_oldest_s < 80
    assert (await slow_figures(own, [])).verdicts == {"allow": 2, "review": 2, "block": 1}


async def test_look_backs_that_have_ended_are_not_read(own: AsyncEngine) -> None:
    await execute(
        own,
        "INSERT INTO look_back (kind, state, cause, created_by)"
        " SELECT 'judge', 'done', 'x', 't' FROM generate_series(1, 5000)",
        "ANALYZE look_back",
    )
    async with own.connect() as connection:
        explained = text(f"EXPLAIN (ANALYZE, FORMAT JSON) {figures._LOOKBACKS}")
        (plan,) = (await connection.execute(explained, {"exact": figures.EXACT})).scalar_one()
    scans = [one for one in nodes(plan["Plan"]) if one.get("Relation Name") == "look_back"]
    assert {one["Index Name"] for one in scans} == {"look_back_waiting", "look_back_dead"}
    assert all(one["Actual Rows"] + one.get("Rows Removed by Filter", 0) < 100 for one in scans)


async def test_jobs_that_have_not_ended(own: AsyncEngine) -> None:
    columns = "kind, status, source, model_name, options, created_by, listed, objects, indexed, done, failed, worked_s"
    await execute(
        own,
        f"INSERT INTO job ({columns}) VALUES ('backfill', 'running', 's', 'm', '{{}}', 't', true, 100, 20, 10, 5, 10)",
        f"INSERT INTO job ({columns}) VALUES ('backfill', 'paused', 's', 'm', '{{}}', 't', true, 50, 0, 0, 0, 0)",
        f"INSERT INTO job ({columns}) VALUES ('reindex', 'done', 's', 'm', '{{}}', 't', true, 9, 9, 9, 0, 1)",
    )
    found = await figures.figures(own, [])
    assert found.jobs == {("backfill", "running"): 1, ("backfill", "paused"): 1}
    (one,) = found.job_figures.values()
    assert one.objects == {"all": 150, "indexed": 20, "done": 10, "failed": 5, "skipped": 0}
    assert one.per_second == 2.0 and one.left_s == 40.0
