"""Uploading, listing and deleting images (documented endpoints 1 to 3). Knows no network and no vectors."""

import json
import logging
import unicodedata
from collections.abc import AsyncIterator
from functools import partial
from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import APIRouter, Header, Query, Request, Response
from fastapi.responses import StreamingResponse
from pydantic import Field, field_validator
from starlette.datastructures import UploadFile

from configs.models import ModelRegistry
from configs.settings import Settings
from deployments.ingress.access import Scope
from deployments.ingress.admission import AdmissionControl
from deployments.ingress.body import check, read_form
from deployments.ingress.context import UsesEngine, UsesObjects, UsesPlatform, UsesRegistry, UsesSandbox, UsesSettings
from deployments.ingress.documents import problems, shown
from deployments.ingress.schemas import MAX_ID, MODEL_NAME, ImageId, ImageInfo, ListedImage, Sent, UploadedImage
from storage import images, uploads
from storage.errors import InvalidInput, Unavailable
from storage.keys import Principal
from storage.tables import Status

_log = logging.getLogger(__name__)
router = APIRouter(tags=["images"])
_Reader = Annotated[Principal, Scope("image:read")]
_Writer = Annotated[Principal, Scope("image:write")]
_LISTED = [
    {"id": 1, "name": "image1.jpg", "s3_path": "images/uuid_image1.jpg"},
    {"id": 2, "name": "image2.jpg", "s3_path": "images/uuid_image2.jpg"},
]
_INFO = {
    "id": 1,
    "name": "image1.jpg",
    "status": "UPLOADED",
    "created_at": "2024-11-01T10:00:00+00:00",
    "uploaded_at": "2024-11-01T10:05:00+00:00",
    "s3_path": "images/uuid_image1.jpg",
}
_UPLOADED = {"id": 1, "name": "image1.jpg", "status": "UPLOADED", "created_at": "2024-11-01T10:00:00+00:00"}
_FORM = {
    "required": True,
    "content": {
        "multipart/form-data": {
            "schema": {
                "type": "object",
                "required": ["name", "file", "model_name"],
                "properties": {
                    "name": {"type": "string", "minLength": 1, "maxLength": 255, "examples": ["image1.jpg"]},
                    "file": {"type": "string", "contentMediaType": "image/*", "format": "binary"},
                    "model_name": {"type": "string", "pattern": MODEL_NAME, "examples": ["copies"]},
                },
            }
        }
    },
}


class UploadFields(Sent):
    """The fields of an upload beside the file."""

    name: str = Field(min_length=1, max_length=255)
    model_name: str = Field(pattern=MODEL_NAME)

    @field_validator("name")
    @classmethod
    def _printable(cls, name: str) -> str:
        if not name.strip():
            raise ValueError("must not be blank")
        if any(unicodedata.category(character) in ("Cc", "Cs") for character in name):
            raise ValueError("must not hold control characters")
        return name


def refuse_unknown(model_name: str, registry: ModelRegistry, settings: Settings) -> None:
    """Where the setting is strict, only models of models.yaml pass.

    Raises:
        InvalidInput: it is not one of them.
    """
    if settings.strict_models and model_name not in registry:
        raise InvalidInput(f"no model {model_name}; known are {', '.join(registry.known())}", "model_name")


async def read_picture(upload: object, settings: Settings) -> bytes:
    """The bytes of a form's file.

    Raises:
        InvalidInput: there is none, or it is empty. Larger ones are cut one byte over the limit, for ``probe`` to refuse.
    """
    if not isinstance(upload, UploadFile):
        raise InvalidInput("a file part is required", "file")
    data = await upload.read(settings.max_upload_bytes + 1)
    if not data:
        raise InvalidInput("the file is empty", "file")
    return data


async def _json_array(first: list[tuple[int, str, str]], rest: AsyncIterator[Any]) -> AsyncIterator[bytes]:
    yield b"["
    separator = ""
    batch: list[tuple[int, str, str]] | None = first
    while batch:
        rows = ({"id": image_id, "name": name, "s3_path": path} for image_id, name, path in batch)
        text = ",".join(json.dumps(row, ensure_ascii=False, separators=(",", ":")) for row in rows)
        yield (separator + text).encode()
        separator = ","
        batch = await anext(rest, None)
    yield b"]"


