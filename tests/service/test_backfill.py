"""A corpus in S3 becomes images like uploaded ones, by a Ray job that can be killed, paused, cancelled and run again."""

import asyncio
import time
from collections.abc import Iterator
from uuid import uuid4

import httpx
import pytest

from benchmarks.backfill_faults import job_part
from benchmarks.client import Client
from graphs.check import check
from graphs.jobs import change, failed, follow, retry, show, start
from graphs.service import Running
from storage.errors import Conflict, NotFound
from storage.job_tables import Job, JobFailure, JobStatus
from storage.objects import ObjectStore
from tests.service.pictures import edited, jpeg, photo, variants

pytestmark = pytest.mark.service


class Corpus:
    """A bucket of its own."""

    def __init__(self, running: Running) -> None:
        self.name = f"corpus-{uuid4().hex[:12]}"
        self._running = running
        self._store = ObjectStore(running.settings.model_copy(update={"s3_bucket": self.name}))
        asyncio.run(self._store.ensure_buckets())

    def put(self, files: dict[str, bytes]) -> None:
        async def store() -> None:
            for key, content in files.items():
                await self._store.put(key, content, "image/jpeg")

        asyncio.run(store())

    def delete(self, key: str) -> None:
        asyncio.run(self._store.delete(key))

    def begin(self, prefix: str = "") -> Job:
        home = self._running.settings.home
        source = f"s3://{self.name}/{prefix}"
        return asyncio.run(
            start(home, source, model_name=None, cpus=2, gpus=0, reads_per_s=None, niceness=0, segment_units=2)
        )

    def end(self, job: Job, limit_s: float = 180) -> Job:
        assert job.id is not None
        home = self._running.settings.home
        return asyncio.run(asyncio.wait_for(follow(home, job.id, lambda _: None, pause_s=0.3), limit_s))

    def close(self) -> None:
        self._store.close()


@pytest.fixture
def corpus(service: Running) -> Iterator[Corpus]:
    made = Corpus(service)
    yield made
    made.close()


def why(service: Running, job: Job) -> list[JobFailure]:
    async def every() -> list[JobFailure]:
        assert job.id is not None
        return [one async for one in failed(service.settings.home, job.id)]

    return asyncio.run(every())


def images_of(client: Client, corpus: Corpus) -> dict[str, int]:
    """Ids of the corpus' PROCESSED images by key."""
    start = f"s3://{corpus.name}/"
    rows = client.get("/image/all", status="PROCESSED")
    return {row["s3_path"].removeprefix(start): row["id"] for row in rows if row["s3_path"].startswith(start)}


def test_every_object_becomes_an_image_like_an_uploaded_one(service: Running, client: Client, corpus: Corpus) -> None:
    uploaded = client.upload("rocket.jpg", jpeg(photo("rocket.jpg")))
    client.wait([uploaded], timeout_s=60)
    files = {
        "a/astronaut.jpg": jpeg(photo("astronaut.png")),
        "a/mirror.jpg": edited("astronaut.png", "mirror"),
        "a/b/ё пробел.jpg": edited("astronaut.png", "crop70"),
        "rocket.jpg": edited("rocket.jpg", "greyscale"),
        "coffee.jpg": jpeg(photo("coffee.png")),
    }
    bad = {"film.mp4": b"\0\0\0\x18ftypmp42" + bytes(99), "empty.jpg": b"", "cut.jpg": files["coffee.jpg"][:999]}
    corpus.put(files | bad)
    job = corpus.end(corpus.begin())
    assert (job.status, job.objects, job.done, job.failed) == (JobStatus.DONE, 8, 5, 3)
    assert {one.path.rpartition("/")[2] for one in why(service, job)} == set(bad)

    ids = images_of(client, corpus)
    assert set(ids) == set(files)
    astronaut = ids["a/astronaut.jpg"]
    assert client.get(f"/image/{astronaut}")["name"] == "astronaut.jpg"
    assert client.get(f"/image/{astronaut}/detections")[0]["label"] == "person"
    assert client.get(f"/image/{astronaut}/moderation")["verdict"] == "allow"
    linked = {int(other) for other in client.get(f"/image/{astronaut}/processed")["result"]}
    assert linked == {ids["a/mirror.jpg"], ids["a/b/ё пробел.jpg"]}
    assert client.get(f"/image/{uploaded}/return_images")[0]["id"] == ids["rocket.jpg"]
    found = client.search("q.jpg", edited("coffee.png", "blur"))
    assert found[0]["id"] == ids["coffee.jpg"]
    with httpx.Client(headers={"X-API-Key": service.key}) as http:
        address = http.get(f"{service.url}/api/v1/image/{ids['a/b/ё пробел.jpg']}/file").headers["location"]
        assert httpx.get(address).content == files["a/b/ё пробел.jpg"]
        assert http.delete(f"{service.url}/api/v1/image/{ids['coffee.jpg']}").status_code == 204
        assert ids["coffee.jpg"] not in [one["id"] for one in client.search("q.jpg", files["coffee.jpg"])]

    corpus.put({"coffee.jpg": jpeg(photo("chelsea.png")), "rocket.jpg": jpeg(photo("coins.png"))})
    again = corpus.end(corpus.begin())
    assert (again.status, again.skipped, again.done, again.failed) == (JobStatus.DONE, 3, 2, 3)
    now = images_of(client, corpus)
    assert now["rocket.jpg"] == ids["rocket.jpg"], "a changed object keeps its id"
    assert client.search("q.jpg", jpeg(photo("coins.png")))[0]["id"] == ids["rocket.jpg"]
    assert ids["rocket.jpg"] not in [one["id"] for one in client.get(f"/image/{uploaded}/return_images")]
    corpus.put({"film.mp4": jpeg(photo("camera.png"))})
    assert again.id is not None
    assert asyncio.run(retry(service.settings.home, again.id)) == 3
    assert (last := corpus.end(again)).done == 3 and last.failed == 2
    assert check(service.settings.home, repair=False, grace_s=None).clean


