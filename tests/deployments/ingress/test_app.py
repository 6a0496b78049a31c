"""The OpenAPI document: valid, complete, with examples that fit their schemas."""

from collections.abc import Iterator
from typing import Any

import httpx
import jsonschema
import pytest
import schemathesis
from fastapi import FastAPI

from deployments.ingress.documents import describe
from tests.deployments.ingress.conftest import MakeClient, picture

BASE = "http://restapi:8000"


@pytest.fixture
def document(app: FastAPI) -> dict[str, Any]:
    return describe(app)


def operations(document: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """(path, operation) of all."""
    for path, methods in document["paths"].items():
        for operation in methods.values():
            yield path, operation


async def test_it_is_served_and_valid(make_client: MakeClient, document: dict[str, Any]) -> None:
    nobody = await make_client()
    assert (await nobody.get(f"{BASE}/openapi.json")).json() == document
    assert "swagger" in (await nobody.get(f"{BASE}/docs")).text
    schemathesis.openapi.from_dict(document).validate()


def test_every_reference_leads_somewhere(document: dict[str, Any]) -> None:
    def references(value: Any) -> Iterator[str]:
        if isinstance(value, dict):
            yield from ([value["$ref"]] if isinstance(value.get("$ref"), str) else [])
            for one in value.values():
                yield from references(one)
        elif isinstance(value, list):
            for one in value:
                yield from references(one)

    found = set(references(document))
    assert "#/components/schemas/Problem" in found
    for reference in found:
        target: Any = document
        for part in reference.removeprefix("#/").split("/"):
            target = target[part]


def test_operations_are_tagged_guarded_and_described(document: dict[str, Any]) -> None:
    known = {tag["name"] for tag in document["tags"]}
    assert set(document["components"]["securitySchemes"]) == {"Bearer", "ApiKey"}
    for path, operation in operations(document):
        assert operation["summary"] and operation["description"] and set(operation["tags"]) <= known
        assert path.startswith("/health/") or operation["security"] == [{"Bearer": []}, {"ApiKey": []}]


def test_every_answer_has_an_example_that_fits(document: dict[str, Any]) -> None:
    checked = 0
    for _, operation in operations(document):
        for answer in operation["responses"].values():
            for media_type, content in answer.get("content", {}).items():
                if "json" not in media_type:
                    continue
                examples = [one["value"] for one in content.get("examples", {}).values()] or [content["example"]]
                for example in examples:
                    schema = {**content["schema"], "components": document["components"]}
                    jsonschema.Draft202012Validator(schema).validate(example)
                    checked += 1
    assert checked > 100


def test_examples_are_possible(document: dict[str, Any]) -> None:
    def example(path: str, method: str, status: int) -> Any:
        answers = document["paths"][f"/api/v1{path}"][method]["responses"]
        return answers[str(status)]["content"]["application/json"]["example"]

    assert not any(one["enabled"] and one["disabled_until"] for one in example("/banks", "get", 200))
    made = example("/banks", "post", 201)
    assert made["enabled"] and made["disabled_until"] is None and made["images"] == made["hashes"] == 0
    for one in example("/banks/{bank_id}/members", "get", 200):
        assert (one["image_id"] is None) != (one["pdq"] is None)
    assert example("/banks/{bank_id}/members/{member_id}/release", "post", 200)["member"]["quarantined_at"] is None
    begun = example("/lookbacks", "post", 201)
    assert begun["state"] == "waiting" and begun["worked_at"] is None and begun["failure"] is None
    webhook = example("/webhooks", "post", 201)
    assert webhook["failures"] == 0 and webhook["disabled_reason"] is None and ".example" not in webhook["url"]
    assert all(one["next_try_at"] is None for one in example("/webhooks/{webhook_id}/deliveries", "get", 200))


async def test_answers_fit_their_schemas(app: FastAPI, client: httpx.AsyncClient, queue: str) -> None:
    schema = schemathesis.openapi.from_dict(describe(app))
    form = {"name": "n", "model_name": queue}
    image_id = (await client.post("/image", data=form, files={"file": ("f", picture())})).json()["id"]
    polled = await client.get(f"/image/poll/{queue}")
    delivered = await client.post(polled.json()["img_callback_url"], json={"result": []})
    seen = [
        ("/image/poll/{model_name}", "GET", polled),
        ("/image/{image_id}/processed", "POST", delivered),
        ("/image/all", "GET", await client.get(f"/image/all?status=PROCESSED&after={image_id - 1}")),
        ("/search", "POST", await client.post("/search", data={"image_id": str(image_id)})),
        ("/models", "GET", await client.get("/models")),
    ]
    for tail in ("", "/processed", "/return_images", "/matches", "/detections", "/moderation", "/file"):
        seen.append((f"/image/{{image_id}}{tail}", "GET", await client.get(f"/image/{image_id}{tail}")))
        seen.append((f"/image/{{image_id}}{tail}", "GET", await client.get(f"/image/{2**62}{tail}")))
    for path, method, answer in seen:
        schema[f"/api/v1{path}"][method].validate_response(answer)
