"""Examples of answers for OpenAPI: every error as a problem. Imports nothing that acts."""

from http import HTTPStatus
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel

from deployments.ingress.problems import MEDIA_TYPE, RETRY_AFTER_S, Problem

_EXAMPLES: dict[int, tuple[str, str]] = {
    400: ("bad-request", "Content-Length is not a number"),
    401: ("unauthenticated", "the key is unknown, expired or revoked"),
    403: ("forbidden", "this key lacks the scope image:write"),
    404: ("not-found", "there is no image 7"),
    409: ("conflict", "image 7 is PROCESSING"),
    413: ("too-large", "12000 × 12000 pixels are over the limit of 100000000"),
    415: ("unsupported-image", "the image is damaged or cut short"),
    422: ("invalid-input", "name: Field required"),
    429: ("rate-limited", "this key may make 60 requests a minute"),
    500: ("internal", "an internal error; it has been logged"),
    503: ("unavailable", "a part of the service does not answer; try again"),
    507: ("storage-full", "the object store is full"),
}
_HEADERS: dict[int, dict[str, Any]] = {
    401: {"WWW-Authenticate": {"schema": {"type": "string"}, "example": 'Bearer realm="safeguard"'}},
    429: {"Retry-After": {"schema": {"type": "integer"}, "description": "seconds", "example": 17}},
    503: {"Retry-After": {"schema": {"type": "integer"}, "description": "seconds", "example": RETRY_AFTER_S}},
}
_NULL = "\0null"
"""In place of each null of an example until the document is made: FastAPI leaves nulls out."""
ALWAYS = (401, 403, 413, 422, 429, 500, 503)
"""What any address that needs a key can answer."""


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The ``responses`` of a route: the common problems and ``statuses``."""
    responses: dict[int | str, dict[str, Any]] = {}
    for status in sorted({*ALWAYS, *statuses}):
        kind, detail = _EXAMPLES[status]
        title = HTTPStatus(status).phrase
        example: dict[str, Any] = {
            "type": f"urn:problem-type:{kind}",
            "title": title,
            "status": status,
            "detail": detail,
        }
        if status == 422:
            example["errors"] = [{"field": "name", "message": "Field required"}]
        responses[status] = {
            "description": title,
            "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}, "example": example}},
        }
        if status in _HEADERS:
            responses[status]["headers"] = _HEADERS[status]
    return responses


def _swapped(value: Any, old: str | None, new: str | None) -> Any:
    if isinstance(value, dict):
        return {name: _swapped(one, old, new) for name, one in value.items()}
    if isinstance(value, list):
        return [_swapped(one, old, new) for one in value]
    return new if value == old else value


def shown(example: Any, description: str, **more: Any) -> dict[str, Any]:
    """One good answer with its example."""
    content = {"application/json": {"example": _swapped(example, None, _NULL)}}
    return {"description": description, "content": content, **more}


def _whole(schema: Any, parts: dict[str, Any]) -> Any:
    """The schema with its parts in place of references, which would lead nowhere in the document."""
    if isinstance(schema, list):
        return [_whole(one, parts) for one in schema]
    if not isinstance(schema, dict):
        return schema
    if "$ref" in schema:
        return _whole(parts[schema["$ref"].rpartition("/")[2]], parts)
    return {name: _whole(one, parts) for name, one in schema.items()}


def sent(model: type[BaseModel], example: Any) -> dict[str, Any]:
    """``openapi_extra`` of a route that reads a JSON body by itself, after the key has been checked."""
    schema = model.model_json_schema()
    whole = _whole(schema, schema.pop("$defs", {}))
    content = {"application/json": {"schema": whole, "example": example}}
    return {"requestBody": {"required": True, "content": content}}


def describe(app: FastAPI) -> dict[str, Any]:
    """The OpenAPI document, made once: FastAPI's own, with the schema of problems in place of its error schemas."""
    if app.openapi_schema is None:
        document = get_openapi(
            title=app.title,
            version=app.version,
            summary=app.summary,
            description=app.description,
            routes=app.routes,
            tags=app.openapi_tags,
        )
        schemas = document.setdefault("components", {}).setdefault("schemas", {})
        problem = Problem.model_json_schema(ref_template="#/components/schemas/{model}")
        schemas.update(problem.pop("$defs"))
        schemas["Problem"] = problem
        document["paths"] = _swapped(document["paths"], _NULL, None)
        app.openapi_schema = document
    return app.openapi_schema
