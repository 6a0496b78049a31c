"""Matching: ``/hma/m/lookup`` by hash, by address or with the file; raw lookups, comparisons, what the index holds."""

from collections.abc import Set
from typing import Annotated, Any

import numpy as np
from fastapi import APIRouter, Depends, Query, Request
from pydantic import RootModel, field_validator

from deployments.ingress.access import Scope
from deployments.ingress.body import read_json
from deployments.ingress.context import (
    UsesEngine,
    UsesHashes,
    UsesPlatform,
)
from deployments.ingress.documents import problems, sent, shown
from deployments.ingress.hma.hashing import FORM, UsesPhotos
from deployments.ingress.hma.lookup import Matcher
from deployments.ingress.hma.schemas import (
    Banks,
    Bypass,
    ContentType,
    HmaIndexStatus,
    HmaMatch,
    HmaRawMatches,
    IncludeDistance,
    Seed,
    Signal,
    SignalType,
    Types,
    Url,
)
from deployments.ingress.hma.signals import PDQ, SHA256, hash_of, type_of, types_of
from deployments.vision.pdq import hamming
from storage import member_matches
from storage.bank_rules import PDQ_DISTANCE
from storage.errors import InvalidInput
from storage.keys import Principal
from storage.member_matches import ShownMember

router = APIRouter(prefix="/hma/m", tags=["hma"])
_Reader = Annotated[Principal, Scope("image:read")]
_BY_BANK = {"SCAMS": [{"bank_content_id": 7, "distance": "12"}]}
_COMPARED = {"pdq": [True, {"distance": 9}]}
_PAIR = {"pdq": ["f8" * 32, "f9" * 32]}


async def _matcher(engine: UsesEngine, hashes: UsesHashes, platform: UsesPlatform) -> Matcher:
    return Matcher(engine, hashes, platform)


UsesMatcher = Annotated[Matcher, Depends(_matcher)]


class HashPairs(RootModel[dict[str, list[str]]]):
    """Signal type to two hashes."""

    @field_validator("root")
    @classmethod
    def _pairs(cls, given: dict[str, list[str]]) -> dict[str, list[str]]:
        if any(len(pair) != 2 for pair in given.values()):
            raise ValueError("each signal type needs exactly two hashes")
        return given


def _names(banks: str | None) -> Set[str] | None:
    return frozenset(banks.split(",")) if banks else None


async def _by_bank(
    matcher: Matcher, signal_type: str, signal: str, banks: str | None, bypass: bool
) -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = {}
    if not signal:  # of a photo without structure
        return found

    def counts(member: ShownMember) -> bool:
        return member.counts and (bypass or member.bank_enabled)

    for one in await matcher.near(type_of(signal_type), hash_of(signal), _names(banks), counts):
        match = {"bank_content_id": one.member.id, "distance": str(one.distance)}
        found.setdefault(one.member.bank, []).append(match)
    return found


@router.get(
    "/lookup",
    summary="Look a hash, or a photo at an address, up",
    response_model=dict[str, list[HmaMatch] | dict[str, list[HmaMatch]]],
    responses={
        200: shown(_BY_BANK, "Bank to its members that are near; with `url` alone, in turn by signal type"),
        **problems(415),
    },
)
async def lookup(
    _: _Reader,
    matcher: UsesMatcher,
    photos: UsesPhotos,
    url: Url = None,
    content_type: ContentType = None,
    types: Types = None,
    signal: Annotated[str | None, Query(max_length=400, pattern=r"^[^\x00]*$")] = None,
    signal_type: Annotated[str | None, Query(max_length=40, pattern=r"^[^\x00]*$")] = None,
    banks: Banks = None,
    seed: Seed = None,
    bypass_coinflip: Bypass = False,
) -> Any:
    """Members of banks in force, each within its own bank's distance. A hash is compared as it is; a photo that is
    uploaded is compared in all eight orientations."""
    if not url:
        if not signal or not signal_type:
            raise InvalidInput("either url, or both signal and signal_type, are required", "signal")
        return await _by_bank(matcher, signal_type, signal, banks, bypass_coinflip)
    signals = await photos.at(url, content_type, types_of(types))
    found = {one: await _by_bank(matcher, one, value, banks, bypass_coinflip) for one, value in signals.items()}
    return found if signal_type is None else found.get(type_of(signal_type), {})


