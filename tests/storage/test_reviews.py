"""The queue of reviewers: the gravest first, nobody shares, a lease that was given away has lost its right."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Iterator
from itertools import pairwise
from uuid import uuid4

import pytest
import pytest_asyncio
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from configs.policies import Verdict
from configs.settings import Settings
from storage import reviews
from storage.audit import record
from storage.clusters import cluster
from storage.database import create_engine, database_dsn, reading
from storage.errors import NotFound, StaleClaim
from storage.human_decisions import Ruling, reverse, rule
from storage.moderation import history, standing
from storage.objects import ObjectStore
from storage.reviews import Lease
from storage.uploads import remove
from tests.filtering import DOUBTFUL, SAFE, linked, processed
from tests.installation import apart


@pytest.fixture(scope="module")
def alone(servers: Settings) -> Iterator[Settings]:
    with apart(servers) as settings:
        yield settings


@pytest_asyncio.fixture
async def engine(alone: Settings) -> AsyncIterator[AsyncEngine]:
    """An engine on a database of this module's own, with an empty queue."""
    made = create_engine(alone, pool_size=10)
    async with made.begin() as connection:
        await connection.execute(text("DELETE FROM image"))
    yield made
    await made.dispose()


async def take(engine: AsyncEngine, reviewer: str, lease_s: float = 60.0) -> Lease:
    lease = await reviews.take(engine, reviewer, lease_s=lease_s)
    assert lease is not None
    return lease


def said(reviewer: str, verdict: Verdict = Verdict.BLOCK) -> Ruling:
    return Ruling(verdict, "seen", reviewer, cause="review")


async def expire(engine: AsyncEngine, image: int) -> None:
    async with engine.begin() as connection:
        await connection.execute(
            text("UPDATE moderation SET review_until = now() - interval '1 second' WHERE image_id = :id"), {"id": image}
        )


async def test_the_gravest_first_and_the_same_one_again(engine: AsyncEngine, objects: ObjectStore) -> None:
    unseen, doubtful, safe, last = await processed(engine, objects, [{}, DOUBTFUL, SAFE, DOUBTFUL])
    first = await take(engine, "anna")
    again = await take(engine, "anna", 120.0)
    assert (first.image_id, again.image_id, again.token) == (doubtful, doubtful, first.token)
    assert again.until > first.until
    assert [(await take(engine, name)).image_id for name in ("boris", "vera")] == [last, unseen]
    assert await reviews.take(engine, "gleb", lease_s=60) is None
    await rule(engine, safe, Ruling(Verdict.REVIEW, "odd", "anna", severity=9))
    assert (await take(engine, "gleb")).image_id == safe


async def test_eight_reviewers_share_no_image(engine: AsyncEngine, objects: ObjectStore) -> None:
    ids = await processed(engine, objects, [DOUBTFUL] * 40)
    seen: list[int] = []

    async def work(reviewer: str) -> None:
        while (lease := await reviews.take(engine, reviewer, lease_s=60)) is not None:
            seen.append(lease.image_id)
            assert await rule(engine, lease.image_id, said(reviewer), lease=lease.token) == [lease.image_id]

    await asyncio.gather(*(work(f"reviewer {number}") for number in range(8)))
    assert sorted(seen) == ids
    async with engine.connect() as connection:
        rows = await connection.execute(
            text("SELECT image_id, count(*) FROM decision WHERE policy_id IS NULL GROUP BY 1 ORDER BY 1")
        )
        assert [tuple(row) for row in rows if row.image_id in ids] == [(one, 1) for one in ids]
        actors = await connection.scalar(
            text("SELECT count(DISTINCT actor) FROM audit WHERE action = 'image.decide' AND actor LIKE 'reviewer %'")
        )
    assert actors > 1, "they worked side by side"


async def test_calls_of_one_reviewer_at_the_same_moment_get_the_same(engine: AsyncEngine, objects: ObjectStore) -> None:
    await processed(engine, objects, [DOUBTFUL] * 3)
    leases = await asyncio.gather(*(take(engine, "anna") for _ in range(8)))
    assert len({(one.image_id, one.token) for one in leases}) == 1


async def test_a_lease_that_was_given_away_has_no_right(engine: AsyncEngine, objects: ObjectStore) -> None:
    (image,) = await processed(engine, objects, [DOUBTFUL])
    late = await take(engine, "anna", 30.0)
    await expire(engine, image)
    kept = await reviews.renew(engine, image, late.token, reviewer="anna", lease_s=60)
    assert kept.until > late.until, "over, but nobody else has it"
    await expire(engine, image)
    mine = await take(engine, "boris")
    assert mine.image_id == image and mine.token != late.token
    for reviewer, token in (("anna", late.token), ("anna", mine.token), ("boris", late.token), ("boris", uuid4())):
        for act in (
            reviews.renew(engine, image, token, reviewer=reviewer, lease_s=60),
            reviews.release(engine, image, token, reviewer=reviewer, rest_s=60),
            rule(engine, image, said(reviewer), lease=token),
        ):
            with pytest.raises(StaleClaim, match="is review by policy; nothing was changed"):
                await act
    assert len(await history(engine, image)) == 1
    await rule(engine, image, said("boris"), lease=mine.token)
    with pytest.raises(StaleClaim, match="it is block by boris"):
        await rule(engine, image, said("boris"), lease=mine.token)


