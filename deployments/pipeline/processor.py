"""The life of a claimed picture: fetch, look, write, search, match, finish. Knows nothing of Ray."""

import asyncio
import io
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import PIL.Image
from numpy.typing import NDArray
from sqlalchemy.ext.asyncio import AsyncEngine

from configs.models import ModelRegistry, ModelSpec
from configs.settings import Settings
from deployments.metrics.meters import meters, stage
from deployments.pipeline.bank_hashes import BankHashes
from deployments.pipeline.generations import Generations
from deployments.pipeline.linking import Linker
from deployments.pipeline.look import Look, Networks, look
from deployments.pipeline.matching import candidates_query
from deployments.similarity.queries import Hit, Query
from deployments.vision.sandbox import Sandbox
from deployments.vision.shape import ShapeDescriptor
from deployments.vision.views import View
from storage import claims as claiming
from storage import held_up, image_members, images
from storage.claims import Claim, FoundObject, Outcome
from storage.errors import NotFound, SafeGuardError, TooLarge, Unavailable, UnsupportedImage
from storage.links import Link
from storage.objects import ObjectStore
from storage.outages import part_is_down, picture_at_fault
from storage.tables import Status
from storage.vector_rows import PDQ_SPACE, VectorRows

_log = logging.getLogger(__name__)

_ENDS = {Status.FAILED: "failed", Status.UPLOADED: "retried", None: "late"}
"""What is counted of a claim that was given back."""


def canary() -> bytes:
    """A plain picture that every network takes, as a file."""
    buffer = io.BytesIO()
    pixels = np.random.default_rng(7).integers(0, 256, (64, 64, 3), np.uint8)
    PIL.Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


class Index(Protocol):
    """The vectors, wherever they are kept."""

    async def add(self, rows: dict[str, VectorRows], replace: list[int]) -> dict[str, int]:
        """Writes rows; returns for each table a version that holds them."""

    async def search(self, queries: list[Query], versions: dict[str, int] | None) -> list[list[Hit]]:
        """Hits of each query at tables no older than ``versions``."""


