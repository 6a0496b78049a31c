"""Another descriptor is built beside the live one, switched to, rolled back and dropped; searches go on, links follow."""

import asyncio
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmarks.client import Client
from benchmarks.reindex import OTHER
from configs.models import ModelsFileError
from graphs import reindex
from graphs.check import check
from graphs.jobs import follow
from graphs.service import Running
from storage.errors import Conflict
from storage.job_tables import Job, JobStatus
from tests.service.pictures import edited, jpeg, photo

pytestmark = pytest.mark.service
OWN = "lite0-copy@2"
EDITS = ("mirror", "crop70", "greyscale")


class Searching:
    """A client that searches all the time and keeps what went wrong and which descriptors answered."""

    def __init__(self, service: Running) -> None:
        self.failures: list[Exception] = []
        self.answers: list[frozenset[str]] = []
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(service,))
        self._thread.start()

    def _run(self, service: Running) -> None:
        query = edited("chelsea.png", "quarter_turn")
        with Client(service.url, service.key) as client:
            while not self._end.is_set():
                try:
                    self.answers.append(descriptors_of(client.search("q.jpg", query)))
                except Exception as error:
                    self.failures.append(error)

    def wait_for(self, descriptor: str, limit_s: float = 30.0) -> None:
        """Until an answer that begins from now on comes from a descriptor."""
        seen, end = len(self.answers) + 1, time.monotonic() + limit_s
        while not any(descriptor in one for one in self.answers[seen:]):
            assert time.monotonic() < end, f"no answer by {descriptor}"
            time.sleep(0.1)

    def close(self) -> None:
        self._end.set()
        self._thread.join()


def descriptors_of(found: list[dict[str, Any]]) -> frozenset[str]:
    return frozenset(one["evidence"]["descriptor"]["name"] for one in found if "descriptor" in one["evidence"])


@pytest.fixture
def searching(service: Running) -> Iterator[Searching]:
    made = Searching(service)
    yield made
    made.close()


def build(home: Path) -> Job:
    job = asyncio.run(reindex.start(home, OTHER, model_name=None, cpus=2, gpus=0, niceness=0, segment_units=1024))
    assert job.id is not None
    return asyncio.run(asyncio.wait_for(follow(home, job.id, lambda _: None, pause_s=0.3), 300))


def shown(client: Client, image: int) -> dict[int, str]:
    """Ids of the matches that the descriptor has evidence for, with its name."""
    rows = client.get(f"/image/{image}/matches")
    return {row["id"]: row["evidence"]["descriptor"]["name"] for row in rows if "descriptor" in row["evidence"]}


def test_building_switching_going_back(service: Running, emptied: Client, searching: Searching) -> None:
    home, client = service.settings.home, emptied
    first = client.upload("chelsea.png", jpeg(photo("chelsea.png"), 91))
    copies = [client.upload(f"{edit}.jpg", edited("chelsea.png", edit, seed=9)) for edit in EDITS]
    client.wait([first, *copies], timeout_s=90)
    before = shown(client, first)
    assert set(copies) <= set(before) and set(before.values()) == {OWN}
    with pytest.raises(Conflict, match="no building"):
        asyncio.run(reindex.switch(home, None))

    job = build(home)
    assert (job.status, job.failed) == (JobStatus.DONE, 0), job.message
    later = client.upload("blur.jpg", edited("chelsea.png", "blur", seed=9))
    client.wait([later], timeout_s=90)
    found = asyncio.run(reindex.compare(home, None))
    assert (found.live, found.other, found.recall) == (OWN, OTHER, None)
    assert found.links.both >= 0.9 * max(found.links.live, found.links.other) > 0
    assert set(shown(client, first).values()) == {OWN}
    assert check(home, repair=False, grace_s=None).clean
    (model,) = [one for one in client.get("/models")["models"] if one["name"] == "safeguard-v1"]
    assert {(one["descriptor"], one["state"]) for one in model["generations"]} == {(OWN, "live"), (OTHER, "building")}
    with pytest.raises(Conflict, match="being built"):
        build(home)

    assert asyncio.run(reindex.switch(home, None)) == OTHER
    searching.wait_for(OTHER)
    after = shown(client, first)
    assert {later, *copies} <= set(after) and set(after.values()) == {OTHER}
    assert asyncio.run(reindex.rollback(home, None)) == OWN
    searching.wait_for(OWN)
    assert set(shown(client, first).values()) == {OWN}
    assert later in shown(client, first), "uploads are written with both"
    last = client.upload("meme.jpg", edited("chelsea.png", "meme", seed=9))
    client.wait([last], timeout_s=90)
    assert asyncio.run(reindex.rollback(home, None)) == OTHER
    assert shown(client, first).get(last) == OTHER
    asyncio.run(reindex.rollback(home, None))
    assert asyncio.run(reindex.drop(home, None, building=False)) == OTHER
    assert set(shown(client, first).values()) == {OWN}
    assert check(home, repair=False, grace_s=None).clean

    assert searching.failures == []
    assert {len(one) for one in searching.answers} <= {0, 1}, "no answer mixes two descriptors"
    assert {name for one in searching.answers for name in one} == {OWN, OTHER}


def test_bad_input(service: Running) -> None:
    home = service.settings.home
    options = {"cpus": 1, "gpus": 0, "niceness": 0, "segment_units": 1}
    with pytest.raises(ModelsFileError, match="lite0-copy@3"):
        asyncio.run(reindex.start(home, "nothing@1", model_name=None, **options))
    with pytest.raises(Conflict, match="live"):
        asyncio.run(reindex.start(home, OWN, model_name=None, **options))
    for call in (reindex.rollback, reindex.compare):
        with pytest.raises(Conflict):
            asyncio.run(call(home, None))