@router.get(
    "/image/all",
    summary="All images of one status",
    response_model=list[ListedImage],
    responses={
        200: shown(
            _LISTED,
            "By id. With `limit`, a `Link` header leads to the next page, if there is one.",
            headers={"Link": {"schema": {"type": "string"}, "description": "`<address>; rel=next`"}},
        ),
        **problems(),
    },
)
async def list_images(
    request: Request,
    _: _Reader,
    engine: UsesEngine,
    status: Annotated[Status, Query(description="FAILED: could not be processed")],
    limit: Annotated[int | None, Query(ge=1, le=10_000, description="at most so many")] = None,
    after: Annotated[int, Query(ge=0, le=MAX_ID, description="only ids above this one")] = 0,
) -> Response:
    """Streams all of them, read in batches; what a slow client has not taken yet waits in the memory of Ray Serve.

    So where there are many, set `limit` and follow the `Link` header.
    """
    if limit is None:
        batches = images.stream(engine, status, after=after)
        # The first batch is read before the status line is sent: a database that is down is a 503, not half a list.
        first: list[tuple[int, str, str]] = await anext(batches, [])
        return StreamingResponse(_json_array(first, batches), media_type="application/json")
    rows = [row async for batch in images.stream(engine, status, after=after, limit=limit + 1) for row in batch]
    page = rows[:limit]
    headers = {}
    if len(rows) > limit:
        query = urlencode({"status": status, "limit": limit, "after": page[-1][0]})
        headers["Link"] = f'<{request.url.path}?{query}>; rel="next"'
    content = json.dumps([dict(zip(("id", "name", "s3_path"), row, strict=True)) for row in page], ensure_ascii=False)
    return Response(content, media_type="application/json", headers=headers)


@router.get(
    "/image/{image_id}",
    summary="One image",
    response_model=ImageInfo,
    responses={200: shown(_INFO, "The image"), **problems(404)},
)
async def get_image(image_id: ImageId, _: _Reader, engine: UsesEngine) -> Any:
    """Name, status, times and place of an image."""
    return (await images.get(engine, image_id)).model_dump()


@router.post(
    "/image",
    summary="Upload an image",
    status_code=201,
    response_model=UploadedImage,
    openapi_extra={"requestBody": _FORM},
    responses={
        201: shown(
            _UPLOADED,
            "Row and file are durable.",
            headers={"Location": {"schema": {"type": "string"}, "example": "/api/v1/image/1"}},
        ),
        **problems(400, 409, 415, 507),
    },
)
async def upload_image(
    request: Request,
    response: Response,
    caller: _Writer,
    engine: UsesEngine,
    objects: UsesObjects,
    settings: UsesSettings,
    registry: UsesRegistry,
    sandbox: UsesSandbox,
    idempotency_key: Annotated[
        str | None, Header(pattern=r"^[ -~]{1,255}$", description="a repeat with the same key gets the first answer")
    ] = None,
) -> Any:
    """Takes a picture; `model_name` says who processes it: a model of `/models`, or a queue for outside workers.

    503 `urn:problem-type:queue-full` means that too many wait there already; `Retry-After` says when to try again.
    """
    admission: AdmissionControl = request.app.state.admission
    async with read_form(request) as form:
        values: dict[str, object] = {key: form[key] for key in ("name", "model_name") if key in form}
        fields = check(UploadFields, values)
        refuse_unknown(fields.model_name, registry, settings)
        await admission.admit(fields.model_name)
        data = await read_picture(form.get("file"), settings)
    limits = {"max_pixels": settings.max_pixels, "max_frames": settings.max_frames}
    info = await sandbox.run(partial(sandbox.probe, data, max_bytes=settings.max_upload_bytes, **limits))
    image = await uploads.upload(
        engine,
        objects,
        uploads.NewImage(fields.name, fields.model_name, data, info.media_type, info.width, info.height),
        caller=caller.key_id,
        idempotency_key=idempotency_key,
        remember_s=settings.idempotency_s,
    )
    response.headers["Location"] = f"{request.url.path.rstrip('/')}/{image.id}"
    return {"id": image.id, "name": image.name, "created_at": image.created_at}


@router.delete(
    "/image/{image_id}",
    summary="Delete an image",
    status_code=204,
    responses={
        204: {"description": "File, rows, links and vectors are gone; the audit entry stays."},
        **problems(404, 409),
    },
)
async def delete_image(
    image_id: ImageId, caller: _Writer, engine: UsesEngine, objects: UsesObjects, platform: UsesPlatform
) -> None:
    """Deletes file, rows, links and vectors. A member of a bank must be taken out of it first."""
    await uploads.remove(engine, objects, image_id, actor=caller.name)
    try:
        await platform.remove([image_id])
    except Unavailable:
        # Searches look every id up in PostgreSQL, so leftover vectors show nothing; the checker removes them.
        _log.warning("the vectors of image %d could not be removed now", image_id)