@dataclass(frozen=True)
class Processor:
    """What processing a picture uses."""

    engine: AsyncEngine
    objects: ObjectStore
    settings: Settings
    registry: ModelRegistry
    networks: Networks
    index: Index
    linker: Linker
    shapes: dict[str, ShapeDescriptor]
    generations: Generations
    hashes: BankHashes
    sandbox: Sandbox
    _written: set[int] = field(default_factory=set, init=False, repr=False)
    """Images in work whose vectors may be stored already: another claim of them must replace those."""

    async def look(
        self,
        model: ModelSpec,
        pictures: Sequence[bytes],
        *,
        judge: bool = True,
        others: Sequence[ModelSpec] = (),
        apart: bool = False,
    ) -> list[Look | SafeGuardError]:
        """See ``deployments.pipeline.look.look``, within the limits of the settings.

        Args:
            others: the same model with other descriptors, whose vectors are wanted too.
            apart: decode in processes that can be killed. Uploads have passed one already, in the ingress, so it is for
                pictures that have not, and for those whose processing has failed before. See benchmarks/sandbox.py.
        """
        return await look(
            self.networks,
            model,
            self.shapes[model.shape.name] if model.shape else None,
            pictures,
            max_pixels=self.settings.max_pixels,
            long_side=self.settings.decode_long_side,
            judge=judge,
            others=[one.descriptor for one in others],
            sandbox=self.sandbox if apart else None,
        )

    async def process(self, held: Sequence[Claim]) -> None:
        """Processes claims of one model and gives each an end: PROCESSED, FAILED or back into the queue.

        A picture that was claimed before is processed by itself, so that one which brings a replica down takes no
        other along. What is at fault decides the end: an unreadable picture is FAILED at once; a part of the platform
        that is down costs the picture no attempt; a picture that fails where a plain one passes costs it one.
        """
        together = [claim for claim in held if claim.attempt == 1]
        alone = [[claim] for claim in held if claim.attempt > 1]
        for group in ([together] if together else []) + alone:
            try:
                await self._process(group)
            except asyncio.CancelledError:
                raise
            except Exception as error:
                await self._fallen(group, error)

    async def _fallen(self, group: Sequence[Claim], error: Exception) -> None:
        _log.warning("processing of %d pictures failed: %s", len(group), type(error).__name__, exc_info=error)
        if part_is_down(error) or not await self._healthy(group[0].model_name):
            await self._release(group, "a part of the platform was not available", blameless=True)
        elif len(group) == 1:
            await self._release(group, "the picture could not be processed")
        else:
            for claim in group:
                try:
                    await self._process([claim], again=True)
                except Exception as own:
                    await self._fallen([claim], own)

    async def _healthy(self, model_name: str) -> bool:
        """Whether networks, index and database take a plain picture now."""
        try:
            models = await self.generations.of(model_name)
            (found,) = await self.look(models[0], [canary()], others=models[1:])
            if not isinstance(found, Look):
                return False
            await self.index.search([candidates_query(one, found, exclude=None, k=1) for one in models], None)
            await images.same_bytes(self.engine, [found.sha256])
        except Exception as error:
            _log.warning("a plain picture fails too: %s", type(error).__name__)
            await self._note_held_up(model_name, error)
            return False
        return True

    async def _note_held_up(self, model_name: str, error: Exception) -> None:
        """Where a plain picture passes with the live descriptor alone, uploads wait for the other one: it is named."""
        try:
            live, *others = await self.generations.of(model_name)
            if not others or not isinstance((await self.look(live, [canary()]))[0], Look):
                return
            cause = getattr(error, "cause", None) or error
            reason = str(cause) if isinstance(cause, SafeGuardError) else type(cause).__name__
            for other in others:
                if await held_up.note(self.engine, model_name, other.descriptor_name, reason):
                    _log.error("uploads of %s wait for %s: %s", model_name, other.descriptor_name, reason)
        except Exception as own:
            _log.warning("the live descriptor fails too: %s", type(own).__name__)

    async def _process(self, held: Sequence[Claim], *, again: bool = False) -> None:
        models = await self.generations.of(held[0].model_name)
        with stage("fetch", len(held)):
            fetched = await asyncio.gather(*(self.objects.get(claim.s3_path) for claim in held), return_exceptions=True)
        present: list[tuple[Claim, bytes]] = []
        for claim, data in zip(held, fetched, strict=True):
            if isinstance(data, bytes):
                present.append((claim, data))
            elif isinstance(data, NotFound):
                await self._release([claim], claiming.MISSING_PICTURE, permanent=True)
            elif picture_at_fault(data):
                await self._release([claim], str(data), permanent=True)
            else:
                await self._release([claim], "the object store did not answer", blameless=True)
        seen: list[tuple[Claim, Look]] = []
        apart = again or any(claim.attempt > 1 for claim in held)
        looks = await self.look(models[0], [data for _, data in present], others=models[1:], apart=apart)
        for (claim, _), found in zip(present, looks, strict=True):
            if isinstance(found, Look) and found.sha256 == claim.sha256:
                seen.append((claim, found))
            elif isinstance(found, Look):
                await self._release([claim], "the stored picture is not the one uploaded", permanent=True)
            else:
                permanent, blameless = isinstance(found, UnsupportedImage | TooLarge), isinstance(found, Unavailable)
                await self._release([claim], str(found), permanent=permanent, blameless=blameless)
        if seen:
            await self._finish(models, seen, again)

    async def _finish(self, models: Sequence[ModelSpec], seen: list[tuple[Claim, Look]], again: bool) -> None:
        """Writes, searches, matches and finishes pictures with each descriptor of their model, the live one first."""
        self._written.update(claim.image_id for claim, _ in seen)
        # Before the vectors, so that whoever finds those finds the details too.
        await asyncio.gather(
            *(
                self.linker.verifier.store(claim.s3_path, found.sha256, found.details)
                for claim, found in seen
                if found.details is not None
            )
        )
        rows = [vector_rows(model, [(claim.image_id, found) for claim, found in seen]) for model in models]
        with stage("write", len(seen)):
            versions = await self.index.add(
                {name: some for of_model in rows for name, some in of_model.items()},
                [claim.image_id for claim, _ in seen if again or claim.attempt > 1],
            )
        searched = [{name: versions[name] for name in of_model} for of_model in rows]
        # Read after the vectors were written: who comes later finds those by looking back.
        members = await image_members.newest(self.engine)
        queries = [
            [candidates_query(one, found, exclude=claim.image_id, members=members) for claim, found in seen]
            for one in models
        ]
        hits, same = await asyncio.gather(
            asyncio.gather(*(self.index.search(*asked) for asked in zip(queries, searched, strict=True))),
            images.same_bytes(self.engine, [found.sha256 for _, found in seen]),
        )
        links: list[list[Link]] = [[] for _ in seen]
        for model, at, of_model in zip(models, searched, hits, strict=True):
            for (claim, found), near, mine in zip(seen, of_model, links, strict=True):
                twins = [other for other in same.get(found.sha256, []) if other != claim.image_id]
                with stage("match", 1):
                    mine += await self.linker.links(model, found, near, twins, versions=at, query_id=claim.image_id)
        pictures, least = [(claim.image_id, found) for claim, found in seen], models[0].thresholds.pdq_min_quality
        compared, near_hashes = await self.hashes.near(pictures, min_quality=least)
        written = frozenset(model.descriptor_name for model in models)
        outcomes = [
            Outcome(
                claim, mine, found_objects(models[0], found), content_scores(models[0], found), written,
                dict(near_hashes.get(claim.image_id, {})), compared,
            )
            for (claim, found), mine in zip(seen, links, strict=True)
        ]  # fmt: skip
        with stage("decide", len(outcomes)):
            finished = await claiming.finish(
                self.engine, outcomes, again=lambda: self.hashes.near(pictures, min_quality=least)
            )
        meters().add("safeguard_images_finished_total", len(finished), outcome="processed")
        late = [claim for claim, _ in seen if claim.image_id not in finished]
        if late:
            _log.warning("%d results came too late and were dropped", len(late))
            # Where the lease lasts, a descriptor has come to the model meanwhile: the picture is written with it too.
            ours = await claiming.renew(self.engine, late, lease_s=self.settings.lease_s)
            lacking = [claim for claim in late if claim.image_id in ours]
            await self._release(lacking, "the descriptors of the model have changed", blameless=True)
        self._written.difference_update(claim.image_id for claim, _ in seen)
        if self.generations.waiting(models[0].name):
            for model in models[1:]:
                await held_up.note(self.engine, model.name, model.descriptor_name, None)

    async def _release(
        self, held: Sequence[Claim], reason: str, *, permanent: bool = False, blameless: bool = False
    ) -> None:
        for claim in held:
            try:
                status = await claiming.release(
                    self.engine,
                    claim,
                    reason,
                    retry_delay_s=self.settings.retry_delay_s,
                    max_attempts=self.settings.max_attempts,
                    permanent=permanent,
                    blameless=blameless,
                    written=claim.image_id in self._written,
                )
                self._written.discard(claim.image_id)
                meters().add("safeguard_images_finished_total", outcome=_ENDS[status])
            except Exception as error:
                # The lease ends by itself; another claim follows.
                _log.warning("a claim could not be given back: %s", type(error).__name__)


