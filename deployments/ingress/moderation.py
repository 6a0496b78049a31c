"""Whether a stored image may stay, and why. Changes nothing."""

from typing import Annotated

from fastapi import APIRouter

from deployments.ingress.access import Scope
from deployments.ingress.context import UsesEngine, UsesRegistry
from deployments.ingress.documents import problems, shown
from deployments.ingress.processing import NotProcessed
from deployments.ingress.schemas import ContentEvidence, ImageId, Moderation
from deployments.pipeline.verdict import decide
from storage import images
from storage.keys import Principal
from storage.tables import Status

router = APIRouter(tags=["moderation"])
_Reader = Annotated[Principal, Scope("image:read")]
_MODERATION = {
    "id": 1,
    "verdict": "allow",
    "reason": "opennsfw@1 gave 0.017, below 0.5",
    "evidence": [{"model": "opennsfw@1", "score": 0.017, "review_at": 0.5, "block_at": 0.9}],
}


@router.get(
    "/image/{image_id}/moderation",
    summary="Whether the image may stay",
    response_model=Moderation,
    responses={200: shown(_MODERATION, "The verdict and what it rests on"), **problems(404, 409)},
)
async def moderation(image_id: ImageId, _: _Reader, engine: UsesEngine, registry: UsesRegistry) -> Moderation:
    """allow, review or block, from the content filter's score and the thresholds of the image's model."""
    image = await images.get(engine, image_id)
    if image.status != Status.PROCESSED:
        raise NotProcessed(image)
    scores = await images.content_scores(engine, image_id)
    limits = registry[image.model_name if image.model_name in registry else registry.default].thresholds
    verdict, reason = decide(scores, limits)
    return Moderation(
        id=image_id,
        verdict=verdict,
        reason=reason,
        evidence=[
            ContentEvidence(
                model=one.model,
                score=round(one.score, 4),
                review_at=limits.unsafe_review,
                block_at=limits.unsafe_block,
            )
            for one in scores
        ],
    )
