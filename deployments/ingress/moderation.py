"""Whether a stored image may stay, and why; a person's decision on it or on all of its copies, and the way back."""

from collections.abc import Callable
from typing import Annotated

from fastapi import APIRouter, Query, Request

from configs.policies import Verdict
from deployments.ingress.access import Scope
from deployments.ingress.body import read_json
from deployments.ingress.context import UsesEngine
from deployments.ingress.documents import problems, sent, shown
from deployments.ingress.moderation_schemas import (
    ClusterShown,
    Moderation,
    NewDecision,
    Reversal,
    cluster_of,
    explained,
    moderation_of,
)
from deployments.ingress.processing import NotProcessed
from deployments.ingress.schemas import ImageId
from storage import human_decisions, images
from storage.clusters import cluster as cluster_around
from storage.explanations import explain as explanation_of
from storage.keys import Principal
from storage.moderation import standing
from storage.tables import Status

router = APIRouter(tags=["moderation"])
_Reader = Annotated[Principal, Scope("image:read")]
_Moderator = Annotated[Principal, Scope("moderate")]
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
DECIDED = {
    **{name: value for name, value in MODERATION.items() if name not in ("rule", "policy_version")},
    "verdict": "allow",
    "reason": "news report",
    "fired": [],
    "severity": 0,
    "decided_by": "anna",
    "by_person": True,
    "decision_id": 18,
    "decided": [1],
}
_DIGEST = "0f" * 32
_CLUSTER = {
    "digest": _DIGEST,
    "cut": False,
    "verdicts": {"block": 1},
    "by_person": 0,
    "images": [
        {
            "id": 1,
            "name": "image1.jpg",
            "steps": 0,
            "verdict": "block",
            "rule": "known-unacceptable",
            "severity": 9,
            "by_person": False,
            "preview": "/api/v1/image/1/file?preview=blurred",
        }
    ],
}


def previews(request: Request) -> Callable[[int], str]:
    """Gives the address of an image's blurred preview."""
    before, _, after = request.url_for("file", image_id=0).path.rpartition("/0/")
    return lambda image_id: f"{before}/{image_id}/{after}?preview=blurred"


@router.get(
    "/image/{image_id}/moderation",
    summary="Whether the image may stay",
    response_model=Moderation,
    response_model_exclude_unset=True,
    responses={200: shown(MODERATION, "The verdict and what it rests on"), **problems(404, 409)},
)
async def moderation(
    request: Request,
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
    if not explain:
        return moderation_of(held)
    replay = request.url_for("replay_decision", decision_id=held.decision.id).path
    return explained(held, await explanation_of(engine, held), replay)


@router.put(
    "/image/{image_id}/moderation",
    summary="Decide as a person",
    response_model=Moderation,
    response_model_exclude_unset=True,
    responses={200: shown(DECIDED, "What holds now"), **problems(404, 409)},
    openapi_extra=sent(NewDecision, {"verdict": "allow", "reason": "news report"}),
)
async def decide(request: Request, image_id: ImageId, caller: _Moderator, engine: UsesEngine) -> Moderation:
    """Beats every policy until it is reversed, and is recorded with the key's name and the reason. `review` puts the image
    into the queue. With `cluster` all images of the cluster are decided on in one step, or none: 409 if the cluster is not
    what it was when its `digest` was shown."""
    wanted = await read_json(request, NewDecision)
    ruling = human_decisions.Ruling(Verdict(wanted.verdict), wanted.reason, caller.name, wanted.severity)
    decided = await human_decisions.rule(engine, image_id, ruling, cluster=wanted.digest)
    return moderation_of(await standing(engine, image_id), decided=decided)


@router.post(
    "/image/{image_id}/moderation/reverse",
    summary="Take a person's decision back",
    response_model=Moderation,
    response_model_exclude_unset=True,
    responses={200: shown({**MODERATION, "decided": [1]}, "What the policy decides"), **problems(404, 409)},
    openapi_extra=sent(Reversal, {"reason": "a mistake"}),
)
async def reverse(request: Request, image_id: ImageId, caller: _Moderator, engine: UsesEngine) -> Moderation:
    """The policy in force decides again, by what is known now. 409 where no person has decided."""
    wanted = await read_json(request, Reversal)
    decided = await human_decisions.reverse(
        engine, image_id, wanted.reason, actor=caller.name, cluster=wanted.digest
    )  # fmt: skip
    return moderation_of(await standing(engine, image_id), decided=decided)


@router.get(
    "/image/{image_id}/cluster",
    summary="What a decision on all copies would touch",
    response_model=ClusterShown,
    responses={200: shown(_CLUSTER, "The images connected by exact and copy links"), **problems(404, 409)},
)
async def cluster(request: Request, image_id: ImageId, _: _Moderator, engine: UsesEngine) -> ClusterShown:
    """Copies, copies of copies and so on, with what holds for each. Changes nothing."""
    return cluster_of(await cluster_around(engine, image_id), previews(request))
