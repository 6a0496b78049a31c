"""The cluster of an image: copies of copies that hold now, cut at a limit, with a digest that sees every change."""

import json
from itertools import pairwise

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from storage import clusters
from storage.clusters import cluster
from storage.errors import Conflict, NotFound
from storage.objects import ObjectStore
from tests.filtering import SAFE, UNSAFE, linked, processed
from tests.storage.test_claims import stored


async def test_copies_of_copies_are_found_with_their_states(engine: AsyncEngine, objects: ObjectStore) -> None:
    first, second, third, similar, alone = await processed(engine, objects, [SAFE, UNSAFE, SAFE, SAFE, SAFE])
    (waiting,) = await stored(engine, objects, "nobody-processes-this")
    await linked(engine, first, second)
    await linked(engine, third, second, "exact")
    await linked(engine, first, similar, "semantic")
    await linked(engine, first, waiting)
    found = await cluster(engine, first)
    assert [(one.image_id, one.steps, one.verdict) for one in found.images] == [
        (first, 0, "allow"), (second, 1, "block"), (third, 2, "allow"),
    ]  # fmt: skip
    assert not found.cut
    other = await cluster(engine, third)
    assert [one.steps for one in other.images] == [0, 1, 2] and other.digest == found.digest
    assert [one.image_id for one in (await cluster(engine, alone)).images] == [alone]
    with pytest.raises(Conflict, match="UPLOADED"):
        await cluster(engine, waiting)
    with pytest.raises(NotFound):
        await cluster(engine, 10**18)


async def test_only_links_of_the_live_descriptor_count(engine: AsyncEngine, objects: ObjectStore) -> None:
    queue = "clusters-of-generations"
    first, second = await processed(engine, objects, [SAFE, SAFE], queue)
    async with engine.begin() as connection:
        await connection.execute(
            text("INSERT INTO generation (model_name, state, descriptor) VALUES (:queue, 'live', 'new@1')"),
            {"queue": queue},
        )
        statement = """INSERT INTO image_match (image_a, image_b, descriptor, relation, method, score, threshold, evidence)
                       VALUES (:a, :b, :descriptor, 'copy', 'pdq', 1, 1, '{}')"""
        await connection.execute(text(statement), {"a": first, "b": second, "descriptor": "old@1"})
    assert len((await cluster(engine, first)).images) == 1
    async with engine.begin() as connection:
        await connection.execute(text(statement), {"a": first, "b": second, "descriptor": "new@1"})
    assert len((await cluster(engine, first)).images) == 2


async def test_a_large_cluster_is_cut_at_the_nearest(engine: AsyncEngine) -> None:
    """A hub with more copies than are looked at, each of which is linked to the next one too."""
    count = clusters.MOST + 20
    async with engine.begin() as connection:
        rows = await connection.execute(
            text("""
            INSERT INTO image (name, status, model_name, s3_path, sha256, size_bytes, media_type, width, height, uploaded_at)
            SELECT 'x', 'PROCESSED', 'hub', 'images/none_' || gen_random_uuid(), sha256(int8send(n)), 1, 'image/png', 1, 1, now()
            FROM generate_series(1, :count) AS n RETURNING id"""),
            {"count": count},
        )
        ids = sorted(rows.scalars())
        pairs = [(ids[0], other) for other in ids[1:]] + list(pairwise(ids[1:]))
        await connection.execute(
            text("""
            INSERT INTO image_match (image_a, image_b, relation, method, score, threshold, evidence)
            SELECT (pair ->> 0)::bigint, (pair ->> 1)::bigint, 'copy', 'pdq', 1, 1, '{}'
            FROM jsonb_array_elements(CAST(:pairs AS jsonb)) AS pair"""),
            {"pairs": json.dumps(pairs)},
        )
    found = await cluster(engine, ids[0])
    assert found.cut and [one.image_id for one in found.images] == ids[: clusters.MOST]
    assert {one.steps for one in found.images} == {0, 1} and found.images[1].verdict is None
    last = await cluster(engine, ids[-1])
    assert last.cut and {one.steps for one in last.images} == {0, 1, 2}
    assert last.digest != found.digest
    async with engine.begin() as connection:
        await connection.execute(text("DELETE FROM image WHERE model_name = 'hub'"))
