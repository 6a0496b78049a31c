"""A person's decision beats policy and look-back until it is reversed; a cluster is decided on whole, or not at all."""

import asyncio
from itertools import pairwise
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from configs.policies import Verdict
from storage.bank_changes import change_banks, hold_banks
from storage.clusters import cluster
from storage.decisions import decide
from storage.errors import Conflict, InvalidInput, NotFound
from storage.human_decisions import Ruling, reverse, rule
from storage.moderation import history, standing
from storage.objects import ObjectStore
from storage.uploads import remove
from tests.banks import bank, member
from tests.filtering import SAFE, UNSAFE, linked, processed
from tests.storage.test_claims import stored

ALLOW = Ruling(Verdict.ALLOW, "news report", "anna")
BLOCK = Ruling(Verdict.BLOCK, "инструкция \U0001f4a3", "boris")


async def seen(engine: AsyncEngine, image: int) -> tuple[str, str, bool]:
    held = await standing(engine, image)
    return held.decision.verdict, held.decision.actor, held.by_person


async def audited(engine: AsyncEngine, image: int) -> list[tuple[Any, ...]]:
    statement = "SELECT actor, action, detail ->> 'verdict', detail ->> 'reason' FROM audit WHERE subject = :subject"
    async with engine.connect() as connection:
        rows = await connection.execute(text(f"{statement} ORDER BY sequence"), {"subject": f"image/{image}"})
        return [tuple(row) for row in rows]


async def events(engine: AsyncEngine, image: int) -> list[tuple[Any, ...]]:
    statement = "SELECT data ->> 'verdict', data ->> 'previous', data ->> 'actor', data ->> 'cause' FROM event"
    async with engine.connect() as connection:
        where = "WHERE image_id = :id AND type = 'image.decided' ORDER BY id"
        return [tuple(row) for row in await connection.execute(text(f"{statement} {where}"), {"id": image})]


async def test_a_person_beats_the_policy_until_reversed(engine: AsyncEngine, objects: ObjectStore) -> None:
    (image,) = await processed(engine, objects, [UNSAFE])
    assert await rule(engine, image, ALLOW) == [image]
    assert await rule(engine, image, ALLOW) == [image], "a repeat is no error"
    assert await seen(engine, image) == ("allow", "anna", True)
    async with engine.begin() as connection:
        await change_banks(connection, hashes=False)
        await member(connection, await bank(connection), image_id=image)
    async with engine.begin() as connection:
        await hold_banks(connection, None)
        assert await decide(connection, [image], cause="look-back 1") == []
    assert await seen(engine, image) == ("allow", "anna", True)
    assert await reverse(engine, image, "a mistake", actor="boris") == [image]
    assert await seen(engine, image) == ("block", "policy", False)
    decided = [(one.verdict, one.previous, one.actor, one.cause) for one in reversed(await history(engine, image))]
    assert decided == [
        ("block", None, "policy", "processed"),
        ("allow", "block", "anna", "moderator"),
        ("block", "allow", "policy", "reversal"),
    ]
    assert await events(engine, image) == [(one[0], one[1], one[2], one[3]) for one in decided]
    log = await audited(engine, image)
    assert log[-3:] == [
        ("anna", "image.decide", "allow", "news report"),
        ("policy", "image.decide", "block", "A copy of a picture in a bank of unacceptable ones"),
        ("boris", "image.reverse", None, "a mistake"),
    ]
    with pytest.raises(Conflict, match="no person has decided"):
        await reverse(engine, image, "again", actor="boris")


async def test_the_severity_of_a_persons_decision(engine: AsyncEngine, objects: ObjectStore) -> None:
    safe, unsafe = await processed(engine, objects, [SAFE, UNSAFE])
    review = Ruling(Verdict.REVIEW, "a second look", "anna")
    for image, ruling, expected in (
        (safe, review, 5), (unsafe, review, 8), (unsafe, ALLOW, 0),
        (safe, Ruling(Verdict.REVIEW, "urgent", "anna", severity=10), 10),
    ):  # fmt: skip
        await rule(engine, image, ruling)
        assert (await standing(engine, image)).decision.severity == expected


