"""GET /models."""

import httpx
from fastapi import FastAPI

from tests.deployments.ingress.conftest import Upload


async def test_known_models_and_used_queues(
    app: FastAPI, client: httpx.AsyncClient, upload: Upload, queue: str
) -> None:
    registry = app.state.context.registry
    await upload()
    await upload()
    await client.get(f"/image/poll/{queue}")
    await client.get(f"/image/poll/{registry.default}-misspelt")
    await client.get(f"/image/poll/{registry.default}")
    shown = (await client.get("/models")).json()
    assert [model["name"] for model in shown["models"]] == registry.known()
    assert [model["name"] for model in shown["models"] if model["default"]] == [registry.default]
    first = shown["models"][0]
    spec = registry[first["name"]]
    assert first["descriptor"] == spec.descriptor_name and first["description"] == spec.description
    queues = {one["model_name"]: one for one in shown["queues"]}
    assert queues[queue].pop("last_polled_at").endswith("+00:00")
    assert queues[queue] == {"model_name": queue, "waiting": 1, "processing": 1, "known": False}
    assert queues[registry.default]["known"] is True
    assert queues[f"{registry.default}-misspelt"]["waiting"] == 0
