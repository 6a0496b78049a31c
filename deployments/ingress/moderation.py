"""Whether a stored image may stay, and why."""

from typing import Annotated

from fastapi import APIRouter, Query

from deployments.ingress.access import Scope
from deployments.ingress.context import UsesEngine
from deployments.ingress.documents import problems, shown
from deployments.ingress.moderation_schemas import Moderation, explained, moderation_of
from deployments.ingress.processing import NotProcessed
from deployments.ingress.schemas import ImageId
from storage import images
from storage.explanations import explain as explanation_of
from storage.keys import Principal
from storage.moderation import standing
from storage.tables import Status

router = APIRouter(tags=["moderation"])
_Reader = Annotated[Principal, Scope("image:read")]
MODERATION = {
    "id": 1,
    "verdict": "block",
    "reason": "A copy of a picture in a bank of unacceptable ones",
    "rule": "known-unacceptable",
    "fired": ["known-unacceptable"],
    "severity": 9,
    "policy_version": 3,
    "decided_by": "policy",
    "by_person": False,
    "decision_id": 17,
    "since": "2024-11-01T10:05:02+00:00",
    "evidence": {
        "content_scores": {"opennsfw@1": 0.017},
        "matches": [
            {
                "bank": "propaganda",
                "kind": "unacceptable",
                "member": 4,
                "image_id": 2,
                "relation": "copy",
                "method": "geometry",
                "score": 0.97,
                "threshold": 0.8,
                "counts": True,
            }
        ],
        "matches_in_all": 1,
    },
}


@router.get(
    "/image/{image_id}/moderation",
    summary="Whether the image may stay",
    response_model=Moderation,
    response_model_exclude_unset=True,
    responses={200: shown(MODERATION, "The verdict and what it rests on"), **problems(404, 409)},
)
async def moderation(
    image_id: ImageId,
    _: _Reader,
    engine: UsesEngine,
    explain: Annotated[
        bool, Query(description="facts, rules, policy, versions, all decisions, and how to replay the last one")
    ] = False,
) -> Moderation:
    """allow, review or block: what the policy in force, or a person, has decided, and why."""
    image = await images.get(engine, image_id)
    if image.status != Status.PROCESSED:
        raise NotProcessed(image)
    held = await standing(engine, image_id)
    return explained(held, await explanation_of(engine, held)) if explain else moderation_of(held)
