"""Searching with a picture that is not stored, or with one that is. Networks and vectors are the platform's."""

from typing import Annotated, Any

from fastapi import APIRouter, Request
from pydantic import Field, field_validator
from starlette.datastructures import FormData

from deployments.ingress.access import Scope
from deployments.ingress.body import check, read_form
from deployments.ingress.context import UsesEngine, UsesObjects, UsesPlatform, UsesRegistry, UsesSettings
from deployments.ingress.documents import problems, shown
from deployments.ingress.images import read_picture
from deployments.ingress.schemas import MODEL_NAME, Match, SearchAnswer, Sent, SentId
from deployments.pipeline.found import Found
from storage import images
from storage.errors import InvalidInput
from storage.keys import Principal
from storage.tables import Relation

router = APIRouter(tags=["search"])
_MAX_MATCHES = 200
_KINDS = [Relation.EXACT, Relation.COPY, Relation.SEMANTIC]
_EXAMPLE = {
    "model_name": "copies",
    "matches": [
        {
            "id": 2,
            "name": "image2.jpg",
            "s3_path": "images/uuid_image2.jpg",
            "kind": "copy",
            "method": "geometry",
            "score": 0.953,
            "threshold": 0.8,
            "evidence": {
                "descriptor": {
                    "name": "lite0-copy@2",
                    "score": 0.91,
                    "view": "quarter",
                    "boxes": {"query": [0.0, 0.0, 0.5, 0.5], "2": [0.0, 0.0, 1.0, 1.0]},
                },
                "geometry": {
                    "inliers": 57,
                    "matches": 80,
                    "mirrored": False,
                    "overlap": {"query": 0.25, "2": 1.0},
                    "transform": [[2.0, 0.0, 0.0], [0.0, 2.0, 0.0], [0.0, 0.0, 1.0]],
                },
            },
        }
    ],
}
_FORM = {
    "required": True,
    "content": {
        "multipart/form-data": {
            "schema": {
                "type": "object",
                "description": "either `file` or `image_id`",
                "oneOf": [{"required": ["file"]}, {"required": ["image_id"]}],
                "properties": {
                    "file": {"type": "string", "contentMediaType": "image/*", "format": "binary"},
                    "image_id": {"type": "integer", "minimum": 1, "description": "a stored image; not its own match"},
                    "k": {"type": "integer", "minimum": 1, "maximum": _MAX_MATCHES, "default": 10},
                    "min_score": {"type": "number", "minimum": 0, "maximum": 1, "default": 0},
                    "kinds": {
                        "type": "string",
                        "description": "some of exact, copy, semantic, by commas or repeated; all by default",
                        "examples": ["exact,copy"],
                    },
                    "model_name": {"type": "string", "pattern": MODEL_NAME, "description": "a model of `/models`"},
                },
            }
        }
    },
}


class SearchFields(Sent):
    """The fields of a search beside the file."""

    image_id: SentId | None = None
    k: int = Field(10, ge=1, le=_MAX_MATCHES)
    min_score: float = Field(0.0, ge=0.0, le=1.0)
    kinds: list[Relation] = _KINDS
    model_name: str | None = Field(None, pattern=MODEL_NAME)

    @field_validator("kinds")
    @classmethod
    def _searchable(cls, kinds: list[Relation]) -> list[Relation]:
        if Relation.EXTERNAL in kinds or not kinds:
            raise ValueError(f"must be some of {', '.join(_KINDS)}")
        return kinds


def _fields(form: FormData) -> SearchFields:
    values: dict[str, object] = {
        key: form[key] for key in ("image_id", "k", "min_score", "model_name") if form.get(key) not in (None, "")
    }
    parts = [part for sent in form.getlist("kinds") for part in (sent.split(",") if isinstance(sent, str) else [sent])]
    if "kinds" in form:
        values["kinds"] = [part.strip() if isinstance(part, str) else part for part in parts]
    return check(SearchFields, values)


def _shown(found: Found) -> Match:
    return Match(
        id=found.image_id,
        name=found.name,
        s3_path=found.s3_path,
        kind=Relation(found.relation),
        method=found.method,
        score=found.score,
        threshold=found.threshold,
        evidence=found.evidence,
    )


@router.post(
    "/search",
    summary="Search with a picture",
    response_model=SearchAnswer,
    openapi_extra={"requestBody": _FORM},
    responses={200: shown(_EXAMPLE, "Matches, best first; nothing is stored"), **problems(400, 404, 415)},
)
async def search(
    request: Request,
    _: Annotated[Principal, Scope("image:read")],
    engine: UsesEngine,
    objects: UsesObjects,
    settings: UsesSettings,
    registry: UsesRegistry,
    platform: UsesPlatform,
) -> Any:
    """Ranked matches with their evidence, of a `file` or of the stored image `image_id`.

    503 `urn:problem-type:searches-full` means that too many searches wait already; `Retry-After` says when to try again.
    """
    async with read_form(request) as form:
        fields = _fields(form)
        upload = form.get("file")
        if (upload in (None, "")) == (fields.image_id is None):
            raise InvalidInput("send either a file or an image_id", "file")
        data = await read_picture(upload, settings) if fields.image_id is None else b""
    model_name = fields.model_name or registry.default
    if model_name not in registry:
        raise InvalidInput(f"no model {model_name}; known are {', '.join(registry.known())}", "model_name")
    if fields.image_id is not None:
        data = await objects.get((await images.get(engine, fields.image_id)).s3_path)
    found = await platform.search(data, model_name, fields.k, fields.image_id)
    wanted = [one for one in found if one.score >= fields.min_score and one.relation in fields.kinds]
    return SearchAnswer(model_name=model_name, matches=[_shown(one) for one in wanted[: fields.k]])