def found_objects(model: ModelSpec, found: Look) -> list[FoundObject]:
    """People and objects of a picture as they are stored."""
    return [
        FoundObject(box.label, round(box.score, 4), tuple(round(edge, 1) for edge in box.corners), model.detector_name)
        for box in found.boxes
    ]


def content_scores(model: ModelSpec, found: Look) -> dict[str, float]:
    """How unsafe the model's filter holds a picture to be; empty where none was asked."""
    return {model.filter_name: found.unsafe} if model.filter_name and found.unsafe is not None else {}


def vector_rows(model: ModelSpec, looks: Sequence[tuple[int, Look]]) -> dict[str, VectorRows]:
    """The rows of some looked-at pictures: PDQ of the picture as it is, shapes and descriptors of its stored views."""
    ids = np.asarray([image_id for image_id, _ in looks], np.int64)

    def of_wholes(vectors: list[NDArray[Any]]) -> VectorRows:
        boxes = np.tile(np.asarray([[0, 0, 1, 1]], np.float32), (len(ids), 1))
        return VectorRows(ids, np.zeros(len(ids), np.int16), boxes, np.stack(vectors))

    def of_views(stored: list[tuple[list[View], NDArray[np.float32]]]) -> VectorRows:
        counts = [len(views) for views, _ in stored]
        return VectorRows(
            np.repeat(ids, counts),
            np.concatenate([np.arange(count, dtype=np.int16) for count in counts]),
            np.asarray([view.box for views, _ in stored for view in views], np.float32),
            np.concatenate([vectors for _, vectors in stored]),
        )

    rows = {
        PDQ_SPACE.name: of_wholes([found.pdq[0] for _, found in looks]),
        model.descriptor_name: of_views(
            [(found.views[: found.stored], found.vectors[model.descriptor_name][: found.stored]) for _, found in looks]
        ),
    }
    if model.shape is not None:
        rows[model.shape.name] = of_views(
            [(found.shape_views[: found.stored_shapes], found.shapes[: found.stored_shapes]) for _, found in looks]
        )
    if model.semantic is not None:
        rows[model.semantic.name] = of_wholes([found.semantic[0] for _, found in looks if found.semantic is not None])
    return rows
