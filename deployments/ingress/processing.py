"""Handing images to outside workers, taking their results, and showing results (documented endpoints 4 to 6)."""

import asyncio
import time
from collections.abc import Mapping
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Query, Request
from sqlalchemy.ext.asyncio import AsyncEngine

from configs.settings import Settings
from deployments.ingress.access import Scope
from deployments.ingress.body import read_json
from deployments.ingress.context import UsesEngine, UsesRegistry, UsesSettings, UsesSignal
from deployments.ingress.documents import problems, shown
from deployments.ingress.images import refuse_unknown
from deployments.ingress.schemas import (
    DeliveredResult,
    ImageId,
    ModelNamePath,
    NothingNew,
    PolledImage,
    ProcessedImage,
    ReturnedImage,
)
from deployments.metrics.meters import leases_expired
from storage import claims, images, queues
from storage.claims import Claim
from storage.errors import Conflict, InvalidInput
from storage.keys import Principal
from storage.tables import Image, Status

router = APIRouter(tags=["processing"])
_Reader = Annotated[Principal, Scope("image:read")]
_Worker = Annotated[Principal, Scope("image:process")]
_LOOK_AGAIN_S = 1.0
"""While a poll waits: leases and retry pauses end without a signal, and the client may leave."""
_POLLED = {
    "id": 1,
    "s3_path": "images/uuid_image1.jpg",
    "img_callback_url": "http://restapi:8000/api/v1/image/1/processed?token=6f1b0f2c-8f0e-4b6c-9a83-0e3b3b0f6f55",
}
_PROCESSED = {"img_url": "images/uuid_image1.jpg", "return": "true", "id": "1", "result": ["2", "3"]}
_RETURNED = [
    {"id": 2, "file_link": "images/uuid_image2.jpg"},
    {"id": 3, "file_link": "images/uuid_image3.jpg"},
]
_background: set[asyncio.Task[None]] = set()


class NotProcessed(Conflict):
    """There is no result yet, or there will be none."""

    def __init__(self, image: Image) -> None:
        reason = f": {image.failure}" if image.status == Status.FAILED and image.failure else ""
        super().__init__(f"image {image.id} is {image.status}{reason}")
        self.members: Mapping[str, Any] = {"image_status": image.status}


async def _give_back(engine: AsyncEngine, claiming: asyncio.Task[list[Claim]], settings: Settings) -> None:
    for held in await claiming:
        await claims.release(
            engine,
            held,
            "the worker left before it got the image",
            retry_delay_s=0.0,
            max_attempts=settings.max_attempts,
            blameless=True,
        )


async def _claim_for(
    request: Request, engine: AsyncEngine, model_name: str, settings: Settings
) -> Claim | None:  # fmt: skip
    """Claims one image for a client that is still there; one that leaves meanwhile loses no image."""
    if await request.is_disconnected():
        return None
    claiming = asyncio.create_task(
        claims.claim(
            engine,
            [model_name],
            1,
            lease_s=settings.worker_lease_s,
            max_attempts=settings.max_attempts,
            expired=leases_expired,
        )
    )
    try:
        held = await asyncio.shield(claiming)
        if held and await request.is_disconnected():
            await _give_back(engine, claiming, settings)
            return None
    except asyncio.CancelledError:
        # The client left while the statement ran: it may have been committed.
        task = asyncio.create_task(_give_back(engine, claiming, settings))
        _background.add(task)
        task.add_done_callback(_background.discard)
        raise
    return held[0] if held else None


@router.get(
    "/image/poll/{model_name}",
    summary="Get an image to process",
    response_model=PolledImage | NothingNew,
    responses={
        200: {
            "description": "An image, now PROCESSING under a lease; or that there is none.",
            "content": {
                "application/json": {
                    "examples": {
                        "image": {"value": _POLLED},
                        "none": {"value": {"detail": "no new images for model copies"}},
                    }
                }
            },
        },
        **problems(),
    },
)
async def poll(
    request: Request,
    model_name: ModelNamePath,
    _: _Worker,
    engine: UsesEngine,
    settings: UsesSettings,
    registry: UsesRegistry,
    signal: UsesSignal,
    wait: Annotated[float, Query(ge=0, le=30, description="seconds to wait for one")] = 0.0,
) -> PolledImage | NothingNew:
    """The oldest waiting image of a queue. Deliver the result to `img_callback_url` before the lease is over."""
    refuse_unknown(model_name, registry, settings)
    deadline = time.monotonic() + wait
    await queues.record_poll(engine, model_name)
    held = await _claim_for(request, engine, model_name, settings)
    while held is None and (left := deadline - time.monotonic()) > 0 and not await request.is_disconnected():
        await signal.wait(model_name, min(left, _LOOK_AGAIN_S))
        held = await _claim_for(request, engine, model_name, settings)
    if held is None:
        return NothingNew(detail=f"no new images for model {model_name}")
    base = (settings.public_url or str(request.base_url)).rstrip("/")
    path = request.app.url_path_for("get_processed", image_id=str(held.image_id))
    return PolledImage(id=held.image_id, s3_path=held.s3_path, img_callback_url=f"{base}{path}?token={held.token}")


async def _result(engine: AsyncEngine, image_id: int) -> ProcessedImage:
    image = await images.get(engine, image_id)
    if image.status != Status.PROCESSED:
        raise NotProcessed(image)
    found = await images.related(engine, image_id)
    return ProcessedImage(
        img_url=image.s3_path,
        return_="true" if found else "false",
        id=str(image.id),
        result=[str(other) for other, _ in found],
    )


@router.get(
    "/image/{image_id}/processed",
    summary="The result of an image",
    response_model=ProcessedImage,
    responses={200: shown(_PROCESSED, "Related images, best first"), **problems(404, 409)},
)
async def get_processed(image_id: ImageId, _: _Reader, engine: UsesEngine) -> ProcessedImage:
    """Whether related images were found, and which. 409 with `image_status` while it is not processed."""
    return await _result(engine, image_id)


@router.post(
    "/image/{image_id}/processed",
    summary="Deliver a result",
    response_model=ProcessedImage,
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {
                    "schema": DeliveredResult.model_json_schema(ref_template="#/components/schemas/{model}"),
                    "example": _PROCESSED,
                }
            },
        }
    },
    responses={200: shown(_PROCESSED, "Stored; a repeat is answered the same"), **problems(400, 404, 409)},
)
async def deliver(
    request: Request,
    image_id: ImageId,
    token: Annotated[UUID, Query(description="as given in `img_callback_url`")],
    _: _Worker,
    engine: UsesEngine,
) -> ProcessedImage:
    """What `img_callback_url` is for: links are stored once; after the lease nothing is changed and 409 is answered."""
    sent = await read_json(request, DeliveredResult)
    if sent.id is not None and sent.id != image_id:
        raise InvalidInput(f"the result is for image {sent.id}, the address for image {image_id}", "id")
    await claims.deliver(engine, image_id, token, list(dict.fromkeys(sent.result)))
    return await _result(engine, image_id)


@router.get(
    "/image/{image_id}/return_images",
    summary="Related images",
    response_model=list[ReturnedImage],
    responses={200: shown(_RETURNED, "Best first; links are symmetric"), **problems(404)},
)
async def return_images(image_id: ImageId, _: _Reader, engine: UsesEngine) -> list[ReturnedImage]:
    """Processed images linked to this one, by its own result or by theirs."""
    return [ReturnedImage(id=other, file_link=path) for other, path in await images.related(engine, image_id)]
