"""GET /models."""

from typing import Any
from uuid import uuid4

import httpx
from fastapi import FastAPI
from sqlalchemy.ext.asyncio import AsyncEngine

from configs.models import Alternative, ModelRegistry, load_models
from configs.settings import Settings
from deployments.pipeline.limits import networks_of
from storage import calibrations, generations
from storage.tables import Calibration
from tests.deployments.ingress.conftest import MakeApp, MakeClient, Upload


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


async def test_the_generations_of_a_model(make_app: MakeApp, make_client: MakeClient, engine: AsyncEngine) -> None:
    shipped = load_models(Settings.model_fields["models_file"].default)
    spec = shipped[shipped.default]
    name = f"shown-{uuid4().hex[:10]}"
    strict = spec.thresholds.model_copy(update={"copy_confidence": 0.75})
    model = spec.model_copy(update={"name": name, "alternatives": {"next@1": Alternative(thresholds=strict)}})
    other = spec.descriptor.model_copy(update={"name": "next@1"})
    registry = ModelRegistry({name: model}, name, {other.name: other})
    client = await make_client("image:read", target=await make_app({"registry": registry}))
    with_other = registry.with_descriptor(name, "next@1")
    measured = {"model_name": name, "relation": "copy", "mode": "active", "threshold": 0.6, "wanted_precision": 0.9,
                "precision": 0.95, "recall": 0.8, "pictures": 50, "queries": 90}  # fmt: skip
    await calibrations.save(engine, [Calibration(networks=networks_of(one), **measured) for one in (model, with_other)])

    async def shown() -> dict[str, Any]:
        (one,) = (await client.get("/models")).json()["models"]
        return one

    first = await shown()
    assert first["generations"] == [] and first["descriptor"] == spec.descriptor_name
    assert first["thresholds"]["copy"] == spec.thresholds.copy_confidence
    await generations.ensure_live(engine, {name: spec.descriptor_name})
    await generations.begin(engine, name, "next@1")
    second = await shown()
    states = [(one["descriptor"], one["state"]) for one in second["generations"]]
    assert states == [(spec.descriptor_name, "live"), ("next@1", "building")]
    assert all(one["changed_at"].endswith("+00:00") for one in second["generations"])
    assert [one["valid"] for one in second["calibrations"]] == [
        one == networks_of(model) for one in await kept(engine, name)
    ]
    await generations.switch(engine, name)
    third = await shown()
    assert [(one["descriptor"], one["state"]) for one in third["generations"]] == [
        ("next@1", "live"), (spec.descriptor_name, "previous"),
    ]  # fmt: skip
    assert third["descriptor"] == spec.descriptor_name, "the file still names the old one: this shows that they differ"
    assert third["thresholds"]["copy"] == 0.75
    assert [one["valid"] for one in third["calibrations"]] == [
        one == networks_of(with_other) for one in await kept(engine, name)
    ]


async def kept(engine: AsyncEngine, name: str) -> list[str]:
    return [one.networks for one in await calibrations.current(engine, name)]
