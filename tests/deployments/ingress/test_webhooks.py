"""Webhooks through the API: the secret is shown once, bad addresses are told at once, deliveries are listed and replayed."""

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from deployments.webhooks.client import WebhookClient
from deployments.webhooks.sender import Sender
from storage.outbox import EventType, emit_many
from tests.deployments.ingress.conftest import MakeApp, MakeClient, Upload, is_problem
from tests.events import LOOPBACK, Receiver, answers, forget_events, sending, until


@pytest.fixture
async def admin(make_app: MakeApp, make_client: MakeClient, engine: AsyncEngine) -> AsyncIterator[httpx.AsyncClient]:
    yield await make_client("admin", target=await make_app(webhook_allow_private=LOOPBACK))
    await forget_events(engine)


async def make(admin: httpx.AsyncClient, url: str = "https://127.0.0.1/hook", **more: Any) -> dict[str, Any]:
    answer = await admin.post("/webhooks", json={"url": url, **more})
    assert answer.status_code == 201, answer.text
    made: dict[str, Any] = answer.json()
    assert answer.headers["location"] == f"/api/v1/webhooks/{made['id']}"
    return made


async def test_the_secret_is_shown_once(admin: httpx.AsyncClient) -> None:
    made = await make(admin, types=["image.decided"], description="Ы'\"")
    secret = made.pop("secret")
    assert secret.startswith("whsec_") and made["enabled"] and made["waiting"] == made["dead"] == 0
    assert (await admin.get(f"/webhooks/{made['id']}")).json() == made
    assert (await admin.get("/webhooks")).json() == [made]
    rotated = (await admin.post(f"/webhooks/{made['id']}/rotate")).json()
    assert rotated["secret"].startswith("whsec_") and rotated["secret"] != secret
    changed = await admin.patch(f"/webhooks/{made['id']}", json={"enabled": False, "types": []})
    assert changed.json()["types"] == [] and changed.json()["disabled_reason"].startswith("disabled by ")
    assert "whsec_" not in changed.text + (await admin.get("/webhooks")).text
    assert (await admin.delete(f"/webhooks/{made['id']}")).status_code == 204
    is_problem(await admin.delete(f"/webhooks/{made['id']}"), 404)


@pytest.mark.parametrize(
    ("sent", "said"),
    [
        ({}, "url"),
        ({"url": "https://no-such-host.invalid/"}, "the name no-such-host.invalid does not resolve"),
        ({"url": "https://10.0.0.1/"}, "not on the public internet"),
        ({"url": "http://93.184.215.14/"}, "ALLOW_HTTP"),
        ({"url": "not an address"}, "https://host/path"),
        ({"url": "https://127.0.0.1/\x00"}, "url"),
        ({"url": "https://127.0.0.1/" + "a" * 3000}, "url"),
        ({"url": "https://127.0.0.1/", "types": ["image.eaten"]}, "image.processed"),
        ({"url": "https://127.0.0.1/", "description": "a\x00b"}, "description"),
        ({"url": "https://127.0.0.1/", "secret": "whsec_own"}, "secret"),
        ({"url": 7}, "url"),
    ],
)
async def test_bad_input(admin: httpx.AsyncClient, sent: dict[str, Any], said: str) -> None:
    problem = is_problem(await admin.post("/webhooks", json=sent), 422)
    assert said in str(problem) and problem["errors"]
    assert (await admin.get("/webhooks")).json() == []
    if "url" in sent:
        made = await make(admin)
        is_problem(await admin.patch(f"/webhooks/{made['id']}", json=sent), 422)
        made.pop("secret")
        assert (await admin.get(f"/webhooks/{made['id']}")).json() == made


@pytest.mark.parametrize(
    "sent",
    [
        {},
        {"dead": True, "event_id": 1},
        {"since": "2024-11-01T10:00:00"},
        {"since": "yesterday"},
        {"event_id": 0},
        {"event_id": 2**63},
        {"dead": True, "colour": "red"},
    ],
)
async def test_a_replay_wants_exactly_one_thing(admin: httpx.AsyncClient, sent: dict[str, Any]) -> None:
    made = await make(admin)
    is_problem(await admin.post(f"/webhooks/{made['id']}/replay", json=sent), 422)


