"""Generations: every transition and every refusal, and which links are shown before and after each of them."""

import asyncio
import uuid
from collections import Counter

import pytest
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncEngine

from storage import claims, generations, images
from storage.claims import Outcome
from storage.errors import Conflict, NotFound
from storage.generations import _delete_links, abandon, begin, drop_previous, ensure_live, rollback, switch
from storage.links import Link
from storage.objects import ObjectStore
from tests.storage.test_claims import stored

LONG = {"lease_s": 60.0, "max_attempts": 3}


@pytest.fixture
def model() -> str:
    return f"model-{uuid.uuid4().hex}"


@pytest.fixture
async def live(engine: AsyncEngine, model: str) -> tuple[str, str]:
    """Name and old descriptor of a model that is live; both are of this test alone."""
    old = f"{model}@1"
    await ensure_live(engine, {model: old})
    return model, old


async def held(engine: AsyncEngine, model: str) -> dict[str, str]:
    return {one.state: one.descriptor for one in (await generations.generations(engine, model)).get(model, [])}


async def finished(
    engine: AsyncEngine, objects: ObjectStore, model: str, *links: tuple[int, str, str, float], written: set[str]
) -> int | None:
    """Uploads and finishes a picture with links (other, descriptor, relation, score); None if it was not finished."""
    (image,) = await stored(engine, objects, model)
    (claim,) = await claims.claim(engine, [model], 1, **LONG)
    found = [Link(other, kind, "m", score, 0.1, {"by": name}, name) for other, name, kind, score in links]
    done = await claims.finish(engine, [Outcome(claim, found, descriptors=frozenset(written))])
    if not done:
        await claims.release(engine, claim, "again", retry_delay_s=0, max_attempts=3, permanent=True)
    return image if image in done else None


async def shown(engine: AsyncEngine, image: int) -> list[tuple[int, str, str]]:
    return [(one.image_id, one.relation, one.evidence["by"]) for one in await images.matches(engine, image)]


async def link_counts(engine: AsyncEngine, model: str) -> Counter[str]:
    statement = text("SELECT descriptor FROM image_match JOIN image ON image.id = image_a WHERE model_name = :model")
    async with engine.connect() as connection:
        return Counter((await connection.execute(statement, {"model": model})).scalars())


async def audited(engine: AsyncEngine, model: str) -> list[tuple[str, str, dict[str, str]]]:
    statement = text("SELECT action, actor, detail FROM audit WHERE subject = :subject ORDER BY sequence")
    async with engine.connect() as connection:
        return [tuple(row) for row in (await connection.execute(statement, {"subject": f"model/{model}"})).all()]


async def test_the_way_of_a_descriptor_is_on_record(engine: AsyncEngine, live: tuple[str, str]) -> None:
    model, old = live
    new = f"{model}@2"
    await ensure_live(engine, {model: "other@9"})
    assert await held(engine, model) == {"live": old}, "what is live already stays"
    await begin(engine, model, new, actor="ann")
    assert await held(engine, model) == {"live": old, "building": new}
    await switch(engine, model, actor="bob")
    assert await held(engine, model) == {"live": new, "previous": old}
    await rollback(engine, model, actor="cid")
    assert await held(engine, model) == {"live": old, "previous": new}
    await rollback(engine, model, actor="cid")
    assert await held(engine, model) == {"live": new, "previous": old}
    assert await drop_previous(engine, model, actor="dan") == old
    assert await held(engine, model) == {"live": new}
    await begin(engine, model, old)
    assert await abandon(engine, model, actor="eve") == old
    assert await held(engine, model) == {"live": new}
    assert await audited(engine, model) == [
        ("generation.begin", "ann", {"building": new, "live": old}),
        ("generation.switch", "bob", {"live": new, "previous": old}),
        ("generation.rollback", "cid", {"live": old, "previous": new}),
        ("generation.rollback", "cid", {"live": new, "previous": old}),
        ("generation.drop_previous", "dan", {"dropped": old, "live": new}),
        ("generation.begin", "safeguard", {"building": old, "live": new}),
        ("generation.abandon", "eve", {"dropped": old, "live": new}),
    ]


