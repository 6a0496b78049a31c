"""What PostgreSQL is asked for the metrics: cheap queries, each over a part of an index or a small table.

Counts are exact up to ``EXACT`` rows; above, they are the planner's estimate as of the last ANALYZE, since counting on
would read a whole index every time.
"""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine
from sqlmodel import col

from storage import jobs
from storage.database import reading
from storage.index_measurements import measured
from storage.job_tables import Job, JobStatus
from storage.tables import Status, columns_of

EXACT = 50_000
_DECISIONS_AT_ONCE = 20_000


@dataclass(frozen=True)
class JobFigures:
    """The unfinished jobs of one kind: objects by state, images a second, seconds left."""

    objects: dict[str, int]
    per_second: float
    left_s: float


@dataclass(frozen=True)
class Figures:
    """What changes from second to second.

    Args:
        waiting: (model, status) -> images, of those that wait and those in work.
        oldest_s: model -> seconds that its first waiting image waits.
        overdue: images whose lease is over.
        review: images that wait for a reviewer, and seconds that the oldest waits.
        deliveries: state -> deliveries.
        delivery_oldest_s: seconds that the oldest delivery waits.
        webhooks: ok, failing or off -> webhooks.
        lookbacks: state -> look-backs.
        lookback_oldest_s: seconds since the oldest unfinished one was begun.
        lookback_images: that the unfinished ones have judged anew.
        lookback_members: all or done -> members that those search for.
        jobs: (kind, status) -> unfinished jobs.
        job_figures: kind -> theirs.
    """

    waiting: dict[tuple[str, str], int] = field(default_factory=dict)
    oldest_s: dict[str, float] = field(default_factory=dict)
    overdue: int = 0
    review: tuple[int, float] = (0, 0.0)
    deliveries: dict[str, int] = field(default_factory=dict)
    delivery_oldest_s: float = 0.0
    webhooks: dict[str, int] = field(default_factory=dict)
    lookbacks: dict[str, int] = field(default_factory=dict)
    lookback_oldest_s: float = 0.0
    lookback_images: int = 0
    lookback_members: dict[str, int] = field(default_factory=dict)
    jobs: dict[tuple[str, str], int] = field(default_factory=dict)
    job_figures: dict[str, JobFigures] = field(default_factory=dict)


@dataclass(frozen=True)
class SlowFigures:
    """What grows slowly and costs more: (model, status) -> images, verdict -> images, table -> recall, bytes."""

    finished: dict[tuple[str, str], int]
    verdicts: dict[str, int]
    recall: dict[str, float]
    database_bytes: int


_BY_MODEL = """
SELECT model_name FROM image WHERE status = '{status}' AND uploaded_at IS NOT NULL{more}
"""
_OLDEST = text("""
SELECT wanted.model, (SELECT extract(epoch FROM now() - uploaded_at) FROM image
              WHERE status = 'UPLOADED' AND uploaded_at IS NOT NULL AND model_name = wanted.model ORDER BY id LIMIT 1) AS age_s
FROM unnest(CAST(:names AS text[])) AS wanted(model)
""")
_OVERDUE = text("""
SELECT count(*) FROM (SELECT FROM image WHERE status = 'PROCESSING' AND lease_expires_at < now() LIMIT :exact) AS late
""")
_REVIEW = text("""
SELECT count(*) AS images, coalesce(extract(epoch FROM now() - min(changed_at)), 0) AS age_s
FROM (SELECT changed_at FROM moderation WHERE verdict = 'review' LIMIT :exact) AS queue
""")
_DELIVERIES = text("""
SELECT coalesce(sum(waiting), 0) AS waiting, coalesce(sum(dead), 0) AS dead,
       coalesce(extract(epoch FROM now() - min(since)), 0) AS age_s
FROM webhook
CROSS JOIN LATERAL (SELECT count(*) AS waiting FROM (SELECT FROM delivery
    WHERE webhook_id = webhook.id AND state = 'waiting' LIMIT :exact) AS w) AS waits
CROSS JOIN LATERAL (SELECT count(*) AS dead FROM (SELECT FROM delivery
    WHERE webhook_id = webhook.id AND state = 'dead' LIMIT :exact) AS d) AS dies
LEFT JOIN LATERAL (SELECT begun_at AS since FROM delivery
    WHERE webhook_id = webhook.id AND state = 'waiting' ORDER BY event_id LIMIT 1) AS first ON true
""")
_WEBHOOKS = text("""
SELECT CASE WHEN NOT enabled THEN 'off' WHEN failing_since IS NOT NULL THEN 'failing' ELSE 'ok' END AS state,
       count(*) AS webhooks FROM webhook GROUP BY 1
""")
_LOOKBACKS = text("""
SELECT count(*) AS waiting, coalesce(sum(images_done), 0) AS images, coalesce(sum(members), 0) AS members,
       coalesce(sum(members_done), 0) AS members_done,
       coalesce(extract(epoch FROM now() - min(created_at)), 0) AS age_s,
       (SELECT count(*) FROM (SELECT FROM look_back WHERE state = 'dead' LIMIT :exact) AS d) AS dead
FROM look_back WHERE state = 'waiting'
""")
_UNFINISHED = (JobStatus.WAITING, JobStatus.RUNNING, JobStatus.PAUSED, JobStatus.CANCELLING, JobStatus.FAILED)
_DECISIONS = text("""
SELECT detail->>'verdict' AS verdict, CASE WHEN actor = 'policy' THEN 'policy' ELSE 'person' END AS by, count(*) AS made
FROM audit WHERE sequence > :after AND sequence <= :until AND action = 'image.decide' GROUP BY 1, 2
""")
_ENTRIES = text("SELECT coalesce(max(sequence), 0) FROM audit")


