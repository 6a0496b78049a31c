"""What is known of a stored image: matches, detections, the file itself. Changes nothing."""

import io
from functools import partial
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Response
from fastapi.responses import RedirectResponse
from PIL import Image, ImageFilter

from configs.policies import Verdict
from deployments.ingress.access import Scope
from deployments.ingress.context import UsesEngine, UsesObjects, UsesSandbox, UsesSettings
from deployments.ingress.documents import problems, shown
from deployments.ingress.schemas import BoxInPixels, Detected, ImageId, StoredMatch
from deployments.vision.decoding import Decode, decode
from storage import images
from storage.keys import Principal
from storage.moderation import verdict_of
from storage.tables import Relation

router = APIRouter(tags=["evidence"])
_Reader = Annotated[Principal, Scope("image:read")]
_PREVIEW_SIDE = 320
_BLUR_SHARE = 0.04
"""Radius of the blur as a share of the long side: shapes and colours stay, faces and text do not."""
_MATCHES = [
    {
        "id": 2,
        "name": "image2.jpg",
        "s3_path": "images/uuid_image2.jpg",
        "kind": "copy",
        "method": "pdq",
        "score": 0.92,
        "threshold": 0.8,
        "evidence": {
            "pdq": {"distance_bits": 12, "orientation": "mirrored", "quality": 100},
            "index_versions": {"pdq@1": 41},
        },
        "created_at": "2024-11-01T10:05:02+00:00",
    }
]
_DETECTIONS = [
    {
        "label": "person",
        "score": 0.87,
        "box": {"x0": 12.0, "y0": 30.5, "x1": 220.0, "y1": 410.0},
        "model": "nanodet-plus@1",
    }
]


@router.get(
    "/image/{image_id}/matches",
    summary="Related images with evidence",
    response_model=list[StoredMatch],
    responses={200: shown(_MATCHES, "Best first"), **problems(404)},
)
async def matches(image_id: ImageId, _: _Reader, engine: UsesEngine) -> list[StoredMatch]:
    """Why each related image is held to be related."""
    return [
        StoredMatch(
            id=match.image_id,
            name=match.name,
            s3_path=match.s3_path,
            kind=Relation(match.relation),
            method=match.method,
            score=match.score,
            threshold=match.threshold,
            evidence=match.evidence,
            created_at=match.created_at,
        )
        for match in await images.matches(engine, image_id)
    ]


@router.get(
    "/image/{image_id}/detections",
    summary="People and objects",
    response_model=list[Detected],
    responses={200: shown(_DETECTIONS, "Surest first"), **problems(404)},
)
async def detections(image_id: ImageId, _: _Reader, engine: UsesEngine) -> list[Detected]:
    """What the detector found; boxes are in pixels of the picture as displayed."""
    return [
        Detected(
            label=found.label,
            score=found.score,
            box=BoxInPixels(x0=found.x0, y0=found.y0, x1=found.x1, y1=found.y1),
            model=found.model,
        )
        for found in await images.detections(engine, image_id)
    ]


def blurred(data: bytes, max_pixels: int, decode: Decode = decode) -> bytes:
    """A small blurred JPEG for people who must not meet the picture unprepared. Blocking.

    Args:
        data: the file.
        max_pixels: width × height at most.
        decode: in this process, or in one that can be killed.
    Returns:
        JPEG with a long side of at most 320 pixels.
    Raises:
        TooLarge, UnsupportedImage: the picture cannot be read.
    """
    picture = Image.fromarray(decode(data, max_pixels=max_pixels, long_side=_PREVIEW_SIDE).pixels)
    file = io.BytesIO()
    picture.filter(ImageFilter.GaussianBlur(max(picture.size) * _BLUR_SHARE)).save(file, "JPEG", quality=80)
    return file.getvalue()


@router.get(
    "/image/{image_id}/file",
    summary="The picture",
    status_code=307,
    response_class=Response,
    responses={
        200: {
            "description": "With `preview=blurred`, and where files are guarded",
            "content": {"image/jpeg": {"schema": {"type": "string", "format": "binary"}}},
        },
        307: {
            "description": "A signed address that is valid for a short time",
            "headers": {"Location": {"schema": {"type": "string", "format": "uri"}}},
        },
        **problems(404, 415),
    },
)
async def file(
    image_id: ImageId,
    _: _Reader,
    engine: UsesEngine,
    objects: UsesObjects,
    settings: UsesSettings,
    sandbox: UsesSandbox,
    preview: Annotated[Literal["blurred"] | None, Query(description="a small blurred rendition instead")] = None,
    clear: Annotated[bool, Query(description="the file itself, also where files are guarded")] = False,
) -> Any:
    """Leads to the file in the object store, or gives a small blurred rendition. With the setting `guard_files` an image
    that is not allowed, or not yet, is given as its rendition unless `clear=true` asks for the file."""
    image = await images.get(engine, image_id)
    guarded = settings.guard_files and not clear and await verdict_of(engine, image_id) != Verdict.ALLOW
    if preview is None and not guarded:
        return RedirectResponse(await objects.signed_url(image.s3_path), 307, {"Cache-Control": "no-store"})
    data = await objects.get(image.s3_path)
    picture = await sandbox.run(partial(blurred, data, settings.max_pixels, sandbox.decode))
    return Response(picture, media_type="image/jpeg", headers={"Cache-Control": "private, max-age=300"})
