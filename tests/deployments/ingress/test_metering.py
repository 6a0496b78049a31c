"""Answers are counted by the template of their route; refusals by their reason; nothing of a client becomes a label."""

from collections.abc import Iterator

import pytest
from fastapi import FastAPI

from deployments.metrics.local import LocalSink
from deployments.metrics.meters import recording_to
from tests.deployments.ingress.conftest import MakeClient, PdqPlatform, Upload, picture


@pytest.fixture
def sink() -> Iterator[LocalSink]:
    made = LocalSink()
    with recording_to(made):
        yield made


def requests(sink: LocalSink) -> dict[tuple[str, ...], float]:
    return sink.series("safeguard_http_requests_total")


async def test_routes_are_templates(sink: LocalSink, upload: Upload, make_client: MakeClient) -> None:
    image_id = await upload()
    client = await make_client("image:read")
    for _ in range(2):
        assert (await client.get(f"/image/{image_id}")).status_code == 200
    assert (await client.get("/image/999999999")).status_code == 404
    assert requests(sink) == {
        ("POST /image", "2xx"): 1,
        ("GET /image/{image_id}", "2xx"): 2,
        ("GET /image/{image_id}", "4xx"): 1,
    }
    assert sink.value("safeguard_http_seconds_total", route="GET /image/{image_id}") > 0
    assert sink.value("safeguard_http_latency_seconds") == 4


async def test_addresses_that_are_none_share_a_label(sink: LocalSink, make_client: MakeClient) -> None:
    client = await make_client("image:read")
    for number in range(5):
        await client.get(f"/no/such/{number}")
    assert requests(sink) == {("none", "4xx"): 5}


async def test_refusals_have_reasons(
    sink: LocalSink, app: FastAPI, make_client: MakeClient, platform: PdqPlatform
) -> None:
    nobody, reader = await make_client(), await make_client("image:read")
    assert (await nobody.get("/models")).status_code == 401
    assert (await reader.get("/image/poll/x")).status_code == 403
    platform.down = True
    assert (await reader.post("/search", files={"file": ("a", picture())})).status_code == 503
    platform.down, platform.crowded = False, True
    assert (await reader.post("/search", files={"file": ("a", picture())})).status_code == 503
    assert sink.series("safeguard_http_refusals_total") == {
        ("unauthenticated",): 1, ("forbidden",): 1, ("unavailable",): 1, ("crowded",): 1,
    }  # fmt: skip