async def test_the_live_one_comes_first_and_its_change_has_a_time(engine: AsyncEngine, live: tuple[str, str]) -> None:
    model, old = live
    await begin(engine, model, "aaa@1")
    first, second = (await generations.generations(engine))[model]
    assert (first.descriptor, second.descriptor) == (old, "aaa@1")
    await asyncio.sleep(0.1)  # a clock may be coarse
    await switch(engine, model)
    now = (await generations.generations(engine, model))[model]
    assert [one.descriptor for one in now] == ["aaa@1", old]
    assert all(one.changed_at > max(first.changed_at, second.changed_at) for one in now)
    assert await generations.generations(engine, "nobody") == {}


async def test_what_the_state_does_not_allow_is_refused(engine: AsyncEngine, live: tuple[str, str]) -> None:
    model, old = live
    before = await audited(engine, model)
    for step, message in ((switch, "no building"), (abandon, "no building"), (rollback, "no previous"),
                          (drop_previous, "no previous")):  # fmt: skip
        with pytest.raises(Conflict, match=message):
            await step(engine, model)
        with pytest.raises(NotFound, match="no live descriptor yet"):
            await step(engine, "nobody")
    with pytest.raises(NotFound, match="no live descriptor yet"):
        await begin(engine, "nobody", "x@1")
    with pytest.raises(Conflict, match="is the live descriptor"):
        await begin(engine, model, old)
    assert await audited(engine, model) == before
    await begin(engine, model, "b@1")
    with pytest.raises(Conflict, match=r"b@1 is being built .* already: switch to it, or abandon it"):
        await begin(engine, model, "c@1")
    with pytest.raises(Conflict, match="no previous"):
        await rollback(engine, model)
    await switch(engine, model)
    with pytest.raises(Conflict, match=f"previous descriptor .*{old}, is still kept: drop it, or roll back"):
        await begin(engine, model, "c@1")
    with pytest.raises(Conflict, match="no building"):
        await switch(engine, model)
    assert await held(engine, model) == {"live": "b@1", "previous": old}


async def test_of_two_at_the_same_moment_one_begins(engine: AsyncEngine, live: tuple[str, str]) -> None:
    model, old = live
    answers = await asyncio.gather(*(begin(engine, model, f"n{n}@1") for n in range(6)), return_exceptions=True)
    refused = [one for one in answers if isinstance(one, Conflict)]
    assert len(refused) == 5 and answers.count(None) == 1
    assert await held(engine, model) == {"live": old, "building": f"n{answers.index(None)}@1"}
    switched = await asyncio.gather(*(switch(engine, model) for _ in range(4)), return_exceptions=True)
    assert switched.count(None) == 1 and sum(isinstance(one, Conflict) for one in switched) == 3
    assert await held(engine, model) == {"live": f"n{answers.index(None)}@1", "previous": old}


async def test_the_table_itself_holds_at_most_two(engine: AsyncEngine, live: tuple[str, str]) -> None:
    model, _ = live
    await begin(engine, model, "b@1")
    for state in ("live", "building", "previous", "lost"):
        with pytest.raises(IntegrityError):
            async with engine.begin() as connection:
                await connection.execute(
                    text("INSERT INTO generation (model_name, state, descriptor) VALUES (:model, :state, 'c@1')"),
                    {"model": model, "state": state},
                )


