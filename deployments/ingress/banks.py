"""Banks: made, changed, listed, removed. Past images are looked at again by look-backs, not here."""

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from starlette.status import HTTP_201_CREATED

from deployments.ingress.access import Scope
from deployments.ingress.bank_schemas import BankChange, BankId, BankShown, ChangedBank, LookBackBegun, NewBankSent
from deployments.ingress.body import read_json
from deployments.ingress.context import UsesEngine
from deployments.ingress.documents import problems, sent, shown
from deployments.ingress.schemas import MAX_ID
from storage import banks
from storage.banks import NewBank
from storage.keys import Principal

router = APIRouter(tags=["banks"])
_Moderator = Annotated[Principal, Scope("moderate")]
_Admin = Annotated[Principal, Scope("admin")]
_BANK = {
    "id": 1,
    "name": "Запрещённое",
    "kind": "unacceptable",
    "description": "what must not be spread",
    "enabled": False,
    "disabled_until": "2024-12-01T10:00:00+00:00",
    "relations": ["exact", "copy"],
    "pdq_distance": 31,
    "copy_score": 0.9,
    "semantic_score": 0.8,
    "created_at": "2024-11-01T10:00:00+00:00",
    "created_by": "first-key",
    "images": 12,
    "hashes": 5000,
    "quarantined": 1,
}
_MADE = {
    **_BANK, "enabled": True, "disabled_until": None, "copy_score": None, "semantic_score": None, "images": 0,
    "hashes": 0, "quarantined": 0,
}  # fmt: skip


@router.get(
    "/banks",
    summary="Banks",
    response_model=list[BankShown],
    responses={200: shown([_BANK], "By id"), **problems()},
)
async def list_banks(
    _: _Moderator,
    engine: UsesEngine,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    after: Annotated[int, Query(ge=0, le=MAX_ID, description="id of the last bank of the page before")] = 0,
) -> list[BankShown]:
    """Reference collections: what must not be spread, or is explicitly allowed. Policies say what a match leads to."""
    return [BankShown.of(one) for one in await banks.listing(engine, after=after, limit=limit)]


@router.post(
    "/banks",
    summary="Make a bank",
    status_code=HTTP_201_CREATED,
    response_model=BankShown,
    responses={
        201: shown(
            _MADE, "The bank, empty and in force",
            headers={"Location": {"schema": {"type": "string"}, "description": "address of the bank"}},
        ),
        **problems(409),
    },
    openapi_extra=sent(NewBankSent, {"name": "Запрещённое", "kind": "unacceptable"}),
)  # fmt: skip
async def create_bank(request: Request, response: Response, caller: _Admin, engine: UsesEngine) -> BankShown:
    """Its thresholds are those that made a link, unless it has its own."""
    wanted = await read_json(request, NewBankSent)
    made = await banks.create(engine, NewBank(**wanted.model_dump(mode="json")), actor=caller.name)
    response.headers["Location"] = request.url_for("get_bank", bank_id=made.id).path
    return BankShown.of(made)


@router.get(
    "/banks/{bank_id}",
    summary="One bank",
    response_model=BankShown,
    responses={200: shown(_BANK, "The bank and how many members it has"), **problems(404)},
)
async def get_bank(bank_id: BankId, _: _Moderator, engine: UsesEngine) -> BankShown:
    """What is being removed is not counted any more."""
    return BankShown.of(await banks.get(engine, bank_id))


@router.patch(
    "/banks/{bank_id}",
    summary="Change a bank",
    response_model=ChangedBank,
    responses={
        200: shown({"bank": {**_BANK, "pdq_distance": 20}, "look_back": 7}, "The bank as it is now"),
        **problems(404, 409),
    },
    openapi_extra=sent(BankChange, {"pdq_distance": 20}),
)
async def change_bank(request: Request, bank_id: BankId, caller: _Admin, engine: UsesEngine) -> ChangedBank:
    """What decides whether a picture matches (thresholds, relations, being in force) is applied to past images too, by the
    look-back that is named. A bank that the active policy names keeps its name."""
    wanted = await read_json(request, BankChange)
    changes = wanted.model_dump(exclude_unset=True)
    if "relations" in changes:
        changes["relations"] = [one.value for one in wanted.relations]
    state, look_back = await banks.change(engine, bank_id, changes, actor=caller.name)
    return ChangedBank(bank=BankShown.of(state), look_back=look_back)


@router.delete(
    "/banks/{bank_id}",
    summary="Remove a bank",
    response_model=LookBackBegun,
    responses={200: shown({"look_back": 7}, "It counts no more; its effects are taken back"), **problems(404, 409)},
)
async def remove_bank(bank_id: BankId, caller: _Admin, engine: UsesEngine) -> LookBackBegun:
    """Its members go with it; their pictures stay. A bank that the active policy names cannot be removed."""
    return LookBackBegun(look_back=await banks.remove(engine, bank_id, actor=caller.name))
