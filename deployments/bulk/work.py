"""What passes between the stages of a bulk job. Knows nothing of Ray."""

import os
import pickle
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from configs.models import ModelSpec, load_models
from configs.settings import Settings, load_settings
from storage.bulk import IndexedUnit
from storage.vector_rows import VectorRows

Batch = dict[str, Any]
"""A batch of Ray Data: the one column ``work`` of pickled stages' results."""


@dataclass(frozen=True)
class BulkTask:
    """What every stage of one run knows.

    Args:
        job_id, token: the job and the right to store for it.
        model_name: whose networks and thresholds.
        descriptors: those that the model is written with in this run, the live one first, by name@version.
        reindex: the images exist and get only the vectors and links of ``descriptors``, which is one.
        threads: of one network call.
        niceness: of the processes (0 to 19), so that the online service goes first.
        reads_per_s: objects one reader may ask for in a second; None is unlimited.
    """

    job_id: int
    token: UUID
    model_name: str
    descriptors: tuple[str, ...]
    reindex: bool = False
    threads: int = 1
    niceness: int = 10
    reads_per_s: float | None = None

    def settings(self) -> Settings:
        """The installation's settings, with this job's threads; lowers the priority of the process."""
        os.setpriority(os.PRIO_PROCESS, 0, max(self.niceness, os.getpriority(os.PRIO_PROCESS, 0)))
        return load_settings().model_copy(update={"model_threads": self.threads})

    def models(self, settings: Settings) -> list[ModelSpec]:
        """The model with each of its descriptors."""
        registry = load_models(settings.models_file)
        return [registry.with_descriptor(self.model_name, descriptor) for descriptor in self.descriptors]

    def looks_key(self, unit: int) -> str:
        """Where what was seen in a unit's pictures is kept until their links are made."""
        return f"{looks_prefix(self.job_id)}{unit}.npz"


def looks_prefix(job_id: int) -> str:
    """Below it lies what a job keeps for itself."""
    return f"jobs/{job_id}/"


@dataclass(frozen=True)
class UnitWork:
    """The objects of one unit."""

    number: int
    image_ids: list[int]
    paths: list[str]
    etags: list[str]
    sizes: list[int]


@dataclass(frozen=True)
class DescribedUnit:
    """A unit whose details and looks are stored: rows and vectors are still to be written."""

    outcome: IndexedUnit
    vectors: dict[str, VectorRows]


def packed(items: list[Any]) -> Batch:
    """A batch of Ray Data."""
    return {"work": [pickle.dumps(item, protocol=pickle.HIGHEST_PROTOCOL) for item in items]}


def unpacked(batch: Batch) -> list[Any]:
    """What ``packed`` made; only ever of the same job's own processes."""
    return [pickle.loads(item) for item in batch["work"]]
