"""Members of banks: images and hashes, added, noted, removed, released from quarantine."""

from typing import Annotated

from fastapi import APIRouter, Query, Request

from deployments.ingress.access import Scope
from deployments.ingress.bank_schemas import (
    BankId,
    ChangedMember,
    HashesAdded,
    HashesSent,
    HashSent,
    LookBackBegun,
    MemberChange,
    MemberId,
    MemberShown,
    NoteSent,
)
from deployments.ingress.body import read_json
from deployments.ingress.context import UsesEngine
from deployments.ingress.documents import problems, sent, shown
from deployments.ingress.schemas import MAX_ID, ImageId
from storage import bank_members, quarantine
from storage.bank_members import HashEntry
from storage.errors import InvalidInput
from storage.hash_lists import hash_of
from storage.keys import Principal

router = APIRouter(tags=["banks"])
_Moderator = Annotated[Principal, Scope("moderate")]
_PDQ = "f8f8f0cee0f4a84f06370a22038f63f0b36e2ed596621e1d33e6b39c4e9c9b22"
_HASH = {
    "id": 17,
    "image_id": None,
    "pdq": _PDQ,
    "sha256": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
    "note": "reported on the 1st of November",
    "source": "list-2024-11.csv",
    "added_at": "2024-11-01T10:00:00+00:00",
    "added_by": "first-key",
    "quarantined_at": "2024-11-02T10:00:00+00:00",
    "quarantine_reason": "it matched 412 of 2000 images that were processed within 3600 seconds, and 3 before that",
    "released_at": "2024-11-01T12:00:00+00:00",
}
_COUNTS = {"quarantined_at": None, "quarantine_reason": None}
_IMAGE = {**_HASH, **_COUNTS, "id": 18, "image_id": 7, "pdq": None, "sha256": None, "source": "", "released_at": None}
_RELEASED = {**_HASH, **_COUNTS, "released_at": "2024-11-02T12:00:00+00:00"}
_NOTE = sent(NoteSent, {"note": "reported on the 1st of November"})["requestBody"] | {"required": False}


@router.get(
    "/banks/{bank_id}/members",
    summary="Members of a bank",
    response_model=list[MemberShown],
    responses={200: shown([_IMAGE, _HASH], "By id"), **problems(404)},
)
async def list_members(
    bank_id: BankId,
    _: _Moderator,
    engine: UsesEngine,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    after: Annotated[int, Query(ge=0, le=MAX_ID, description="id of the last member of the page before")] = 0,
    quarantined: Annotated[bool, Query(description="only those in quarantine")] = False,
) -> list[MemberShown]:
    """Stored images and hashes."""
    found = await bank_members.listing(engine, bank_id, after=after, limit=limit, quarantined=quarantined)
    return [MemberShown.of(one) for one in found]


@router.put(
    "/banks/{bank_id}/images/{image_id}",
    summary="Add an image to a bank",
    response_model=ChangedMember,
    responses={200: shown({"member": _IMAGE, "look_back": 7}, "The member"), **problems(404, 409)},
    openapi_extra={"requestBody": _NOTE},
)
async def add_image(
    request: Request, bank_id: BankId, image_id: ImageId, caller: _Moderator, engine: UsesEngine
) -> ChangedMember:
    """Its copies are found among all past uploads by the look-back that is named, and among new ones from now on. It must
    have been processed. A repeat changes nothing but the note."""
    wanted = await read_json(request, NoteSent, optional=True)
    member, look_back = await bank_members.add_image(engine, bank_id, image_id, note=wanted.note, actor=caller.name)
    return ChangedMember(member=MemberShown.of(member), look_back=look_back)


@router.delete(
    "/banks/{bank_id}/images/{image_id}",
    summary="Take an image out of a bank",
    response_model=LookBackBegun,
    responses={200: shown({"look_back": 7}, "It counts no more; its effects are taken back"), **problems(404)},
)
async def remove_image(bank_id: BankId, image_id: ImageId, caller: _Moderator, engine: UsesEngine) -> LookBackBegun:
    """The image itself stays."""
    return LookBackBegun(look_back=await bank_members.remove_image(engine, bank_id, image_id, actor=caller.name))


def _entry(number: int, one: HashSent) -> HashEntry:
    place = f"hashes.{number}"
    if one.pdq is None and one.sha256 is None:
        raise InvalidInput("neither pdq nor sha256 is given", place)
    try:
        return HashEntry(
            hash_of("pdq", one.pdq) if one.pdq is not None else None,
            hash_of("sha256", one.sha256) if one.sha256 is not None else None,
            one.note,
        )
    except InvalidInput as error:
        raise InvalidInput(f"{place}: {error}", f"{place}.{error.field}") from error


@router.post(
    "/banks/{bank_id}/hashes",
    summary="Add hashes to a bank",
    response_model=HashesAdded,
    responses={200: shown({"added": 1, "already_there": 0, "look_backs": [7]}, "What is new"), **problems(404)},
    openapi_extra=sent(HashesSent, {"hashes": [{"pdq": _PDQ, "note": "from the hotline"}]}),
)
async def add_hashes(request: Request, bank_id: BankId, caller: _Moderator, engine: UsesEngine) -> HashesAdded:
    """PDQ and SHA-256 of pictures that are not stored here, at most a thousand; longer lists are imported."""
    wanted = await read_json(request, HashesSent)
    entries = [_entry(number, one) for number, one in enumerate(wanted.hashes)]
    done = await bank_members.add_hashes(engine, bank_id, entries, actor=caller.name)
    return HashesAdded(added=done.added, already_there=done.already_there, look_backs=list(done.look_backs))


@router.patch(
    "/banks/{bank_id}/members/{member_id}",
    summary="Change the note of a member",
    response_model=MemberShown,
    responses={200: shown(_HASH, "The member"), **problems(404)},
    openapi_extra=sent(MemberChange, {"note": "reported on the 1st of November"}),
)
async def change_member(
    request: Request, bank_id: BankId, member_id: MemberId, caller: _Moderator, engine: UsesEngine
) -> MemberShown:
    """Decides nothing anew."""
    wanted = await read_json(request, MemberChange)
    changed = await bank_members.set_note(engine, bank_id, member_id, wanted.note, actor=caller.name)
    return MemberShown.of(changed)


@router.delete(
    "/banks/{bank_id}/members/{member_id}",
    summary="Take a member out of a bank",
    response_model=LookBackBegun,
    responses={200: shown({"look_back": 7}, "It counts no more; its effects are taken back"), **problems(404)},
)
async def remove_member(bank_id: BankId, member_id: MemberId, caller: _Moderator, engine: UsesEngine) -> LookBackBegun:
    """An image or a hash; images that it was the reason for are decided anew."""
    return LookBackBegun(look_back=await bank_members.remove(engine, bank_id, member_id, actor=caller.name))


@router.post(
    "/banks/{bank_id}/members/{member_id}/release",
    summary="Release a member from quarantine",
    response_model=ChangedMember,
    responses={200: shown({"member": _RELEASED, "look_back": 7}, "It counts again"), **problems(404, 409)},
)
async def release_member(bank_id: BankId, member_id: MemberId, caller: _Moderator, engine: UsesEngine) -> ChangedMember:
    """What it has matched so far is no reason for quarantine any more; what it matches from now on is."""
    member, look_back = await quarantine.release(engine, bank_id, member_id, actor=caller.name)
    return ChangedMember(member=MemberShown.of(member), look_back=look_back)
