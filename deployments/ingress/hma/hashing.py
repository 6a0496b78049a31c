"""Hashing: ``/hma/h/hash``, by address or with the file."""

from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from starlette.datastructures import UploadFile

from configs.models import ModelRegistry
from configs.settings import Settings
from deployments.ingress.access import Scope
from deployments.ingress.body import read_form
from deployments.ingress.context import UsesFetcher, UsesRegistry, UsesSandbox, UsesSettings
from deployments.ingress.documents import problems, shown
from deployments.ingress.hma.fetching import Fetcher
from deployments.ingress.hma.schemas import ContentType, Types, Url
from deployments.ingress.hma.signals import PHOTO, check_content_type, signals_of, types_of
from deployments.ingress.images import read_picture
from deployments.vision.sandbox import Sandbox
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


@dataclass(frozen=True)
class Photos:
    """Hashes photos, sent or read at an address; nothing is stored."""

    settings: Settings
    registry: ModelRegistry
    sandbox: Sandbox
    fetcher: Fetcher

    async def sent(self, request: Request, wanted: list[str]) -> dict[str, str]:
        """The signals of the one photo of a form.

        Raises:
            InvalidInput: there is none, several, or another kind of media.
            TooLarge: the body is over the limit, or the photo cannot be read for its size.
            UnsupportedImage: it cannot be read.
        """
        async with read_form(request) as form:
            files = [(name, value) for name, value in form.multi_items() if isinstance(value, UploadFile)]
            if len(files) != 1:
                raise InvalidInput(f"one file is wanted, as `{PHOTO}`; there are {len(files)}", PHOTO)
            name, upload = files[0]
            check_content_type(name, name)
            data = await read_picture(upload, self.settings)
        return await self._signals(data, wanted)

    async def at(self, url: str | None, content_type: str | None, wanted: list[str]) -> dict[str, str]:
        """The signals of the photo at an address.

        Raises:
            InvalidInput: no address, one that must not be read or cannot, or another kind of media.
            TooLarge, UnsupportedImage: it cannot be read.
        """
        check_content_type(content_type)
        if not url:
            raise InvalidInput("url is required", "url")
        return await self._signals(await self.fetcher.fetch(url), wanted)

    async def _signals(self, data: bytes, wanted: list[str]) -> dict[str, str]:
        return await self.sandbox.run(partial(signals_of, data, wanted, self.settings, self.registry, self.sandbox))


async def _photos(settings: UsesSettings, registry: UsesRegistry, sandbox: UsesSandbox, fetcher: UsesFetcher) -> Photos:
    return Photos(settings, registry, sandbox, fetcher)


UsesPhotos = Annotated[Photos, Depends(_photos)]


@router.get(
    "/hash",
    summary="Hash a photo at an address",
    response_model=dict[str, str],
    responses={200: shown(_HASHES, "Signal type to hash; empty where it has too little structure"), **problems(415)},
)
async def hash_url(
    _: Annotated[Principal, Scope("image:read")],
    photos: UsesPhotos,
    url: Url = None,
    content_type: ContentType = None,
    types: Types = None,
) -> Any:
    """Fetches it from the public internet, within the limits of webhooks; redirects are checked like addresses."""
    return await photos.at(url, content_type, types_of(types))


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
    photos: UsesPhotos,
    types: Types = None,
) -> Any:
    """Nothing is stored."""
    return await photos.sent(request, types_of(types))