def test_a_killed_job_goes_on_and_a_paused_and_a_cancelled_one_too(
    service: Running, client: Client, corpus: Corpus
) -> None:
    home = service.settings.home
    corpus.put({f"{n:03}.jpg": content for n, content in enumerate(variants(96))})
    job = corpus.begin()
    assert job.id is not None
    end = time.monotonic() + 240
    while not asyncio.run(show(home, job.id)).indexed:
        assert time.monotonic() < end
        time.sleep(0.2)
    runner = job_part(home, "job's runner")
    assert runner is not None
    runner.kill()
    with pytest.raises(Conflict, match=f"job {job.id} "):
        asyncio.run(start(home, f"s3://{corpus.name}/0", model_name=None, cpus=1, gpus=0, reads_per_s=None,
                          niceness=0, segment_units=2))  # fmt: skip
    assert corpus.begin().id == job.id, "the same call goes on with the same job"
    while (seen := asyncio.run(show(home, job.id))).runner_until is None or not seen.done:
        assert time.monotonic() < end
        time.sleep(0.2)
    asyncio.run(change(home, job.id, JobStatus.PAUSED))
    while asyncio.run(show(home, job.id)).runner is not None:
        assert time.monotonic() < end
        time.sleep(0.2)
    paused = asyncio.run(show(home, job.id))
    assert paused.status == JobStatus.PAUSED and paused.done < 96
    asyncio.run(change(home, job.id, JobStatus.WAITING))
    ended = corpus.end(job)
    assert (ended.status, ended.done, ended.failed) == (JobStatus.DONE, 96, 0)
    assert len(images_of(client, corpus)) == 96
    assert check(home, repair=False, grace_s=None).clean

    corpus.put({f"more/{n:03}.jpg": content[:-2] for n, content in enumerate(variants(96))})
    second = corpus.begin("more/")
    assert second.id is not None
    while not asyncio.run(show(home, second.id)).indexed:
        time.sleep(0.2)
    asyncio.run(change(home, second.id, JobStatus.CANCELLING))
    ended = corpus.end(second)
    assert ended.status == JobStatus.CANCELLED
    assert len(images_of(client, corpus)) == 96 + ended.done
    assert client.get("/image/all", status="PROCESSING") == []
    assert check(home, repair=False, grace_s=None).clean


def test_bad_input(service: Running, corpus: Corpus) -> None:
    with pytest.raises(NotFound, match="no objects under"):
        corpus.begin("nothing/")
    corpus.put({"a.jpg": jpeg(photo("coins.png"))})
    home = service.settings.home
    job = asyncio.run(
        start(
            home,
            f"s3://{corpus.name}/",
            model_name=None,
            cpus=5000,
            gpus=0,
            reads_per_s=None,
            niceness=0,
            segment_units=1,
        )
    )
    ended = corpus.end(job)
    assert ended.status == JobStatus.FAILED
    assert ended.message is not None and "5000 CPUs" in ended.message
    assert corpus.end(corpus.begin()).done == 1, "with less it is the same job that goes on"
