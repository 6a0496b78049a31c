"""The uploads that a drill happens under, and the pictures that they are."""

import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from benchmarks.client import Client
from benchmarks.pictures import pictures

_REQUEST_S = 30.0
Item = tuple[str, bytes]


@dataclass(frozen=True)
class Batch:
    """Pictures of one drill: ``member`` is in a bank before it begins, one in the middle of ``load`` is a copy of it."""

    member: Item
    load: list[Item]

    @property
    def items(self) -> list[Item]:
        """All of them."""
        return [self.member, *self.load]

    @property
    def names(self) -> set[str]:
        """Of all."""
        return {name for name, _ in self.items}


def batches(folder: Path, sizes: list[int]) -> list[Batch]:
    """Photos and edited copies of them, so many for each drill; no picture is in two.

    Raises:
        ValueError: the folder has too few photos.
    """
    pairs = [(size + 1) // 2 for size in sizes]
    made = pictures(folder, 2 * sum(pairs))
    if len(made) < 2 * sum(pairs):
        raise ValueError(f"{folder} holds {len(made) // 2} photos, {sum(pairs)} are needed: take fewer --pictures")
    found = []
    for count in pairs:
        member, copy, *load = made[: 2 * count]
        made = made[2 * count :]
        load.insert(len(load) // 2, copy)
        found.append(Batch(member, load))
    return found


class Load:
    """Uploads by some clients at once, each repeated with its Idempotency-Key until it is accepted.

    Args:
        url, key: of the service.
        items: names and files.
        clients: threads.
    """

    def __init__(self, url: str, key: str, items: list[Item], clients: int) -> None:
        self._url, self._key = url, key
        self.size = len(items)
        self.accepted: dict[str, int] = {}
        self.troubles: list[str] = []
        self.refused: Counter[int] = Counter()
        self._changed = threading.Condition()
        self._pool = ThreadPoolExecutor(clients)
        self._local = threading.local()
        self._clients: list[Client] = []
        for item in items:
            self._pool.submit(self._upload, item)

    def through(self, url: str) -> None:
        """From the next upload on the service is reached at another address."""
        self._url = url

    def _client(self) -> Client:
        if getattr(self._local, "url", None) != self._url:
            self._local.url = self._url
            self._local.client = Client(self._url, self._key, timeout_s=_REQUEST_S)
            self._clients.append(self._local.client)
        found: Client = self._local.client
        return found

    def _upload(self, item: Item) -> None:
        name, data = item
        try:
            image, trouble = self._client().upload(name, data, key=f"drill-{name}"), ""
        except Exception as error:  # whatever a client meets is told
            image, trouble = 0, f"{name} was not accepted: {error}"
        with self._changed:
            if trouble:
                self.troubles.append(trouble)
            else:
                self.accepted[name] = image
            self._changed.notify_all()

    @property
    def over(self) -> bool:
        """Whether every upload has come to an end."""
        return len(self.accepted) + len(self.troubles) == self.size

    def wait(self, count: int, *, timeout_s: float = 300.0) -> None:
        """Returns when so many uploads have come to an end.

        Raises:
            TimeoutError: they have not.
        """
        end = time.monotonic() + timeout_s
        with self._changed:
            while len(self.accepted) + len(self.troubles) < count:
                if not self._changed.wait(max(0.0, end - time.monotonic())):
                    raise TimeoutError(
                        f"{len(self.accepted)} of {self.size} uploads were accepted in {timeout_s:.0f} s"
                    )

    def close(self) -> None:
        """Waits for the uploads under way, adds up what was refused."""
        self._pool.shutdown(cancel_futures=True)
        for client in self._clients:
            self.refused.update(client.refused)
            client.__exit__()