async def test_links_are_those_of_the_live_descriptor(
    engine: AsyncEngine, objects: ObjectStore, live: tuple[str, str]
) -> None:
    model, old = live
    new = f"{model}@2"
    first = await finished(engine, objects, model, written={old})
    assert first
    second = await finished(engine, objects, model, (first, old, "copy", 0.9), written={old})
    twin = await finished(engine, objects, model, (first, "", "exact", 1.0), (first, old, "copy", 0.99), written={old})
    await begin(engine, model, new)
    third = await finished(
        engine, objects, model, (first, old, "semantic", 0.4), (first, new, "copy", 0.8), written={old, new}
    )
    fourth = await finished(engine, objects, model, (first, new, "copy", 0.7), written={old, new})
    before = [(twin, "exact", ""), (second, "copy", old), (third, "semantic", old)]
    after = [(twin, "exact", ""), (third, "copy", new), (fourth, "copy", new)]
    assert await shown(engine, first) == before
    assert await shown(engine, third or 0) == [(first, "semantic", old)] and await shown(engine, fourth or 0) == []
    await switch(engine, model)
    assert await shown(engine, first) == after
    assert await shown(engine, third or 0) == [(first, "copy", new)] and await shown(engine, second or 0) == []
    assert [other for other, _ in await images.related(engine, first)] == [twin, third, fourth]
    await rollback(engine, model)
    assert await shown(engine, first) == before
    await rollback(engine, model)
    assert await drop_previous(engine, model) == old
    assert await shown(engine, first) == after
    assert await link_counts(engine, model) == {"": 1, new: 2}


async def test_a_better_link_of_the_same_descriptor_wins(
    engine: AsyncEngine, objects: ObjectStore, live: tuple[str, str]
) -> None:
    model, old = live
    (first, second) = await stored(engine, objects, model, 2)
    one, other = await claims.claim(engine, [model], 2, **LONG)
    twice = [
        Link(second, "copy", "m", 0.5, 0.1, {"by": "5"}, old),
        Link(second, "copy", "m", 0.6, 0.1, {"by": "6"}, old),
    ]
    back = [Link(first, "copy", "m", 0.55, 0.1, {"by": "55"}, old)]
    written = frozenset({old})
    await claims.finish(engine, [Outcome(one, twice, descriptors=written)])
    await claims.finish(engine, [Outcome(other, back, descriptors=written)])
    assert await shown(engine, first) == [(second, "copy", "6")]
    assert await link_counts(engine, model) == {old: 1}


async def test_without_generations_all_links_are_shown(engine: AsyncEngine, objects: ObjectStore, model: str) -> None:
    first = await finished(engine, objects, model, written=set())
    second = await finished(engine, objects, model, (first or 0, "any@1", "copy", 0.9), written=set())
    assert await shown(engine, first or 0) == [(second, "copy", "any@1")]
    await ensure_live(engine, {model: "another@1"})
    assert await shown(engine, first or 0) == []


async def test_what_an_outside_worker_found_outlives_every_switch(
    engine: AsyncEngine, objects: ObjectStore, live: tuple[str, str]
) -> None:
    model, old = live
    first, second = await stored(engine, objects, model, 2)
    one, other = await claims.claim(engine, [model], 2, **LONG)
    await claims.deliver(engine, first, one.token, [second])
    await claims.finish(engine, [Outcome(other, descriptors=frozenset({old}))])
    await begin(engine, model, "b@1")
    await switch(engine, model)
    await drop_previous(engine, model)
    assert [found for found, _ in await images.related(engine, first)] == [second]


async def test_models_that_share_a_descriptor_switch_alone(
    engine: AsyncEngine, objects: ObjectStore, live: tuple[str, str]
) -> None:
    model, shared = live
    neighbour = f"{model}-b"
    await ensure_live(engine, {neighbour: shared})
    ours = [await finished(engine, objects, model, written={shared})]
    ours.append(await finished(engine, objects, model, (ours[0] or 0, shared, "copy", 0.9), written={shared}))
    theirs = await finished(engine, objects, neighbour, (ours[0] or 0, shared, "copy", 0.8), written={shared})
    last = await finished(engine, objects, neighbour, (theirs or 0, shared, "copy", 0.7), written={shared})
    await begin(engine, model, f"{model}@2")
    await switch(engine, model)
    assert await shown(engine, ours[1] or 0) == [], "the neighbour's live descriptor says nothing of our pictures"
    assert await shown(engine, last or 0) == [(theirs, "copy", shared)]
    assert await shown(engine, ours[0] or 0) == [(theirs, "copy", shared)]
    await drop_previous(engine, model)
    assert await link_counts(engine, model) == {shared: 1}, "of ours only the link with the neighbour stays"
    assert await shown(engine, last or 0) == [(theirs, "copy", shared)]


