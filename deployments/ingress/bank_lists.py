"""Lists of hashes into a bank and out of it, as files."""

from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import StreamingResponse

from deployments.ingress.access import Scope
from deployments.ingress.bank_schemas import BankId, ImportShown
from deployments.ingress.body import read_file
from deployments.ingress.context import UsesEngine
from deployments.ingress.documents import problems, shown
from storage import bank_rules
from storage.bank_export import MEDIA_TYPES, Form, export
from storage.bank_import import import_list
from storage.keys import Principal

router = APIRouter(tags=["banks"])
IMPORT_PATH = r".*/banks/[^/]+/import"
"""Its limit of bytes is another one than that of pictures."""
_Moderator = Annotated[Principal, Scope("moderate")]
_PDQ = "f8f8f0cee0f4a84f06370a22038f63f0b36e2ed596621e1d33e6b39c4e9c9b22"
_CSV = f"pdq,sha256,note\r\n{_PDQ},,from the hotline\r\n"
_UPDATES = f'{{"id": "17", "type": "HASH_PDQ", "indicator": "{_PDQ}", "tags": ["from the hotline"]}}\n'
_FILES = {
    "text/csv": {"schema": {"type": "string"}, "example": _CSV},
    "application/x-ndjson": {"schema": {"type": "string"}, "example": _UPDATES},
}
_DONE = {
    "added": 4999,
    "already_there": 2,
    "refused": 1,
    "withdrawn": 0,
    "errors": [{"line": 17, "message": "pdq has 63 digits instead of 64"}],
    "look_backs": [7],
}


@router.post(
    "/banks/{bank_id}/import",
    summary="Import a list of hashes",
    response_model=ImportShown,
    responses={200: shown(_DONE, "What was done"), **problems(404)},
    openapi_extra={"requestBody": {"required": True, "content": _FILES}},
)
async def import_hashes(
    request: Request,
    bank_id: BankId,
    caller: _Moderator,
    engine: UsesEngine,
    source: Annotated[
        str, Query(max_length=bank_rules.SOURCE_LENGTH, description="kept with each member: where it comes from")
    ] = "",
    keep_good: Annotated[bool, Query(description="import the good lines although there are bad ones")] = False,
) -> ImportShown:
    """CSV with the columns `pdq`, `sha256`, `note`, or a file of ThreatExchange: the form is seen from the first line. All
    lines are checked before any is imported; a bad one is named with its number. Repeat an import that was broken off:
    what is there is left alone."""
    async with read_file(request) as file:
        done = await import_list(engine, bank_id, file, source=source, actor=caller.name, keep_good=keep_good)
    return ImportShown.of(done)


@router.get(
    "/banks/{bank_id}/export",
    summary="Export the hashes of a bank",
    response_class=Response,
    responses={200: {"description": "The list, by member", "content": _FILES}, **problems(404)},
)
async def export_hashes(
    bank_id: BankId,
    _: _Moderator,
    engine: UsesEngine,
    format: Annotated[
        Form, Query(description="our CSV, CSV as the threatexchange command prints it, or threat updates as JSON lines")
    ] = Form.CSV,
    images: Annotated[bool, Query(description="stored images too, by the SHA-256 of their file")] = False,
) -> Response:
    """What `import` reads, streamed."""
    pieces = export(engine, bank_id, format, images=images)
    first = await anext(pieces)  # a bank that is not there is a 404, not a broken file

    async def rest() -> AsyncIterator[bytes]:
        yield first
        async for piece in pieces:
            yield piece

    name = f"bank-{bank_id}.{'jsonl' if format == Form.UPDATES else 'csv'}"
    headers = {"Content-Disposition": f'attachment; filename="{name}"'}
    return StreamingResponse(rest(), media_type=MEDIA_TYPES[format], headers=headers)
