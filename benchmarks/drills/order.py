"""Weak links that depend on the order in which pictures were processed, told from those that a fault has made or lost.

A picture whose original is there is compared by contours with no other; one that comes before its original is, and may get
a weak link to a stranger. Clients that upload at the same time are processed in another order in every run.
"""

from collections.abc import Collection, Mapping

from benchmarks.local import LocalCascade
from configs.models import load_models
from configs.settings import Settings
from deployments.pipeline.look import Look
from deployments.pipeline.matching import decide
from storage.tables import Relation


class Order:
    """Searches pictures by the cascade itself, each after any others.

    Args:
        pictures: all files of the undisturbed run, by name.
        settings: of an installation.
    """

    def __init__(self, pictures: Mapping[str, bytes], settings: Settings) -> None:
        self._pictures, self._settings = dict(pictures), settings
        self._cascade: LocalCascade | None = None
        self._looks: dict[str, Look] = {}
        self._ids = {name: number for number, name in enumerate(self._pictures, 1)}

    def allows(self, first: str, second: str, *, linked: bool) -> bool:
        """Whether there is an order in which two pictures get a weak link and no other, or get none."""
        if not {first, second} <= self._pictures.keys():
            return False
        if linked:
            return any(
                self._found(query, {stored}).get(stored) == Relation.SEMANTIC
                for query, stored in ((first, second), (second, first))
            )
        everything = self._pictures.keys()
        return second not in self._found(first, everything) and first not in self._found(second, everything)

    def _found(self, query: str, stored: Collection[str]) -> dict[str, str]:
        """Relations of a picture that comes after some others, by their names."""
        cascade = self._looked()
        known = {self._ids[name]: name for name in stored if name != query}
        look = self._looks[query]
        hits = [hit for hit in cascade.hits(look, exclude=self._ids[query]) if hit.image_id in known]
        links = decide(cascade.model, look, cascade.judged(look, hits), [], versions={})
        return {known[link.image_id]: link.relation for link in links}

    def _looked(self) -> LocalCascade:
        if self._cascade is None:
            registry = load_models(self._settings.models_file)
            self._cascade = LocalCascade(registry[registry.default], self._settings)
            for name, found in zip(self._pictures, self._cascade.look(list(self._pictures.values())), strict=True):
                if isinstance(found, Look):
                    self._looks[name] = found
            self._cascade.add([(self._ids[name], found) for name, found in self._looks.items()])
        return self._cascade