async def test_an_image_given_back_comes_to_others_first(engine: AsyncEngine, objects: ObjectStore) -> None:
    grave, other = await processed(engine, objects, [DOUBTFUL, {}])
    lease = await take(engine, "anna")
    assert lease.image_id == grave
    await reviews.release(engine, grave, lease.token, reviewer="anna", rest_s=60)
    second = await take(engine, "anna")
    assert second.image_id == other
    assert (await take(engine, "boris")).image_id == grave
    await reviews.release(engine, other, second.token, reviewer="anna", rest_s=60)
    assert (await take(engine, "anna")).image_id == other, "nothing else waits"


async def test_a_lease_ends_when_the_image_leaves_the_queue(engine: AsyncEngine, objects: ObjectStore) -> None:
    decided, deleted, again = await processed(engine, objects, [DOUBTFUL] * 3)
    leases = {one: await take(engine, f"of {one}") for one in (decided, deleted, again)}
    assert {lease.image_id for lease in leases.values()} == set(leases)
    await rule(engine, decided, said("a moderator", Verdict.ALLOW))
    await remove(engine, objects, deleted, actor="test")
    await rule(engine, again, Ruling(Verdict.REVIEW, "for a senior", "a moderator"))
    for image, error in ((decided, StaleClaim), (deleted, NotFound), (again, StaleClaim)):
        for act in (
            rule(engine, image, said(f"of {image}"), lease=leases[image].token),
            reviews.renew(engine, image, leases[image].token, reviewer=f"of {image}", lease_s=60),
            reviews.release(engine, image, leases[image].token, reviewer=f"of {image}", rest_s=60),
            reviews.held_by(engine, image, f"of {image}"),
        ):
            with pytest.raises(error):
                await act
    await reverse(engine, decided, "look again", actor="a moderator")
    assert (await standing(engine, decided)).decision.verdict == "review"
    assert {(await take(engine, f"of {one}")).image_id for one in (deleted, again)} == {decided, again}


async def test_what_waits_is_counted_and_listed_in_pages(engine: AsyncEngine, objects: ObjectStore) -> None:
    unseen, first, second, third = await processed(engine, objects, [{}, DOUBTFUL, DOUBTFUL, DOUBTFUL])
    await take(engine, "anna")
    found = await reviews.groups(engine)
    assert [(one.severity, one.rule, one.waiting, one.leased) for one in found] == [
        (5, "possibly-unsafe-content", 3, 1), (3, "unseen", 1, 0),
    ]  # fmt: skip
    assert found[0].oldest == (await standing(engine, first)).since
    page = await reviews.listing(engine, limit=2)
    rest = await reviews.listing(engine, after=(page[-1].severity, page[-1].image_id), limit=9)
    assert [one.image_id for one in page + rest] == [first, second, third, unseen]
    assert [one.reviewer for one in page + rest] == ["anna", None, None, None]
    assert (rest[-1].name, rest[-1].reason) == ("a.png", "No content filter has seen this image")
    assert (await reviews.held_by(engine, first, "anna")).image_id == first
    with pytest.raises(StaleClaim):
        await reviews.held_by(engine, second, "anna")


_CLUSTER_DECISION = """
import asyncio, os, sys
from configs.policies import Verdict
from configs.settings import Settings
from storage.database import create_engine
from storage.human_decisions import Ruling, rule

engine = create_engine(Settings(database_url=os.environ["DSN"]), pool_size=1)
ruling = Ruling(Verdict.BLOCK, "seen", "anna", cause="review")
asyncio.run(rule(engine, int(sys.argv[1]), ruling, cluster=sys.argv[2]))
"""
_WAITS = text("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'advisory'")


async def test_a_decision_that_is_killed_in_the_middle_leaves_nothing(
    engine: AsyncEngine, objects: ObjectStore, alone: Settings
) -> None:
    """The audit is busy, so the decisions are written and not yet committed when their process is killed."""
    ids = await processed(engine, objects, [DOUBTFUL] * 3)
    for one, other in pairwise(ids):
        await linked(engine, one, other)
    lease = await take(engine, "anna")
    digest = (await cluster(engine, ids[0])).digest
    async with engine.begin() as busy:
        await record(busy, "test", "thing.do", "thing/1", {})
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", _CLUSTER_DECISION, str(ids[0]), digest, env={**os.environ, "DSN": database_dsn(alone)}
        )
        async with asyncio.timeout(60), reading(engine) as connection:
            while not await connection.scalar(_WAITS):
                assert process.returncode is None, "it has ended by itself"
                await asyncio.sleep(0.05)
        process.kill()
        assert await process.wait() == -signal.SIGKILL
    assert await rule(engine, ids[0], said("anna", Verdict.ALLOW), lease=lease.token) == [ids[0]]
    assert [one.verdict for one in await history(engine, ids[0])] == ["allow", "review"]
    assert [(await standing(engine, one)).decision.verdict for one in ids] == ["allow", "review", "review"]
    async with engine.connect() as connection:
        blocked = text("SELECT count(*) FROM decision WHERE verdict = 'block' AND image_id = ANY(:ids)")
        assert not await connection.scalar(blocked, {"ids": ids})
        logged = await connection.scalar(
            text("SELECT count(*) FROM audit WHERE actor = 'anna' AND subject = ANY(:subjects)"),
            {"subjects": [f"image/{one}" for one in ids]},
        )
    assert logged == 1
