"""Decisions made again from what is kept with them. Changes nothing."""

from typing import Annotated

from fastapi import APIRouter

from deployments.ingress.access import Scope
from deployments.ingress.context import UsesEngine
from deployments.ingress.documents import problems, shown
from deployments.ingress.policy_schemas import DecisionId, DifferenceShown, ReplayShown
from storage.keys import Principal
from storage.replays import replay

router = APIRouter(tags=["policies"])
_REPLAY = {
    "decision_id": 17,
    "image_id": 7,
    "actor": "policy",
    "policy_id": 2,
    "engine": 1,
    "verdict": "block",
    "rule": "known-unacceptable",
    "reason": "A copy of a picture in a bank of unacceptable ones",
    "same": True,
    "differences": [],
}


@router.get(
    "/decisions/{decision_id}/replay",
    summary="Make a decision again",
    response_model=ReplayShown,
    responses={200: shown(_REPLAY, "What comes out, beside what was recorded"), **problems(404)},
)
async def replay_decision(
    decision_id: DecisionId, _: Annotated[Principal, Scope("moderate")], engine: UsesEngine
) -> ReplayShown:
    """Judges the facts that are kept with the decision by the policy that decided, and says what is not the same."""
    found = await replay(engine, decision_id)
    differences = [DifferenceShown(**vars(one)) for one in found.differences]
    return ReplayShown.model_validate(vars(found) | {"same": found.same, "differences": differences})