async def figures(engine: AsyncEngine, names: Sequence[str]) -> Figures:
    """What changes from second to second.

    Args:
        names: of models that are wanted whether or not they have images.
    """
    async with reading(engine) as connection:
        limit = {"exact": EXACT}
        waiting = await _by_model(connection, (Status.UPLOADED, Status.PROCESSING), names)
        queued = sorted({model for model, status in waiting if status == Status.UPLOADED} | set(names))
        oldest = (await connection.execute(_OLDEST, {"names": queued})).all()
        overdue = (await connection.execute(_OVERDUE, limit)).scalar_one()
        review = (await connection.execute(_REVIEW, limit)).one()
        deliveries = (await connection.execute(_DELIVERIES, limit)).one()
        webhooks = {row.state: row.webhooks for row in (await connection.execute(_WEBHOOKS)).all()}
        lookbacks = (await connection.execute(_LOOKBACKS, limit)).one()
        wanted = select(*columns_of(Job)).where(col(Job.status).in_(_UNFINISHED))
        unfinished = [Job(**row._mapping) for row in (await connection.execute(wanted)).all()]
    return Figures(
        waiting,
        {row.model: float(row.age_s or 0) for row in oldest},
        overdue,
        (review.images, float(review.age_s)),
        {"waiting": int(deliveries.waiting), "dead": int(deliveries.dead)},
        float(deliveries.age_s),
        {state: webhooks.get(state, 0) for state in ("ok", "failing", "off")},
        {"waiting": lookbacks.waiting, "dead": lookbacks.dead},
        float(lookbacks.age_s),
        int(lookbacks.images),
        {"all": int(lookbacks.members), "done": int(lookbacks.members_done)},
        dict(Counter((job.kind, job.status) for job in unfinished)),
        {
            kind: _job_figures([job for job in unfinished if job.kind == kind])
            for kind in {job.kind for job in unfinished}
        },
    )


def _job_figures(held: Sequence[Job]) -> JobFigures:
    running = [job for job in held if job.status == JobStatus.RUNNING]
    return JobFigures(
        {"all": sum(job.objects for job in held)}
        | {state: sum(getattr(job, state) for job in held) for state in ("indexed", "done", "failed", "skipped")},
        sum(jobs.per_second(job) for job in running),
        max((jobs.seconds_left(job) or 0.0 for job in running), default=0.0),
    )


async def slow_figures(engine: AsyncEngine, names: Sequence[str]) -> SlowFigures:
    """What grows slowly; ask for it seldom."""
    async with reading(engine) as connection:
        finished = await _by_model(connection, (Status.PROCESSED, Status.FAILED), names)
        verdicts = {
            verdict: await _count(connection, f"SELECT 1 FROM moderation WHERE verdict = '{verdict}'")
            for verdict in ("allow", "review", "block")
        }
        size = (await connection.execute(text("SELECT pg_database_size(current_database())"))).scalar_one()
    recall = {name: one.recall_at_10 for name, one in (await measured(engine)).items()}
    return SlowFigures(finished, verdicts, recall, size)


async def last_entry(engine: AsyncEngine) -> int:
    """Number of the audit's last entry; it has no gaps, and a later one is never committed before an earlier one."""
    async with reading(engine) as connection:
        return int((await connection.execute(_ENTRIES)).scalar_one())


async def decisions_since(engine: AsyncEngine, after: int) -> tuple[int, dict[tuple[str, str], int]]:
    """Decisions that the audit tells of after an entry.

    Args:
        after: number of the entry.
    Returns:
        The entry read last, and (verdict, policy or person) -> decisions; at most some ten thousand at a time.
    """
    async with reading(engine) as connection:
        last = int((await connection.execute(_ENTRIES)).scalar_one())
        until = min(last, after + _DECISIONS_AT_ONCE)
        rows = (await connection.execute(_DECISIONS, {"after": after, "until": until})).all()
    return max(until, after), {(row.verdict, row.by): row.made for row in rows}


async def _by_model(
    connection: AsyncConnection, statuses: Sequence[Status], names: Sequence[str]
) -> dict[tuple[str, str], int]:
    counts: dict[tuple[str, str], int] = {(name, status): 0 for name in names for status in statuses}
    for status in statuses:
        capped = f"SELECT model_name, count(*) FROM ({_BY_MODEL.format(status=status, more=' LIMIT :exact')}) AS few GROUP BY 1"
        found = {row[0]: row[1] for row in (await connection.execute(text(capped), {"exact": EXACT})).all()}
        if sum(found.values()) >= EXACT:
            query = _BY_MODEL.format(status=status, more=" AND model_name = :name")
            found = {name: await _estimate(connection, query, name=name) for name in {*found, *names}}
        counts |= {(name, str(status)): count for name, count in found.items()}
    return counts


async def _count(connection: AsyncConnection, query: str) -> int:
    """Rows of a query, which is of this file: exact up to ``EXACT``, above an estimate."""
    statement = text(f"SELECT count(*) FROM ({query} LIMIT :exact) AS few")
    exact = int((await connection.execute(statement, {"exact": EXACT})).scalar_one())
    return exact if exact < EXACT else max(exact, await _estimate(connection, query))


async def _estimate(connection: AsyncConnection, query: str, **values: str) -> int:
    plan = (await connection.execute(text(f"EXPLAIN (FORMAT JSON) {query}"), values)).scalar_one()
    found: list[dict[str, Any]] = json.loads(plan) if isinstance(plan, str) else plan
    return int(found[0]["Plan"]["Plan Rows"])