async def test_times_far_away_are_no_error(admin: httpx.AsyncClient) -> None:
    made = await make(admin)
    for since in ("0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-12:00"):
        answer = await admin.post(f"/webhooks/{made['id']}/replay", json={"since": since})
        assert answer.status_code in (200, 422), answer.text


async def test_nothing_there(admin: httpx.AsyncClient) -> None:
    calls = [("GET", "", None), ("PATCH", "", {"enabled": True}), ("DELETE", "", None), ("POST", "/rotate", None),
             ("POST", "/test", None), ("GET", "/deliveries", None), ("POST", "/replay", {"dead": True})]  # fmt: skip
    for method, path, body in calls:
        is_problem(await admin.request(method, f"/webhooks/999999999{path}", json=body), 404)
    is_problem(await admin.get(f"/webhooks/{2**63}"), 422)
    made = await make(admin)
    is_problem(await admin.post(f"/webhooks/{made['id']}/replay", json={"event_id": 999999999999}), 404)
    is_problem(await admin.get(f"/webhooks/{made['id']}/deliveries?state=lost"), 422)


async def test_what_became_of_events(admin: httpx.AsyncClient, engine: AsyncEngine, upload: Upload) -> None:
    """From the upload's deletion to the receiver, through failures and a replay."""
    async with Receiver(answers(500)) as receiver:
        made = await make(admin, receiver.url)
        image = await upload()
        assert (await admin.delete(f"/image/{image}")).status_code in (200, 204)
        tested = (await admin.post(f"/webhooks/{made['id']}/test")).json()["event_id"]
        settings = sending((await _settings(admin)), webhook_attempts=2)
        client = WebhookClient(settings)
        sender = Sender(engine, settings, client, idle_s=0.05)
        await sender.start()
        try:

            async def states(wanted: str) -> bool:
                found = (await admin.get(f"/webhooks/{made['id']}/deliveries")).json()
                return [one["state"] for one in found] == [wanted] * 2

            await until(lambda: states("dead"))
            shown = (await admin.get(f"/webhooks/{made['id']}")).json()
            assert (shown["dead"], shown["failures"], shown["last_error"]) == (2, 4, "answered 500")
            assert shown["failing_since"]
            receiver.behave = answers(202)
            assert (await admin.post(f"/webhooks/{made['id']}/replay", json={"dead": True})).json() == {"replayed": 2}
            await until(lambda: states("delivered"))
        finally:
            await sender.close()
            await client.close()
    newest, deleted = (await admin.get(f"/webhooks/{made['id']}/deliveries?state=delivered")).json()
    assert (newest["event_id"], newest["type"]) == (tested, "webhook.test")
    assert (deleted["type"], deleted["image_id"], deleted["last_status"]) == ("image.deleted", image, 202)
    (sent,) = [one for one in receiver.taken if one.message_id == deleted["message_id"]]
    assert sent.is_signed_with(made["secret"]) and len(sent.content["data"]["sha256"]) == 64


async def _settings(admin: httpx.AsyncClient) -> Any:
    return admin._transport.app.state.context.settings  # type: ignore[attr-defined]


async def test_a_disabled_webhook_cannot_be_tested(admin: httpx.AsyncClient) -> None:
    made = await make(admin)
    await admin.patch(f"/webhooks/{made['id']}", json={"enabled": False})
    assert "enable it first" in is_problem(await admin.post(f"/webhooks/{made['id']}/test"), 409)["detail"]


async def test_pages(admin: httpx.AsyncClient, engine: AsyncEngine) -> None:
    made = await make(admin)
    async with engine.begin() as connection:
        await emit_many(connection, [(EventType.IMAGE_DECIDED, None, {"n": n}) for n in range(5)])
    address = f"/webhooks/{made['id']}/deliveries"
    first = (await admin.get(f"{address}?limit=3&state=waiting")).json()
    rest = (await admin.get(f"{address}?limit=3&before={first[-1]['event_id']}")).json()
    assert len(first) == 3 and len(rest) == 2
    assert len({one["event_id"] for one in first + rest}) == 5