async def test_a_switch_and_a_rollback_have_all_images_judged_anew(engine: AsyncEngine, live: tuple[str, str]) -> None:
    model, old = live
    await begin(engine, model, f"{model}@2")
    statement = text("SELECT cause FROM look_back WHERE kind = 'judge' AND cause LIKE :model ORDER BY id")

    async def begun() -> list[str]:
        async with engine.connect() as connection:
            return list((await connection.execute(statement, {"model": f"%{model}"})).scalars())

    assert await begun() == []
    await switch(engine, model)
    await rollback(engine, model)
    assert await begun() == [f"{model}@2 is live for {model}", f"{old} is live for {model}"]


async def test_links_are_deleted_in_batches(engine: AsyncEngine, objects: ObjectStore, live: tuple[str, str]) -> None:
    model, old = live
    first = await finished(engine, objects, model, written={old})
    for _ in range(5):
        await finished(
            engine, objects, model, (first or 0, old, "copy", 0.9), (first or 0, "", "exact", 1.0), written={old}
        )
    async with engine.begin() as connection:
        await connection.execute(
            text("UPDATE image_match SET descriptor = 'orphan@1' WHERE descriptor = :old"), {"old": old}
        )
    await _delete_links(engine, "orphan@1", batch=2)
    assert await link_counts(engine, model) == {"": 5}


async def test_begin_clears_what_a_broken_off_attempt_left(
    engine: AsyncEngine, objects: ObjectStore, live: tuple[str, str]
) -> None:
    model, old = live
    new = f"{model}@2"
    await begin(engine, model, new)
    first = await finished(engine, objects, model, written={old, new})
    await finished(engine, objects, model, (first or 0, new, "copy", 0.9), written={old, new})
    async with engine.begin() as connection:  # as if abandon() had died after its first step
        await connection.execute(text("DELETE FROM generation WHERE descriptor = :new"), {"new": new})
    assert await link_counts(engine, model) == {new: 1}
    await begin(engine, model, new)
    assert await link_counts(engine, model) == {}


async def test_a_picture_that_lacks_a_descriptor_is_not_finished(
    engine: AsyncEngine, objects: ObjectStore, live: tuple[str, str]
) -> None:
    model, old = live
    new = f"{model}@2"
    first = await finished(engine, objects, model, written={old})
    await begin(engine, model, new)
    assert await finished(engine, objects, model, (first or 0, old, "copy", 0.9), written={old}) is None
    assert await shown(engine, first or 0) == [] and await link_counts(engine, model) == {}
    assert await finished(engine, objects, model, written={old, new})
    await abandon(engine, model)
    late = await finished(
        engine, objects, model, (first or 0, old, "copy", 0.9), (first or 0, new, "copy", 0.8), written={old, new}
    )
    assert late, "having more than is needed is no fault"
    assert await link_counts(engine, model) == {old: 1}, "but links of a dropped descriptor do not come back"


async def test_begin_and_finish_wait_for_one_another(
    engine: AsyncEngine, objects: ObjectStore, live: tuple[str, str]
) -> None:
    """No picture is PROCESSED after a begin without the new descriptor, however the two meet."""
    model, old = live
    async with engine.begin() as connection:
        assert await generations.hold(connection, [model]) == {model: {old}}
        beginning = asyncio.create_task(begin(engine, model, "b@1"))
        await asyncio.sleep(0.3)
        assert not beginning.done(), "a picture that is being finished holds the generations"
    await beginning
    (image,) = await stored(engine, objects, model)
    (claim,) = await claims.claim(engine, [model], 1, **LONG)
    await abandon(engine, model)
    async with generations._changing(engine, model) as (connection, _):
        finishing = asyncio.create_task(claims.finish(engine, [Outcome(claim, descriptors=frozenset({old}))]))
        await asyncio.sleep(0.3)
        assert not finishing.done()
        await connection.execute(
            text("INSERT INTO generation (model_name, state, descriptor) VALUES (:model, 'building', 'c@1')"),
            {"model": model},
        )
    assert await finishing == set(), "it sees what was committed while it waited"
    assert (await images.get(engine, image)).status == "PROCESSING"
