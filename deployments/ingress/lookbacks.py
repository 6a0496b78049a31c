"""Look-backs: seen, begun on request, cancelled, tried again. They are worked off by the pipeline, not here."""

from typing import Annotated, Literal

from fastapi import APIRouter, Query, Request, Response
from starlette.status import HTTP_201_CREATED

from deployments.ingress.access import Scope
from deployments.ingress.body import read_json
from deployments.ingress.context import UsesEngine
from deployments.ingress.documents import problems, sent, shown
from deployments.ingress.lookback_schemas import LookBackId, LookBackShown, NewLookBack
from deployments.ingress.schemas import MAX_ID
from storage import lookbacks
from storage.keys import Principal
from storage.lookback_tables import LookBackState

router = APIRouter(tags=["lookbacks"])
_Moderator = Annotated[Principal, Scope("moderate")]
_Admin = Annotated[Principal, Scope("admin")]
_LOOKBACK = {
    "id": 1,
    "kind": "members",
    "state": "waiting",
    "bank_id": 3,
    "cause": "image 7 was added to bank Forbidden",
    "created_by": "first-key",
    "created_at": "2024-11-01T10:00:00+00:00",
    "worked_at": "2024-11-01T10:00:01+00:00",
    "finished_at": None,
    "progress": 0.45,
    "members": 2,
    "members_done": 1,
    "skipped": 1,
    "skips": ["image 9: the stored picture is missing"],
    "images_done": 12,
    "verdicts_changed": 5,
    "images_per_second": 3.5,
    "failure": None,
}
_BEGUN = {
    **_LOOKBACK, "id": 2, "kind": "bank", "cause": "its threshold was wrong for a week", "worked_at": None,
    "progress": 0.0, "members": None, "members_done": 0, "skipped": 0, "skips": [], "images_done": 0,
    "verdicts_changed": 0, "images_per_second": 0.0,
}  # fmt: skip
_DEAD = {
    **_LOOKBACK, "state": "dead", "finished_at": "2024-11-01T10:00:31+00:00",
    "failure": "a step of it failed; the log of the pipeline says how",
}  # fmt: skip
_CANCELLED = {**_LOOKBACK, "state": "cancelled", "finished_at": "2024-11-01T10:00:31+00:00"}


@router.get(
    "/lookbacks",
    summary="Look-backs",
    response_model=list[LookBackShown],
    responses={200: shown([_BEGUN, _DEAD], "Newest first"), **problems()},
)
async def list_lookbacks(
    _: _Moderator,
    engine: UsesEngine,
    state: Annotated[LookBackState | None, Query(description="only those in this state")] = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    after: Annotated[int | None, Query(ge=1, le=MAX_ID, description="id of the last one of the page before")] = None,
) -> list[LookBackShown]:
    """All that have been begun, also those that have ended."""
    found = await lookbacks.listing(engine, state=state, after=after, limit=limit)
    return [LookBackShown.of(one) for one in found]


@router.post(
    "/lookbacks",
    summary="Look back on request",
    status_code=HTTP_201_CREATED,
    response_model=LookBackShown,
    responses={
        201: shown(
            _BEGUN, "It waits for a pipeline; one like it that has not been begun is taken instead of a second",
            headers={"Location": {"schema": {"type": "string"}, "description": "address of the look-back"}},
        ),
        **problems(404),
    },
    openapi_extra=sent(NewLookBack, {"bank_id": 3, "reason": "its threshold was wrong for a week"}),
)  # fmt: skip
async def create_lookback(request: Request, response: Response, caller: _Admin, engine: UsesEngine) -> LookBackShown:
    """Changes of banks and policies begin theirs by themselves; this is for after a repair."""
    wanted = await read_json(request, NewLookBack)
    made = await lookbacks.start(engine, bank_id=wanted.bank_id, actor=caller.name, reason=wanted.reason)
    response.headers["Location"] = request.url_for("get_lookback", lookback_id=made).path
    return LookBackShown.of(await lookbacks.get(engine, made))


@router.get(
    "/lookbacks/{lookback_id}",
    summary="One look-back",
    response_model=LookBackShown,
    responses={200: shown(_LOOKBACK, "How far it is"), **problems(404)},
)
async def get_lookback(lookback_id: LookBackId, _: _Moderator, engine: UsesEngine) -> LookBackShown:
    """The counters are exact: they change in the transactions of the work itself."""
    return LookBackShown.of(await lookbacks.get(engine, lookback_id))


@router.post(
    "/lookbacks/{lookback_id}/{action}",
    summary="Cancel a look-back, or try one again",
    response_model=LookBackShown,
    responses={200: shown(_CANCELLED, "The look-back as it is now"), **problems(404, 409)},
)
async def control_lookback(
    lookback_id: LookBackId, action: Literal["cancel", "retry"], caller: _Admin, engine: UsesEngine
) -> LookBackShown:
    """What a cancelled one has decided stays. `retry` lets one that was given up or cancelled go on where it stands."""
    change = lookbacks.cancel if action == "cancel" else lookbacks.retry
    return LookBackShown.of(await change(engine, lookback_id, actor=caller.name))
