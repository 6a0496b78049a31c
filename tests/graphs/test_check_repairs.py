"""Every damage is found exactly, and a repair makes the check silent again."""

import pytest

from graphs.check_vectors import Sizes
from storage import images
from tests.deployments.pipeline.conftest import claim_all, run_queue, state
from tests.graphs.checked import (
    SMALL,
    Damage,
    World,
    details_gone,
    engine,
    object_gone,
    objects,
    other_version,
    servers,
    stray_objects,
    vectors_gone,
    vectors_of_strangers,
    vectors_twice,
    world,
)
from tests.scores import content_scores

__all__ = ["engine", "objects", "servers", "world"]


DAMAGES = [
    object_gone, stray_objects, details_gone, vectors_gone, other_version, vectors_of_strangers, vectors_twice,
]  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
async def test_each_damage_is_found_and_repaired(world: World, damage: Damage) -> None:
    wanted = await damage(world)
    for sizes in (Sizes(), SMALL):
        report = await world.check(sizes=sizes)
        assert {kind: sorted(tally.examples) for kind, tally in report.found.items()} == {
            kind: sorted(examples) for kind, examples in wanted.items()
        }
        assert {kind: tally.count for kind, tally in report.found.items()} == {
            kind: len(examples) for kind, examples in wanted.items()
        }
        assert not report.clean
    before = {one.id for one in await world.execute("SELECT id FROM image")}
    repaired = await world.check(repair=True, sizes=SMALL)
    assert repaired.clean and repaired.total == sum(map(len, wanted.values()))
    assert await world.found() == {}, "what waits to be processed anew is no finding"
    await run_queue(world.processor)  # by the writer that was there before: it has not been shut out
    assert await world.found() == {}
    assert {one.id for one in await world.execute("SELECT id FROM image")} == before
    audited = await world.execute("SELECT DISTINCT actor FROM audit WHERE action <> 'image.decide'")
    assert [one.actor for one in audited] == ["safeguard check"]
    statuses = [one.status for one in await world.execute("SELECT status FROM image ORDER BY id")]
    failed = 1 if damage is object_gone else 0
    assert statuses.count("FAILED") == failed and statuses.count("PROCESSED") == len(before) - failed


async def test_a_missing_picture_fails_its_image_and_keeps_it(world: World) -> None:
    await object_gone(world)
    await world.check(repair=True)
    status, _, failure = await state(world.engine, world.pictures[1])
    assert (status, failure) == ("FAILED", "the stored picture is missing")
    (entry,) = await world.execute("SELECT action, subject, detail FROM audit WHERE action <> 'image.decide'")
    assert (entry.action, entry.subject) == ("image.fail", f"image/{world.ids[1]}")
    assert entry.detail["s3_path"] == world.pictures[1].s3_path


async def test_what_is_processed_anew_replaces_and_does_not_collide(world: World) -> None:
    engine, first, copy = world.engine, world.ids[0], world.ids[4]
    seen = await images.detections(engine, first)
    assert [one.label for one in seen] == ["person"] and await content_scores(engine, first)
    links = [(one.image_id, one.relation) for one in await images.matches(engine, first)]
    assert [image_id for image_id, _ in links] == [copy]
    await vectors_twice(world)
    await details_gone(world)
    await world.check(repair=True)
    assert await state(engine, world.pictures[0]) == ("UPLOADED", 1, None)
    assert await images.detections(engine, first) == [] and await content_scores(engine, first) == []
    (held,) = [one for one in await claim_all(world.processor) if one.image_id == first]
    assert held.attempt == 2, "the claim replaces the vectors that are there"
    await world.execute("UPDATE image SET status = 'UPLOADED', attempt = 1 WHERE status = 'PROCESSING'")
    await run_queue(world.processor)
    assert [one.label for one in await images.detections(engine, first)] == ["person"]
    assert len(await content_scores(engine, first)) == 1
    assert [(one.image_id, one.relation) for one in await images.matches(engine, first)] == links
    actions = {
        (one.action, one.subject)
        for one in await world.execute("SELECT action, subject FROM audit WHERE action <> 'image.decide'")
    }
    assert actions == {
        ("vectors.delete", f"image/{first}"), ("image.requeue", f"image/{first}"),
        ("vectors.delete", f"image/{copy}"), ("image.requeue", f"image/{copy}"),
        ("image.requeue", f"image/{world.ids[2]}"),
    }  # fmt: skip
    assert await world.found() == {}
