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


def _handed_out(scene: Scene, worker: Worker) -> list[Polled]:
    """Uploads of the worker's queue, all of them given to it, with what is going to be wrong with each."""
    kinds = scene.draw.permutation([kind for kind in _KINDS for _ in range(_EACH)]).tolist()
    with Client(scene.running.url, scene.running.key) as client:
        for number, data in enumerate(_pictures(scene.draw, len(kinds))):
            name = f"outside-{number}.jpg"
            scene.own[name] = client.upload(name, data, QUEUE, key=f"drill-{name}")
    given = _take(worker, set(scene.own.values()))
    ids = sorted(given)
    return [
        Polled(one, given[one], kind, [str(other) for other in scene.draw.permutation(ids)[:3] if other != one])
        for one, kind in zip(ids, kinds, strict=True)
    ]


def _while_leases_last(scene: Scene, worker: Worker, images: Sequence[Polled]) -> None:
    """With another picture's token, which changes nothing, and then with the right one; once, or many times at once."""
    for image in images:
        if image.kind == "another's token":
            token = next(one.url for one in images if one.id != image.id).partition("?")[2]
            status, _ = worker.deliver(image.id, f"{image.url.partition('?')[0]}?{token}", image.result)
            _expect(scene, f"another image's token for {image.id}", status, 409)
            image.answers = [worker.deliver(image.id, image.url, image.result)]
        elif image.kind in ("at once", "again later"):
            count = _AT_ONCE if image.kind == "at once" else 1
            image.answers = worker.at_once(image.id, [image.url] * count, image.result)


def _after_leases(scene: Scene, worker: Worker, images: Sequence[Polled]) -> None:
    """With tokens that are over, before and after the image was given to a worker again, and again with another result."""
    late = [one for one in images if one.kind in ("late", "old and new at once")]
    for image in late:
        _expect(scene, f"a late callback for {image.id}", worker.deliver(image.id, image.url, image.result)[0], 409)
    again = _take(worker, {one.id for one in late})
    for image in late:
        urls = [image.url, again[image.id]] * (_AT_ONCE // 2)
        if image.kind == "late":
            some = [worker.deliver(image.id, url, image.result) for url in urls]
        else:
            some = worker.at_once(image.id, urls, image.result)
        statuses = [status for status, _ in some]
        _expect(scene, f"old and new tokens for {image.id}", statuses, [409, 200] * (_AT_ONCE // 2))
        image.answers = [answer for answer in some if answer[0] == 200]
    for image in images:
        if image.kind == "again later":
            other = [str(one.id) for one in images if one.id != image.id and str(one.id) not in image.result][:1]
            image.answers.append(worker.deliver(image.id, image.url, other))


def _compare(scene: Scene, images: Sequence[Polled]) -> None:
    """Each result is stored as it came first, and every callback with the right token was answered alike."""
    with Client(scene.running.url, scene.running.key) as client:
        for image in images:
            stored = client.get(f"/image/{image.id}/processed")
            linked = {int(one) for one in image.result}
            linked |= {one.id for one in images if str(image.id) in one.result}
            _expect(scene, f"{image.kind}: the links of {image.id}", sorted(map(int, stored["result"])), sorted(linked))
            refused = [status for status, _ in image.answers if status != 200]
            _expect(scene, f"{image.kind}: callbacks refused for {image.id}", refused, [])


def _act(scene: Scene) -> None:
    worker = Worker(scene.running.url, scene.running.key)
    try:
        images, taken_at = _handed_out(scene, worker), time.monotonic()
        _while_leases_last(scene, worker, images)
        time.sleep(max(0.0, taken_at + scene.running.settings.worker_lease_s + 1.0 - time.monotonic()))
        scene.say(f"{len(images)} images were given to a worker; their leases are over")
        _after_leases(scene, worker, images)
        _compare(scene, images)
    finally:
        worker.close()


CALLBACKS = (
    Drill(
        "repeat-callbacks",
        "callbacks of outside workers come twice, late, at once, and with tokens that are over",
        _act,
    ),
)
