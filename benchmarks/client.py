"""A small client of the REST API for the demo and the measurements, as an outside engineer would write it."""

import itertools
import mimetypes
import time
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any, Self

import httpx

ATTEMPTS = 240
"""Tries of an upload that has an Idempotency-Key, a second apart: a restart of the whole service takes about 40 s."""


class Client:
    """One connection pool with one key.

    Args:
        url: of the service, without ``/api/v1``.
        key: API key.
        timeout_s: limit of each request.
    """

    def __init__(self, url: str, key: str, *, timeout_s: float = 60.0) -> None:
        self._http = httpx.Client(
            base_url=f"{url}/api/v1",
            headers={"Authorization": f"Bearer {key}"},
            timeout=timeout_s,
            limits=httpx.Limits(max_connections=32),
        )
        self.refused: Counter[int] = Counter()
        """Tries of uploads that had to be repeated, by the status of the answer; 0 where there was none."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def get(self, path: str, **parameters: Any) -> Any:
        """The JSON answer of a GET.

        Raises:
            httpx.HTTPStatusError: the status is an error.
        """
        return self._http.get(path, params=parameters).raise_for_status().json()

    def upload(self, name: str, data: bytes, model_name: str = "safeguard-v1", *, key: str | None = None) -> int:
        """Uploads a picture, again with the same Idempotency-Key where the service was not there; returns its id."""
        kind = mimetypes.guess_type(name)[0] or "application/octet-stream"
        headers = {"Idempotency-Key": key} if key else {}
        for attempt in range(ATTEMPTS):
            try:
                answer = self._http.post(
                    "/image",
                    data={"name": name, "model_name": model_name},
                    files={"file": (name, data, kind)},
                    headers=headers,
                )
                # While the service starts, what stands in front of it answers 404 by itself: not our problem+json.
                ours = answer.is_success or answer.headers.get("content-type", "").endswith("problem+json")
                if ours and answer.status_code < 500 and answer.status_code != 429:
                    return int(answer.raise_for_status().json()["id"])
                if key is None:
                    answer.raise_for_status()
                self.refused[answer.status_code] += 1
            except httpx.TransportError:
                if key is None:
                    raise
                self.refused[0] += 1
            if key is None or attempt == ATTEMPTS - 1:
                break
            time.sleep(1.0)
        raise RuntimeError(f"{name} could not be uploaded")

    def post(self, path: str, **members: Any) -> Any:
        """The JSON answer of a POST of a JSON object.

        Raises:
            httpx.HTTPStatusError: the status is an error.
        """
        return self._http.post(path, json=members).raise_for_status().json()

    def put(self, path: str, **members: Any) -> None:
        """A PUT of a JSON object.

        Raises:
            httpx.HTTPStatusError: the status is an error.
        """
        self._http.put(path, json=members).raise_for_status()

    def remove(self, path: str) -> None:
        """A DELETE.

        Raises:
            httpx.HTTPStatusError: the status is an error.
        """
        self._http.delete(path).raise_for_status()

    def until(self, path: str, done: Callable[[Any], bool], *, timeout_s: float = 60.0, pause_s: float = 0.5) -> Any:
        """The JSON answer of a GET as soon as ``done`` is true of it.

        Raises:
            TimeoutError: it is not after ``timeout_s`` seconds.
        """
        end = time.monotonic() + timeout_s
        while not done(found := self.get(path)):
            if time.monotonic() > end:
                raise TimeoutError(f"{path} is still {found}")
            time.sleep(pause_s)
        return found

    def delete(self, image_id: int) -> int:
        """Deletes an image; returns the status of the answer."""
        return self._http.delete(f"/image/{image_id}").status_code

    def search(self, name: str, data: bytes, *, k: int = 10) -> list[dict[str, Any]]:
        """Matches of a picture that is not stored, best first."""
        answer = self._http.post("/search", data={"k": str(k)}, files={"file": (name, data)})
        found: list[dict[str, Any]] = answer.raise_for_status().json()["matches"]
        return found

    def work_off(self, queue: str) -> int:
        """Delivers an empty result for each image that waits in a queue of outside workers; returns how many there were."""
        for done in itertools.count():
            claimed = self.get(f"/image/poll/{queue}")
            if "img_callback_url" not in claimed:
                return done
            self.post(claimed["img_callback_url"], result=[])
        raise AssertionError("a count has no end")

    def finished(self, ids: Iterable[int]) -> dict[int, str]:
        """Those of ``ids`` that have come to an end, with their status; asks for lists, not for each picture."""
        wanted = set(ids)
        first = min(wanted, default=1) - 1
        ended = {}
        for status in ("PROCESSED", "FAILED"):
            for row in self.get("/image/all", status=status, after=first):
                if row["id"] in wanted:
                    ended[row["id"]] = status
        return ended

    def wait(
        self, ids: Iterable[int], *, timeout_s: float = 600.0, pause_s: float = 1.0, progress: Any = None
    ) -> dict[int, str]:
        """Waits until all have come to an end.

        Args:
            pause_s: between two looks.
            progress: called with the number that have.
        Raises:
            TimeoutError: some have not after ``timeout_s`` seconds.
        """
        wanted = set(ids)
        end = time.monotonic() + timeout_s
        while True:
            try:
                ended = self.finished(wanted)
            except (httpx.TransportError, httpx.HTTPStatusError):
                ended = {}
            if progress is not None:
                progress(len(ended))
            if len(ended) == len(wanted):
                return ended
            if time.monotonic() > end:
                raise TimeoutError(f"{len(wanted) - len(ended)} of {len(wanted)} pictures did not come to an end")
            time.sleep(pause_s)
