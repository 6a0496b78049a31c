"""Hashing: ``/hma/h/hash``, by address or with the file."""

from typing import Annotated, Any

from fastapi import APIRouter, Request
from starlette.datastructures import UploadFile

from deployments.ingress.access import Scope
from deployments.ingress.body import read_form
from deployments.ingress.context import UsesFetcher, UsesRegistry, UsesSandbox, UsesSettings
from deployments.ingress.documents import problems, shown
from deployments.ingress.hma.schemas import ContentType, Types, Url
from deployments.ingress.hma.signals import PHOTO, check_content_type, signals_of, types_of
from deployments.ingress.images import read_picture
from storage.errors import InvalidInput
from storage.keys import Principal

router = APIRouter(prefix="/hma/h", tags=["hma"])
_HASHES = {"pdq": "d811ac390bfa6005d08543fe27fd5a11f6b55bdd2603000dc26476fc79fc76b5"}
FORM = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": [PHOTO],
                    "properties": {PHOTO: {"type": "string", "contentMediaType": "image/*", "format": "binary"}},
                }
            }
        },
    }
}
"""``openapi_extra`` of a route that takes a photo."""


async def photo_of(request: Request, settings: UsesSettings) -> bytes:
    """The one photo of a form.

    Raises:
        InvalidInput: there is none, several, or another kind of media.
        TooLarge: the body is over the limit.
    """
    async with read_form(request) as form:
        files = [(name, value) for name, value in form.multi_items() if isinstance(value, UploadFile)]
        if len(files) != 1:
            raise InvalidInput(f"one file is wanted, as `{PHOTO}`; there are {len(files)}", PHOTO)
        name, upload = files[0]
        check_content_type(name, name)
        return await read_picture(upload, settings)


async def photo_at(url: str | None, content_type: str | None, fetcher: UsesFetcher) -> bytes:
    """The photo at an address.

    Raises:
        InvalidInput: no address, one that must not be read or cannot, or another kind of media.
        TooLarge: there are too many bytes.
    """
    check_content_type(content_type)
    if not url:
        raise InvalidInput("url is required", "url")
    return await fetcher.fetch(url)


@router.get(
    "/hash",
    summary="Hash a photo at an address",
    response_model=dict[str, str],
    responses={200: shown(_HASHES, "Signal type to hash; empty where it has too little structure"), **problems(415)},
)
async def hash_url(
    _: Annotated[Principal, Scope("image:read")],
    settings: UsesSettings,
    fetcher: UsesFetcher,
    registry: UsesRegistry,
    sandbox: UsesSandbox,
    url: Url = None,
    content_type: ContentType = None,
    types: Types = None,
) -> Any:
    """Fetches it from the public internet, within the limits of webhooks; redirects are checked like addresses."""
    wanted = types_of(types)
    return await signals_of(await photo_at(url, content_type, fetcher), wanted, settings, registry, sandbox)


@router.post(
    "/hash",
    summary="Hash a photo",
    response_model=dict[str, str],
    openapi_extra=FORM,
    responses={200: shown(_HASHES, "Signal type to hash; empty where it has too little structure"), **problems(415)},
)
async def hash_file(
    request: Request,
    _: Annotated[Principal, Scope("image:read")],
    settings: UsesSettings,
    registry: UsesRegistry,
    sandbox: UsesSandbox,
    types: Types = None,
) -> Any:
    """Nothing is stored."""
    wanted = types_of(types)
    return await signals_of(await photo_of(request, settings), wanted, settings, registry, sandbox)
