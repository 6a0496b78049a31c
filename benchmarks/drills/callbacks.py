"""Callbacks of outside workers that come twice, late, at once, or with a token that is over."""

import io
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import httpx
import numpy as np
from PIL import Image

from benchmarks.client import Client
from benchmarks.drills.drill import Drill, Scene

QUEUE = "drill-outside"
_KINDS = ("at once", "again later", "late", "old and new at once", "another's token")
_EACH = 3
_AT_ONCE = 6
_TIMEOUT_S = 30.0


@dataclass
class Polled:
    """What a worker was given."""

    id: int
    url: str
    kind: str
    result: list[str]
    answers: list[tuple[int, Any]] = field(default_factory=list)


class Worker:
    """An outside worker, by the documented endpoints 4 to 6 alone.

    Args:
        url, key: of the service.
    """

    def __init__(self, url: str, key: str) -> None:
        self._http = httpx.Client(headers={"Authorization": f"Bearer {key}"}, timeout=_TIMEOUT_S)
        self._api = f"{url}/api/v1"

    def poll(self) -> tuple[int, str] | None:
        """An image's id and callback address; None where none is waiting."""
        answer = self._http.get(f"{self._api}/image/poll/{QUEUE}", params={"wait": 1}).raise_for_status().json()
        return (answer["id"], answer["img_callback_url"]) if "id" in answer else None

    def deliver(self, image: int, url: str, result: Sequence[str]) -> tuple[int, Any]:
        """One callback; status and JSON of the answer."""
        body = {"img_url": "", "return": "true" if result else "false", "id": str(image), "result": list(result)}
        answer = self._http.post(url, json=body)
        return answer.status_code, answer.json()

    def at_once(self, image: int, urls: Sequence[str], result: Sequence[str]) -> list[tuple[int, Any]]:
        """Callbacks that set out at the same moment; the answers in the order of ``urls``."""
        start = threading.Barrier(len(urls))

        def send(url: str) -> tuple[int, Any]:
            start.wait()
            return self.deliver(image, url, result)

        with ThreadPoolExecutor(len(urls)) as pool:
            return list(pool.map(send, urls))

    def close(self) -> None:
        """Frees connections."""
        self._http.close()


def _pictures(draw: np.random.Generator, count: int) -> list[bytes]:
    """Files of pictures of blocks, none like another."""
    files = []
    for _ in range(count):
        pixels = draw.integers(0, 256, (8, 8, 3), np.uint8).repeat(32, 0).repeat(32, 1)
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "JPEG")
        files.append(buffer.getvalue())
    return files


def _take(worker: Worker, wanted: set[int]) -> dict[int, str]:
    """Polls until all of some images were given."""
    given: dict[int, str] = {}
    end = time.monotonic() + 60
    while wanted - given.keys():
        if time.monotonic() > end:
            raise TimeoutError(f"{len(wanted - given.keys())} images were not given to a worker")
        if (polled := worker.poll()) is not None:
            given[polled[0]] = polled[1]
    return given


def _expect(scene: Scene, what: str, held: Any, wanted: Any) -> None:
    if held != wanted:
        scene.troubles.append(f"{what}: {held} for {wanted}")


def _deliver(scene: Scene, worker: Worker, lease_s: float) -> None:
    """Each kind of wrong callback for some images; every answer is compared with what the contract says."""
    kinds = scene.draw.permutation([kind for kind in _KINDS for _ in range(_EACH)]).tolist()
    with Client(scene.running.url, scene.running.key) as client:
        for number, data in enumerate(_pictures(scene.draw, len(kinds))):
            name = f"outside-{number}.jpg"
            scene.own[name] = client.upload(name, data, QUEUE, key=f"drill-{name}")
    given, taken_at = _take(worker, set(scene.own.values())), time.monotonic()
    ids = sorted(given)
    images = [
        Polled(one, given[one], kind, [str(other) for other in scene.draw.permutation(ids)[:3] if other != one])
        for one, kind in zip(ids, kinds, strict=True)
    ]
    for image in (one for one in images if one.kind == "another's token"):
        foreign = given[next(one for one in ids if one != image.id)].partition("?")[2]
        status, _ = worker.deliver(image.id, f"{image.url.partition('?')[0]}?{foreign}", image.result)
        _expect(scene, f"another image's token for {image.id}", status, 409)
        _expect(scene, f"the right token for {image.id}", worker.deliver(image.id, image.url, image.result)[0], 200)
    for image in (one for one in images if one.kind in ("at once", "again later")):
        count = _AT_ONCE if image.kind == "at once" else 1
        image.answers = worker.at_once(image.id, [image.url] * count, image.result)
    time.sleep(max(0.0, taken_at + lease_s + 1.0 - time.monotonic()))
    scene.say("the leases are over")
    late = [one for one in images if one.kind in ("late", "old and new at once")]
    for image in late:
        _expect(scene, f"a late callback for {image.id}", worker.deliver(image.id, image.url, image.result)[0], 409)
    again = _take(worker, {one.id for one in late})
    for image in late:
        urls = [image.url, again[image.id]] * (_AT_ONCE // 2)
        some = worker.at_once(image.id, urls, image.result) if image.kind != "late" else [
            worker.deliver(image.id, url, image.result) for url in urls
        ]  # fmt: skip
        _expect(
            scene, f"old and new tokens for {image.id}", [status for status, _ in some], [409, 200] * (_AT_ONCE // 2)
        )
        image.answers = [answer for answer in some if answer[0] == 200]
    for image in (one for one in images if one.kind == "again later"):  # after its lease, with another result
        image.answers.append(worker.deliver(image.id, image.url, [str(ids[0])] if image.id != ids[0] else []))
    with Client(scene.running.url, scene.running.key) as client:
        for image in images:
            stored = client.get(f"/image/{image.id}/processed")
            linked = {int(one) for one in image.result}
            linked |= {one.id for one in images if str(image.id) in one.result}
            _expect(scene, f"{image.kind}: the links of {image.id}", sorted(map(int, stored["result"])), sorted(linked))
            _expect(
                scene, f"{image.kind}: statuses for {image.id}", {status for status, _ in image.answers} - {200}, set()
            )


def _act(scene: Scene) -> None:
    worker = Worker(scene.running.url, scene.running.key)
    try:
        _deliver(scene, worker, scene.running.settings.worker_lease_s)
    finally:
        worker.close()


CALLBACKS = (
    Drill(
        "repeat-callbacks",
        "callbacks of outside workers come twice, late, at once, and with tokens that are over",
        _act,
    ),
)
