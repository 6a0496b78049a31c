"""Units are read: what is wrong with one object is its own failure; the others of its unit are described and kept."""

import dataclasses
import io
import time
from uuid import uuid4

import numpy as np
import pytest
from PIL import Image
from sqlalchemy.ext.asyncio import AsyncEngine

from configs.settings import Settings
from deployments.bulk import looks
from deployments.bulk.deadly import REASON
from deployments.bulk.describing import Describer
from deployments.bulk.reading import Reader
from deployments.bulk.work import BulkTask, UnitWork, packed, unpacked
from storage import job_trials
from storage.features import features_key
from storage.objects import ObjectStore
from tests.service.pictures import jpeg, photo

GOOD = {"a.jpg": jpeg(photo("astronaut.png")), "z.png": jpeg(photo("coffee.png"))}


def _huge() -> bytes:
    buffer = io.BytesIO()
    Image.new("1", (11_000, 11_000)).save(buffer, "PNG")
    return buffer.getvalue()


BAD = {
    "empty.jpg": (b"", "the object is empty"),
    "cut.jpg": (GOOD["a.jpg"][:3000], "damaged or cut short"),
    "film.mp4": (b"\0\0\0\x18ftypmp42" + bytes(500), "not an image of a kind that is read"),
    "pixels.png": (_huge(), "pixels are over the limit"),
}


async def unit(corpus: ObjectStore, files: dict[str, bytes]) -> UnitWork:
    for name, content in files.items():
        await corpus.put(f"x/{name}", content, "image/jpeg")
    paths = [corpus.address(f"x/{name}") for name in files]
    return UnitWork(
        3, list(range(100, 100 + len(files))), paths, ["e"] * len(files), [len(one) for one in files.values()]
    )


async def test_bad_objects_are_failures_of_their_own(task: BulkTask, corpus: ObjectStore) -> None:
    work = await unit(corpus, GOOD | {name: content for name, (content, _) in BAD.items()})
    found = await Reader(task).read(work)
    assert [one.path for one in found.pictures] == work.paths[:2]
    assert [one.image_id for one in found.pictures] == [100, 101]
    assert found.pictures[1].prepared.media_type == "image/jpeg", "by its bytes, not by its name"
    assert found.pictures[0].prepared.size == (512, 512)
    assert [one.path for one in found.failures] == work.paths[2:]
    for failure, (_, said) in zip(found.failures, BAD.values(), strict=True):
        assert said in failure.reason


async def test_what_cannot_be_read(task: BulkTask, corpus: ObjectStore, servers: Settings) -> None:
    work = await unit(corpus, {"a.jpg": GOOD["a.jpg"], "gone.jpg": b"x" * 10, "big.jpg": b"x" * 10})
    await corpus.delete("x/gone.jpg")
    listed = UnitWork(work.number, work.image_ids, work.paths, work.etags, [*work.sizes[:2], 5 * 2**30])
    begun = time.monotonic()
    found = await Reader(task).read(listed)
    assert time.monotonic() - begun < 20, "5 GB are not fetched"
    assert len(found.pictures) == 1
    assert [one.reason for one in found.failures] == [
        "the object vanished between listing and reading",
        f"{5 * 2**30} bytes are over the limit of {servers.max_upload_bytes}",
    ]


