"""The audit: what was decided, changed and deleted, and by whom. Read only; for keys with the scope admin."""

from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import APIRouter, Query, Request, Response
from pydantic import Field

from deployments.ingress.access import Scope
from deployments.ingress.context import UsesEngine
from deployments.ingress.documents import problems, shown
from deployments.ingress.schemas import MAX_ID, Shown
from storage import audit_log
from storage.keys import Principal

router = APIRouter(tags=["audit"])
_Admin = Annotated[Principal, Scope("admin")]
_Hash = Annotated[str, Field(description="32 bytes in hexadecimal", pattern=r"^[0-9a-f]{64}$")]
_HASH = "5f4c0a1be0f1f6c29a6c2f9c1ab34f2de1e0e7f7a3c7d1c6b0a8f3e2d4c5b6a7"
_ENTRY = {
    "sequence": 2,
    "at": "2024-11-01T10:00:00.000000+00:00",
    "actor": "first-key",
    "action": "image.delete",
    "subject": "image/7",
    "detail": {"sha256": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"},
    "previous_hash": "0a" * 32,
    "hash": _HASH,
}


class AuditShown(Shown):
    """An entry of the audit."""

    sequence: int = Field(description="1, 2, 3, … without gaps; pass the last one as `after` to go on")
    at: str = Field(description="UTC, with six digits for its microseconds", json_schema_extra={"format": "date-time"})
    actor: str = Field(description="name of a key, or of a command")
    action: str
    subject: str
    detail: dict[str, Any]
    previous_hash: _Hash
    hash: _Hash


class AuditHead(Shown):
    """The newest entry of the audit; 0 and zeros where there is none."""

    sequence: int
    hash: _Hash


_Words = Annotated[
    str | None, Query(max_length=400, pattern=r"^[^\x00]+$", description="only entries with exactly this")
]


@router.get(
    "/audit",
    summary="The audit",
    response_model=list[AuditShown],
    responses={
        200: shown(
            [_ENTRY],
            "In the order in which they were written. A `Link` header leads to the next page, if there is one.",
            headers={"Link": {"schema": {"type": "string"}, "description": "`<address>; rel=next`"}},
        ),
        **problems(),
    },
)
async def list_entries(
    request: Request,
    response: Response,
    _: _Admin,
    engine: UsesEngine,
    subject: _Words = None,
    action: _Words = None,
    actor: _Words = None,
    limit: Annotated[int, Query(ge=1, le=1000, description="at most so many")] = 100,
    after: Annotated[int, Query(ge=0, le=MAX_ID, description="only entries behind this sequence")] = 0,
) -> list[dict[str, Any]]:
    """Nothing in it can be changed or deleted. `docs/audit.md` says how the hashes are made and checked."""
    wanted = {"subject": subject, "action": action, "actor": actor}
    found = await audit_log.entries(engine, after=after, limit=limit + 1, **wanted)
    page = found[:limit]
    if len(found) > limit:
        query = {name: one for name, one in wanted.items() if one is not None}
        following = urlencode(query | {"limit": limit, "after": page[-1].sequence})
        response.headers["Link"] = f'<{request.url.path}?{following}>; rel="next"'
    return [audit_log.as_sent(entry) for entry in page]


@router.get(
    "/audit/head",
    summary="The newest entry of the audit",
    response_model=AuditHead,
    responses={200: shown({"sequence": 2, "hash": _HASH}, "To be kept elsewhere"), **problems()},
)
async def head(_: _Admin, engine: UsesEngine) -> AuditHead:
    """`safeguard audit verify --head SEQUENCE:HASH` proves later that nothing up to it was rewritten or cut off."""
    newest = await audit_log.head(engine)
    return AuditHead(sequence=newest.sequence, hash=newest.hash.hex())