@router.post(
    "/lookup",
    summary="Look a photo up",
    response_model=dict[str, dict[str, list[HmaMatch]]],
    openapi_extra=FORM,
    responses={200: shown({"pdq": _BY_BANK}, "Signal type to bank to its members that are near"), **problems(415)},
)
async def lookup_file(
    request: Request,
    _: _Reader,
    matcher: UsesMatcher,
    photos: UsesPhotos,
    types: Types = None,
    banks: Banks = None,
    seed: Seed = None,
    bypass_coinflip: Bypass = False,
) -> Any:
    """Hashes the photo and looks its hashes up; nothing is stored."""
    signals = await photos.sent(request, types_of(types))
    return {one: await _by_bank(matcher, one, value, banks, bypass_coinflip) for one, value in signals.items()}


@router.get(
    "/raw_lookup",
    summary="Look a hash up, in disabled banks too",
    response_model=HmaRawMatches,
    responses={
        200: shown({"matches": [{"bank_content_id": 7, "distance": "12"}]}, "Ids, or ids with distances"),
        **problems(),
    },
)
async def raw_lookup(
    _: _Reader,
    matcher: UsesMatcher,
    signal: Signal,
    signal_type: SignalType,
    banks: Banks = None,
    include_distance: IncludeDistance = False,
) -> Any:
    """Also members in quarantine and in banks that are disabled: ``/hma/m/lookup`` leaves those out."""
    found = await matcher.near(type_of(signal_type), hash_of(signal), _names(banks), lambda _: True)
    if not include_distance:
        return {"matches": [one.member.id for one in found]}
    return {"matches": [{"bank_content_id": one.member.id, "distance": str(one.distance)} for one in found]}


@router.post(
    "/compare",
    summary="Compare pairs of hashes",
    response_model=dict[str, list[bool | dict[str, int]]],
    responses={200: shown(_COMPARED, "Signal type to whether they match, and their distance in bits"), **problems()},
    openapi_extra=sent(HashPairs, _PAIR),
)
async def compare(request: Request, _: _Reader) -> Any:
    """PDQ hashes match within 31 bits, as Hasher-Matcher-Actioner has it; a bank may have another distance."""
    pairs = (await read_json(request, HashPairs)).root
    found: dict[str, list[bool | dict[str, int]]] = {}
    for name, pair in pairs.items():
        type_of(name, name)
        first, second = (np.frombuffer(hash_of(one, name), np.uint8) for one in pair)
        distance = int(hamming(first, second))
        limit = {PDQ: PDQ_DISTANCE, SHA256: 0}[name]
        found[name] = [distance <= limit, {"distance": distance}]
    return found


@router.get(
    "/index/status",
    summary="What is held for lookups",
    response_model=dict[str, HmaIndexStatus],
    responses={200: shown({"pdq": {"present": True, "built_to": 1700146048, "size": 591}}, "By type"), **problems()},
)
async def index_status(
    _: _Reader,
    engine: UsesEngine,
    hashes: UsesHashes,
    signal_type: Annotated[str | None, Query(max_length=40, pattern=r"^[^\x00]*$")] = None,
) -> Any:
    """PDQ hashes are held in memory and brought up to date by each lookup; SHA-256 is looked up in the database."""
    if signal_type is not None and type_of(signal_type) != PDQ:
        return {}
    held = await hashes.current()
    built_to = await member_matches.last_added(engine)
    return {PDQ: {"present": True, "built_to": built_to, "size": len(held.index)}}