async def test_an_object_that_has_grown_since_it_was_listed(
    task: BulkTask, corpus: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = await unit(corpus, GOOD)
    monkeypatch.setenv("SAFEGUARD_MAX_UPLOAD_BYTES", "5000")
    found = await Reader(task).read(dataclasses.replace(work, sizes=[10, 10]))
    assert [one.reason for one in found.failures] == ["the object is over the limit of 5000 bytes"] * 2


async def test_a_key_that_leaves_no_room_for_that_of_its_details(task: BulkTask) -> None:
    path = "s3://corpus/" + "/".join(["x" * 200] * 5) + ".jpg"
    found = await Reader(task).read(UnitWork(0, [1], [path], ["e"], [10]))
    assert "key is too long" in found.failures[0].reason


async def test_a_unit_of_broken_objects_only(task: BulkTask, corpus: ObjectStore) -> None:
    work = await unit(corpus, {"empty.jpg": b"", "text.jpg": b"hello"})
    found = await Reader(task).read(work)
    assert found.pictures == [] and len(found.failures) == 2
    described = Describer(task).describe(found)
    assert described.outcome.images == [] and described.vectors == {}
    assert [one.image_id for one in described.outcome.failures] == work.image_ids


async def test_size_and_etag_are_asked_for_again_where_they_are_not_known(task: BulkTask, corpus: ObjectStore) -> None:
    work = await unit(corpus, {"a.jpg": GOOD["a.jpg"], "empty.jpg": b"", "gone.jpg": b"x"})
    await corpus.delete("x/gone.jpg")
    found = await Reader(task).read(dataclasses.replace(work, sizes=[-1, -1, -1], etags=["", "", ""]))
    assert len(found.pictures[0].etag) == 32
    assert [one.reason for one in found.failures] == [
        "the object is empty", "the object vanished between listing and reading",
    ]  # fmt: skip


async def test_a_picture_at_which_a_network_raises_is_its_own_failure(task: BulkTask, corpus: ObjectStore) -> None:
    work = await unit(corpus, GOOD)
    read, describer = await Reader(task).read(work), Describer(task)
    inner = describer._networks.embed
    poison = read.pictures[1].prepared.pixels.shape

    async def embed(descriptor, frames):
        if len(frames) and broken:
            raise RuntimeError("no")
        return await inner(descriptor, frames)

    looks_at = describer._looks

    async def watched(pictures):
        nonlocal broken
        broken = any(one.prepared.pixels.shape == poison for one in pictures)
        return await looks_at(pictures)

    broken = False
    describer._networks.embed = embed
    describer._looks = watched
    described = describer.describe(read)
    assert [one.path for one in described.outcome.images] == work.paths[:1]
    assert [one.path for one in described.outcome.failures] == work.paths[1:]
    assert "RuntimeError" in described.outcome.failures[0].reason


async def test_networks_that_are_broken_for_all_end_the_job(task: BulkTask, corpus: ObjectStore) -> None:
    read, describer = await Reader(task).read(await unit(corpus, GOOD)), Describer(task)

    async def embed(descriptor, frames):
        raise RuntimeError("all of it")

    describer._networks.embed = embed
    with pytest.raises(RuntimeError, match="all of it"):
        describer.describe(read)


async def test_reading_keeps_to_its_rate(task: BulkTask, corpus: ObjectStore) -> None:
    work = await unit(corpus, {f"{n}.jpg": b"no picture" for n in range(6)})
    slow = dataclasses.replace(task, reads_per_s=5.0)
    reader = Reader(slow)
    begun = time.monotonic()
    await reader.read(work)
    assert time.monotonic() - begun >= 5 / 5.0 - 0.05


async def test_what_was_seen_is_kept_before_anything_refers_to_it(
    task: BulkTask, corpus: ObjectStore, objects: ObjectStore
) -> None:
    work = await unit(corpus, GOOD)
    reader, describer = Reader(task), Describer(task)
    (described,) = unpacked(describer(reader(packed([work]))))
    assert [image.path for image in described.outcome.images] == work.paths
    assert "person" in {one.label for one in described.outcome.images[0].objects}
    assert 0 <= described.outcome.images[0].content_scores["opennsfw@1"] <= 1
    assert set(described.vectors) == {"pdq@1", "lite0-copy@2", "shape@2"}
    assert set(described.vectors["shape@2"].image_ids.tolist()) == {100, 101}
    kept = looks.from_bytes(await objects.get(task.looks_key(work.number)))
    assert [image_id for image_id, _ in kept] == [100, 101]
    assert kept[0][1].sha256 == described.outcome.images[0].sha256
    for path in work.paths:
        assert len(await objects.get(features_key(path))) > 9600
    assert np.allclose(np.linalg.norm(described.vectors["lite0-copy@2"].vectors, axis=1), 1, atol=1e-3)


@pytest.mark.parametrize("stage", ["reading", "describing"])
async def test_a_picture_that_killed_its_workers_is_a_failure_and_is_not_looked_at_again(
    task: BulkTask, corpus: ObjectStore, engine: AsyncEngine, stage: str
) -> None:
    work = await unit(corpus, GOOD)
    for first, size, deaths in ((0, 2, 3), (1, 1, 2)):
        part = job_trials.Part(task.job_id, work.number, stage, first, size)
        for _ in range(deaths + 1):
            await job_trials.begin(engine, part, task.token, uuid4())
    described = Describer(task).describe(await Reader(task).read(work))
    assert [(one.path, one.reason) for one in described.outcome.failures] == [(work.paths[1], REASON)]
    assert [one.path for one in described.outcome.images] == work.paths[:1]
    assert set(described.vectors["shape@2"].image_ids.tolist()) == {100}