async def test_a_cluster_is_decided_and_reversed_whole(engine: AsyncEngine, objects: ObjectStore) -> None:
    first, second, third, _ = ids = await processed(engine, objects, [SAFE, SAFE, UNSAFE, SAFE])
    await linked(engine, first, second)
    await linked(engine, second, third)
    seen_by_person = await cluster(engine, first)
    assert await rule(engine, first, BLOCK, cluster=seen_by_person.digest) == [first, second, third]
    assert [await seen(engine, one) for one in ids] == [("block", "boris", True)] * 3 + [("allow", "policy", False)]
    cause = f"cluster of image {first}"
    assert [(await history(engine, one))[0].cause for one in (first, second, third)] == [cause] * 3
    for one in (first, second, third):
        assert (await audited(engine, one))[-1] == ("boris", "image.decide", "block", BLOCK.reason)
    with pytest.raises(Conflict, match="not what it was"):
        await rule(engine, first, ALLOW, cluster=seen_by_person.digest)
    again = await cluster(engine, second)
    assert {one.by_person for one in again.images} == {True}
    assert set(await reverse(engine, second, "wrong", actor="anna", cluster=again.digest)) == {first, second, third}
    assert [(await seen(engine, one))[0] for one in ids] == ["allow", "allow", "block", "allow"]
    with pytest.raises(Conflict, match="the cluster of image"):
        await reverse(engine, second, "wrong", actor="anna", cluster=(await cluster(engine, second)).digest)


@pytest.mark.parametrize("change", ["grown", "decided", "deleted"])
async def test_a_cluster_that_has_changed_is_left_alone(engine: AsyncEngine, objects: ObjectStore, change: str) -> None:
    first, second, third = await processed(engine, objects, [SAFE, SAFE, SAFE])
    await linked(engine, first, second)
    digest = (await cluster(engine, first)).digest
    if change == "grown":
        await linked(engine, second, third)
    elif change == "decided":
        await rule(engine, second, ALLOW)
    else:
        await remove(engine, objects, second, actor="test")
    before = len(await history(engine, first)), len(await history(engine, second))
    with pytest.raises(Conflict, match="not what it was"):
        await rule(engine, first, BLOCK, cluster=digest)
    assert (len(await history(engine, first)), len(await history(engine, second))) == before
    assert await seen(engine, first) == ("allow", "policy", False)


async def test_people_and_the_policy_at_the_same_moment(engine: AsyncEngine, objects: ObjectStore) -> None:
    """Clusters that overlap, single decisions and a look-back: no deadlock, and at the end a person's decision holds."""
    ids = await processed(engine, objects, [SAFE] * 6)
    for one, other in pairwise(ids):
        await linked(engine, one, other)

    async def whole(image: int, ruling: Ruling) -> None:
        for _ in range(20):
            try:
                await rule(engine, image, ruling, cluster=(await cluster(engine, image)).digest)
                return
            except Conflict:
                continue
        raise AssertionError("the cluster never stood still")

    async def look_back() -> None:
        async with engine.begin() as connection:
            await hold_banks(connection, None)
            await decide(connection, list(reversed(ids)), cause="look-back 2")

    await asyncio.gather(
        whole(ids[0], BLOCK), whole(ids[-1], ALLOW), *(look_back() for _ in range(3)),
        *(rule(engine, one, Ruling(Verdict.BLOCK, "one", "vera")) for one in ids[2:4]),
    )  # fmt: skip
    for one in ids:
        made = list(reversed(await history(engine, one)))
        assert [late.previous for late in made] == [None, *(early.verdict for early in made[:-1])]
        assert (await seen(engine, one)) == (made[-1].verdict, made[-1].actor, True)


async def test_what_cannot_be_decided(engine: AsyncEngine, objects: ObjectStore) -> None:
    (waiting,) = await stored(engine, objects, "nobody-processes-this")
    (image,) = await processed(engine, objects, [SAFE])
    for reason in ("", " \n\t", "x" * 1001, "a\0b", "\ud800"):
        with pytest.raises(InvalidInput) as error:
            await rule(engine, image, Ruling(Verdict.BLOCK, reason, "anna"))
        assert error.value.field == "reason"
        with pytest.raises(InvalidInput):
            await reverse(engine, image, reason, actor="anna")
    with pytest.raises(InvalidInput, match="0 to 10"):
        await rule(engine, image, Ruling(Verdict.BLOCK, "r", "anna", severity=11))
    for act in (rule(engine, waiting, BLOCK), reverse(engine, waiting, "r", actor="anna")):
        with pytest.raises(Conflict, match="UPLOADED"):
            await act
    await remove(engine, objects, image, actor="test")
    for gone in (image, 10**18):
        for act in (rule(engine, gone, BLOCK), reverse(engine, gone, "r", actor="anna")):
            with pytest.raises(NotFound):
                await act
    assert [one.verdict for one in await history(engine, image)] == ["allow"], "decisions outlive the image"
