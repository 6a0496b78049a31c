"""Reading banks: ``/hma/c/banks`` and their members. They are changed through ``/banks``."""

from typing import Annotated, Any

from fastapi import APIRouter
from fastapi.responses import PlainTextResponse

from deployments.ingress.access import Scope
from deployments.ingress.context import UsesEngine
from deployments.ingress.documents import problems, shown
from deployments.ingress.hma.schemas import (
    BankName,
    ContentId,
    HmaBank,
    HmaContent,
    HmaContentType,
    HmaSignalType,
    IncludeSignals,
)
from deployments.ingress.hma.signals import PDQ, PHOTO, SHA256, SIGNAL_TYPES
from storage import member_matches
from storage.errors import NotFound
from storage.keys import Principal

router = APIRouter(prefix="/hma", tags=["hma"])
_Moderator = Annotated[Principal, Scope("moderate")]
_BANK = {"name": "SCAMS", "matching_enabled_ratio": 1.0}
_CONTENT = {
    "id": 7,
    "disable_until_ts": 1,
    "collab_metadata": {"partner list of May": []},
    "original_media_uri": "/api/v1/image/7/file",
    "bank": _BANK,
    "signals": {"sha256": "d811ac390bfa6005d08543fe27fd5a11f6b55bdd2603000dc26476fc79fc76b5"},
}


def _bank(name: str, enabled: bool) -> HmaBank:
    return HmaBank(name=name, matching_enabled_ratio=float(enabled))


@router.get(
    "/status",
    summary="Whether lookups are answered",
    response_class=PlainTextResponse,
    responses={200: {"content": {"text/plain": {"example": "I-AM-ALIVE"}}, "description": "Yes"}, **problems()},
)
async def status(_: Annotated[Principal, Scope("image:read")]) -> str:
    """For consoles that ask before anything else; probes use `/health/*`, which need no key."""
    return "I-AM-ALIVE"


@router.get(
    "/c/banks",
    summary="All banks",
    response_model=list[HmaBank],
    responses={200: shown([_BANK], "By name"), **problems()},
)
async def banks(_: _Moderator, engine: UsesEngine) -> Any:
    """Those of allowed pictures too, which lookups leave out unless they are named."""
    return [_bank(*one) for one in await member_matches.banks(engine)]


@router.get(
    "/c/bank/{bank_name}",
    summary="One bank",
    response_model=HmaBank,
    responses={200: shown(_BANK, "The bank"), **problems(404)},
)
async def bank(_: _Moderator, engine: UsesEngine, bank_name: BankName) -> Any:
    """By its name."""
    found = await member_matches.banks(engine, bank_name)
    if not found:
        raise NotFound(f"there is no bank named {bank_name!r}")
    return _bank(*found[0])


@router.get(
    "/c/bank/{bank_name}/content/{content_id}",
    summary="A member of a bank",
    response_model=HmaContent,
    response_model_exclude_unset=True,
    responses={200: shown(_CONTENT, "The member"), **problems(404)},
)
async def content(
    _: _Moderator,
    engine: UsesEngine,
    bank_name: BankName,
    content_id: ContentId,
    include_signals: IncludeSignals = False,
) -> Any:
    """What a lookup gave the id of. A stored picture shows its SHA-256 and where it is, a hash itself."""
    found = await member_matches.named(engine, bank_name, content_id)
    if found is None:
        raise NotFound(f"there is no member {content_id} in a bank named {bank_name!r}")
    shown_member: dict[str, Any] = {
        "id": found.id,
        "disable_until_ts": int(found.counts),
        "collab_metadata": {found.source: []} if found.source else {},
        "original_media_uri": f"/api/v1/image/{found.image_id}/file" if found.image_id is not None else None,
        "bank": _bank(found.bank, found.bank_enabled),
    }
    if include_signals:
        hashes = {PDQ: found.pdq, SHA256: found.sha256}
        shown_member["signals"] = {name: value.hex() for name, value in hashes.items() if value is not None}
    return shown_member


@router.get(
    "/c/signal_type",
    summary="Kinds of hashes",
    response_model=list[HmaSignalType],
    responses={200: shown([{"name": PDQ, "enabled_ratio": 1.0}], "All"), **problems()},
)
async def signal_types(_: _Moderator) -> Any:
    """PDQ and SHA-256."""
    return [{"name": name, "enabled_ratio": 1.0} for name in SIGNAL_TYPES]


@router.get(
    "/c/content_type",
    summary="Kinds of media",
    response_model=list[HmaContentType],
    responses={200: shown([{"name": PHOTO, "enabled": True}], "All"), **problems()},
)
async def content_types(_: _Moderator) -> Any:
    """Photos."""
    return [{"name": PHOTO, "enabled": True}]
