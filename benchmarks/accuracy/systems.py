"""What is measured beside each other: perceptual hashes, the descriptor alone, the cascade, the running service."""

import io
import shutil
import sys
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Protocol, Self

import imagehash
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from benchmarks.accuracy.dataset import Query, Stored
from benchmarks.accuracy.fastdup import Fastdup
from benchmarks.client import Client
from benchmarks.local import LocalCascade
from configs.models import load_models
from configs.settings import Settings
from deployments.pipeline.confidence import confidence
from deployments.pipeline.look import Look
from deployments.vision.pdq import hamming, pdq_hashes
from graphs.service import down, up

KEPT = 10
"""Predictions kept of a query."""
Answer = list[tuple[int, float]]
"""Numbers of stored pictures with a score that ranks, best first."""


class System(Protocol):
    """Something that finds copies."""

    @property
    def name(self) -> str:
        """As tables show it."""

    @property
    def threshold(self) -> float | None:
        """The score from which its makers or we call a pair a copy; None where there is none."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: object) -> None: ...

    def add(self, stored: Sequence[Stored]) -> None:
        """Takes the stored pictures in, once."""

    def ask(self, queries: Sequence[Query]) -> list[Answer]:
        """An answer for each query."""


class _InProcess:
    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        return None


def _best(scores: NDArray[np.floating]) -> Answer:
    near = np.argsort(-scores, kind="stable")[:KEPT]
    return [(int(number), float(scores[number])) for number in near]


def _pixels(data: bytes) -> NDArray[np.uint8]:
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


class Pdq(_InProcess):
    """PDQ (Davis & Rosen 2019), 256 bits; a match at 31 bits or less. With ``orientations`` the query is turned and mirrored."""

    def __init__(self, orientations: bool) -> None:
        self.name = "PDQ, 8 orientations" if orientations else "PDQ"
        self.threshold = 1 - 31 / 256
        self._rows = 8 if orientations else 1

    def add(self, stored: Sequence[Stored]) -> None:
        """See ``System.add``."""
        self._held = np.stack([pdq_hashes(_pixels(one.data))[0][0] for one in stored])

    def ask(self, queries: Sequence[Query]) -> list[Answer]:
        """See ``System.ask``."""
        hashes = (pdq_hashes(_pixels(query.data))[0][: self._rows] for query in queries)
        return [_best(1 - hamming(rows[:, None], self._held[None]).min(axis=0) / 256) for rows in hashes]


class PHash(_InProcess):
    """pHash of ``imagehash``, 64 bits; a match at 10 bits or less (imagededup's default)."""

    name, threshold = "pHash", 1 - 10 / 64

    def add(self, stored: Sequence[Stored]) -> None:
        """See ``System.add``."""
        self._held = np.stack([self._bits(one.data) for one in stored])

    def ask(self, queries: Sequence[Query]) -> list[Answer]:
        """See ``System.ask``."""
        return [_best((self._bits(query.data)[None] == self._held).mean(axis=1)) for query in queries]

    @staticmethod
    def _bits(data: bytes) -> NDArray[np.bool_]:
        return np.asarray(imagehash.phash(Image.open(io.BytesIO(data))).hash, bool).ravel()


class DescriptorAlone(_InProcess):
    """The descriptor of the default model, whole picture against whole picture."""

    name, threshold = "descriptor alone", None

    def __init__(self, settings: Settings) -> None:
        registry = load_models(settings.models_file)
        model = registry[registry.default]
        plain = {"views": False, "shape": None, "verified": 0, "max_regions": 0}
        self._cascade = LocalCascade(model.model_copy(update=plain), settings)

    def _vectors(self, files: Sequence[bytes]) -> NDArray[np.float32]:
        looks = [look for start in range(0, len(files), 8) for look in self._cascade.look(files[start : start + 8])]
        spec = self._cascade.model.descriptor
        empty = np.zeros(spec.dim, np.float32)
        return np.stack([look.vectors[spec.name][0] if isinstance(look, Look) else empty for look in looks])

    def add(self, stored: Sequence[Stored]) -> None:
        """See ``System.add``."""
        self._held = self._vectors([one.data for one in stored])

    def ask(self, queries: Sequence[Query]) -> list[Answer]:
        """See ``System.ask``."""
        return [_best(row) for row in self._vectors([query.data for query in queries]) @ self._held.T]


class Cascade(_InProcess):
    """The whole cascade of the default model in this process, without servers."""

    name = "cascade, in process"

    def __init__(self, settings: Settings) -> None:
        registry = load_models(settings.models_file)
        self._model = registry[registry.default]
        self.threshold: float | None = self._model.thresholds.copy_confidence
        self._cascade = LocalCascade(self._model, settings)

    def add(self, stored: Sequence[Stored]) -> None:
        """See ``System.add``."""
        for start in range(0, len(stored), 8):
            looks = self._cascade.look([one.data for one in stored[start : start + 8]])
            self._cascade.add([(start + place, one) for place, one in enumerate(looks) if isinstance(one, Look)])

    def ask(self, queries: Sequence[Query]) -> list[Answer]:
        """See ``System.ask``."""
        return [self._answer(look) for query in queries for look in self._cascade.look([query.data])]

    def _answer(self, look: object) -> Answer:
        if not isinstance(look, Look):
            return []
        scored = [(one.image_id, confidence(one.scores, self._model.fusion)) for one in self._cascade.candidates(look)]
        return sorted(scored, key=lambda pair: -pair[1])[:KEPT]


def service_score(match: dict[str, object]) -> float:
    """One scale for all relations: exact above copy above semantic, by score within each."""
    rank = {"exact": 2.0, "copy": 1.0, "semantic": 0.0}[str(match["kind"])]
    return rank + float(str(match["score"]))


class Service:
    """The whole cascade through REST: a service of its own, brought up in a folder that is removed afterwards."""

    name = "SafeGuard, through the service"
    clients = 4

    def __init__(self, settings: Settings) -> None:
        self.threshold: float | None = 1.0  # whatever is at least a copy

    def __enter__(self) -> Self:
        self._home = Path(tempfile.mkdtemp(prefix="sg-accuracy-"))
        self._home.chmod(0o755)
        try:
            running = up(self._home, say=lambda _: None)
        except BaseException:
            self.__exit__()
            raise
        self._client = Client(running.url, running.key)
        return self

    def __exit__(self, *_: object) -> None:
        down(self._home)
        shutil.rmtree(self._home, ignore_errors=True)

    def add(self, stored: Sequence[Stored]) -> None:
        """See ``System.add``."""

        def upload(place: int) -> int:
            return self._client.upload(stored[place].name, stored[place].data, key=f"stored-{place}")

        with ThreadPoolExecutor(self.clients) as pool:
            ids = list(pool.map(upload, range(len(stored))))
        ended = self._client.wait(ids, timeout_s=3600)
        failed = [stored[place].name for place, number in enumerate(ids) if ended[number] != "PROCESSED"]
        if failed:
            raise RuntimeError(f"{len(failed)} stored pictures were not processed: {', '.join(failed[:5])}")
        self._places = {number: place for place, number in enumerate(ids)}

    def ask(self, queries: Sequence[Query]) -> list[Answer]:
        """See ``System.ask``."""

        def search(query: Query) -> Answer:
            matches = self._client.search("query.jpg", query.data, k=KEPT)
            return [(self._places[match["id"]], service_score(match)) for match in matches]

        with ThreadPoolExecutor(self.clients) as pool:
            return list(pool.map(search, queries))


def build(name: str, settings: Settings, *, fastdup_python: Path | None = None) -> System:
    """A system by the name of ``--systems``.

    Args:
        fastdup_python: interpreter that has fastdup; this one where None.
    Raises:
        ValueError: there is no such system, or what it needs is not installed.
    """
    systems: dict[str, Callable[[], System]] = {
        "pdq": lambda: Pdq(orientations=False),
        "pdq8": lambda: Pdq(orientations=True),
        "phash": PHash,
        "fastdup": lambda: Fastdup(fastdup_python or Path(sys.executable), KEPT),
        "descriptor": lambda: DescriptorAlone(settings),
        "cascade": lambda: Cascade(settings),
        "service": lambda: Service(settings),
    }
    if name not in systems:
        raise ValueError(f"no system {name!r}; there are {', '.join(systems)}")
    return systems[name]()
