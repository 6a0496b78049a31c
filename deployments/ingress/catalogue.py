"""What can process an image: the models that are known and the queues that were used. Changes nothing."""

from collections.abc import Sequence
from typing import Annotated

from fastapi import APIRouter

from configs.models import ModelRegistry, ModelSpec
from deployments.ingress import schemas
from deployments.ingress.access import Scope
from deployments.ingress.context import UsesEngine, UsesRegistry
from deployments.ingress.documents import problems, shown
from deployments.pipeline.generations import specs_of
from deployments.pipeline.limits import networks_of
from storage.calibrations import current
from storage.generations import generations
from storage.keys import Principal
from storage.queues import queues
from storage.tables import Calibration, Generation

router = APIRouter(tags=["models"])
_EXAMPLE = {
    "models": [
        {
            "name": "copies",
            "description": "semantic copies, people and objects, unsafe content",
            "descriptor": "lite0-copy@2",
            "generations": [
                {"descriptor": "lite0-copy@2", "state": "live", "changed_at": "2024-11-01T10:00:00+00:00"},
                {"descriptor": "lite0-copy@3", "state": "building", "changed_at": "2024-11-20T10:00:00+00:00"},
            ],
            "shape": "shape@1",
            "semantic": "dinov2-small@1",
            "detector": "nanodet-plus@1",
            "content_filter": "opennsfw@1",
            "default": True,
            "thresholds": {"copy": 0.5, "semantic": 0.2},
            "calibrations": [
                {
                    "relation": "copy",
                    "mode": "active",
                    "valid": True,
                    "threshold": 0.62,
                    "wanted_precision": 0.99,
                    "precision": 0.992,
                    "recall": 0.95,
                    "pictures": 400,
                    "queries": 1100,
                    "would_add": 0,
                    "would_drop": 0,
                    "created_at": "2024-11-01T10:00:00+00:00",
                }
            ],
        }
    ],
    "queues": [
        {
            "model_name": "copies",
            "waiting": 12,
            "processing": 16,
            "last_polled_at": "2024-11-01T10:00:00+00:00",
            "known": True,
        }
    ],
}


def _shown(
    spec: ModelSpec, written: Sequence[Generation], held: Sequence[Calibration], registry: ModelRegistry
) -> schemas.Model:
    # A live descriptor that models.yaml lacks is a fault that the pipeline names; here it is only shown.
    known = [one for one in written[:1] if one.descriptor in registry.available_descriptors]
    (live,) = specs_of(registry, spec.name, known)
    return schemas.Model(
        name=spec.name,
        description=spec.description,
        descriptor=spec.descriptor_name,
        generations=[schemas.GenerationShown.model_validate(one.model_dump(exclude={"model_name"})) for one in written],
        detector=spec.detector_name,
        content_filter=spec.filter_name,
        default=spec.name == registry.default,
        shape=spec.shape.name if spec.shape else None,
        semantic=spec.semantic.name if spec.semantic else None,
        thresholds={"copy": live.thresholds.copy_confidence, "semantic": live.thresholds.semantic_confidence},
        calibrations=[
            schemas.CalibrationShown(valid=one.networks == networks_of(live), **one.model_dump())
            for one in held
            if one.model_name == spec.name
        ],
    )


@router.get(
    "/models",
    summary="Models and queues",
    response_model=schemas.Models,
    responses={200: shown(_EXAMPLE, "Known models, and every queue that was used"), **problems()},
)
async def models(
    _: Annotated[Principal, Scope("image:read")], engine: UsesEngine, registry: UsesRegistry
) -> schemas.Models:
    """A queue that is not `known`, grows and was never polled is most likely a misspelt name."""
    held, written = await current(engine), await generations(engine)
    return schemas.Models(
        models=[_shown(spec, written.get(name, []), held, registry) for name, spec in registry.items()],
        queues=[
            schemas.QueueState(
                model_name=queue.model_name,
                waiting=queue.waiting,
                processing=queue.processing,
                last_polled_at=queue.last_polled_at,
                known=queue.model_name in registry,
            )
            for queue in await queues(engine)
        ],
    )
