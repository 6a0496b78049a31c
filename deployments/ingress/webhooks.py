"""Webhooks: made, changed, tested, replayed. Events are sent by the WebhookSender, not here."""

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from starlette.status import HTTP_201_CREATED, HTTP_202_ACCEPTED, HTTP_204_NO_CONTENT

from deployments.ingress.access import Scope
from deployments.ingress.body import read_json
from deployments.ingress.context import UsesEngine, UsesGuard, UsesSettings
from deployments.ingress.documents import problems, sent, shown
from deployments.ingress.schemas import MAX_ID
from deployments.ingress.webhook_schemas import (
    DeliveryShown,
    NewWebhook,
    Replay,
    Replayed,
    TestSent,
    WebhookChange,
    WebhookId,
    WebhookShown,
    WebhookWithSecret,
)
from storage import delivery_log, webhooks
from storage.event_tables import DeliveryState, Webhook
from storage.keys import Principal

router = APIRouter(tags=["webhooks"])
_Admin = Annotated[Principal, Scope("admin")]
_URL = "https://example.com/safeguard"
_WEBHOOK = {
    "id": 1,
    "url": _URL,
    "types": ["image.decided", "image.failed"],
    "description": "the forum",
    "enabled": True,
    "disabled_reason": None,
    "created_by": "first-key",
    "created_at": "2024-11-01T10:00:00+00:00",
    "last_success_at": "2024-11-01T10:05:00+00:00",
    "failing_since": "2024-11-01T10:06:00+00:00",
    "failures": 2,
    "last_error": "answered 500",
    "paused_until": "2024-11-01T10:07:00+00:00",
    "waiting": 3,
    "oldest_waiting": "2024-11-01T10:05:58+00:00",
    "dead": 0,
}
_SECRET = {"secret": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"}
_MADE = {
    **_WEBHOOK, **_SECRET, "last_success_at": None, "failing_since": None, "failures": 0, "last_error": None,
    "paused_until": None, "waiting": 0, "oldest_waiting": None,
}  # fmt: skip
_DELIVERY = {
    "event_id": 17,
    "message_id": "evt_17_625d8a4f3c000",
    "type": "image.decided",
    "image_id": 7,
    "created_at": "2024-11-01T10:05:58+00:00",
    "state": "delivered",
    "attempt": 4,
    "next_try_at": None,
    "delivered_at": "2024-11-01T10:06:30+00:00",
    "last_status": 204,
    "last_error": None,
}


async def _shown(engine: UsesEngine, webhook: Webhook) -> WebhookShown:
    assert webhook.id is not None
    return WebhookShown.of(webhook, (await webhooks.backlogs(engine, [webhook.id]))[webhook.id])


@router.get(
    "/webhooks",
    summary="Webhooks",
    response_model=list[WebhookShown],
    responses={200: shown([_WEBHOOK], "All, by id"), **problems()},
)
async def list_webhooks(_: _Admin, engine: UsesEngine) -> list[WebhookShown]:
    """Those that fail say since when and why."""
    found = await webhooks.listing(engine)
    backlogs = await webhooks.backlogs(engine, [one.id for one in found if one.id is not None])
    return [WebhookShown.of(one, backlogs[one.id]) for one in found if one.id is not None]


@router.post(
    "/webhooks",
    summary="Add a webhook",
    status_code=HTTP_201_CREATED,
    response_model=WebhookWithSecret,
    responses={
        201: shown(
            _MADE, "The webhook with its secret, which is never shown again",
            headers={"Location": {"schema": {"type": "string"}, "description": "address of the webhook"}},
        ),
        **problems(409),
    },
    openapi_extra=sent(NewWebhook, {"url": _URL, "types": ["image.decided"]}),
)  # fmt: skip
async def create_webhook(
    request: Request, response: Response, caller: _Admin, engine: UsesEngine, guard: UsesGuard
) -> WebhookWithSecret:
    """It is told of what happens from now on, in the Standard Webhooks format. The name in the address must resolve, and
    must lead nowhere private unless the settings allow it."""
    wanted = await read_json(request, NewWebhook)
    url = await guard.check(wanted.url)
    made = await webhooks.create(
        engine, url, types=wanted.types, description=wanted.description, created_by=caller.name
    )  # fmt: skip
    response.headers["Location"] = request.url_for("get_webhook", webhook_id=made.id).path
    return WebhookWithSecret.of(made, webhooks.Backlog(), secret=made.secret)


@router.get(
    "/webhooks/{webhook_id}",
    summary="One webhook",
    response_model=WebhookShown,
    responses={200: shown(_WEBHOOK, "How it goes"), **problems(404)},
)
async def get_webhook(webhook_id: WebhookId, _: _Admin, engine: UsesEngine) -> WebhookShown:
    """Since when it fails and why, and what waits."""
    return await _shown(engine, await webhooks.get(engine, webhook_id))


@router.patch(
    "/webhooks/{webhook_id}",
    summary="Change a webhook",
    response_model=WebhookShown,
    responses={200: shown(_WEBHOOK, "The webhook as it is now"), **problems(404)},
    openapi_extra=sent(WebhookChange, {"enabled": True}),
)
async def change_webhook(
    request: Request, webhook_id: WebhookId, caller: _Admin, engine: UsesEngine, guard: UsesGuard
) -> WebhookShown:
    """While it is disabled nothing is sent: what waits stays, and what happens can be replayed later."""
    wanted = await read_json(request, WebhookChange)
    url = None if wanted.url is None else await guard.check(wanted.url)
    changed = await webhooks.change(
        engine, webhook_id, url=url, types=wanted.types, description=wanted.description, enabled=wanted.enabled,
        actor=caller.name,
    )  # fmt: skip
    return await _shown(engine, changed)


@router.delete(
    "/webhooks/{webhook_id}",
    summary="Delete a webhook",
    status_code=HTTP_204_NO_CONTENT,
    responses={204: {"description": "It and what waited for it are deleted"}, **problems(404)},
)
async def delete_webhook(webhook_id: WebhookId, caller: _Admin, engine: UsesEngine) -> None:
    """Also deletes what was to be sent to it."""
    await webhooks.remove(engine, webhook_id, actor=caller.name)


@router.post(
    "/webhooks/{webhook_id}/rotate",
    summary="Give a webhook another secret",
    response_model=WebhookWithSecret,
    responses={
        200: shown({**_WEBHOOK, **_SECRET}, "The webhook with its new secret, which is never shown again"),
        **problems(404),
    },
)
async def rotate_webhook(
    webhook_id: WebhookId, caller: _Admin, engine: UsesEngine, settings: UsesSettings
) -> WebhookWithSecret:
    """For a while messages carry signatures with both secrets, so the receiver can change over at its leisure."""
    rotated = await webhooks.rotate(engine, webhook_id, keep_s=settings.webhook_rotation_s, actor=caller.name)
    backlog = (await webhooks.backlogs(engine, [webhook_id]))[webhook_id]
    return WebhookWithSecret.of(rotated, backlog, secret=rotated.secret)


@router.post(
    "/webhooks/{webhook_id}/test",
    summary="Send a test event",
    status_code=HTTP_202_ACCEPTED,
    response_model=TestSent,
    responses={202: shown({"event_id": 17}, "It is being sent; see the deliveries"), **problems(404, 409)},
)
async def test_webhook(webhook_id: WebhookId, caller: _Admin, engine: UsesEngine) -> TestSent:
    """An event `webhook.test`, whatever the webhook wants."""
    return TestSent(event_id=await webhooks.test(engine, webhook_id, actor=caller.name))


@router.get(
    "/webhooks/{webhook_id}/deliveries",
    summary="What became of events",
    response_model=list[DeliveryShown],
    responses={200: shown([_DELIVERY], "Newest event first"), **problems(404)},
)
async def list_deliveries(
    webhook_id: WebhookId,
    _: _Admin,
    engine: UsesEngine,
    state: Annotated[DeliveryState | None, Query(description="only these")] = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    before: Annotated[
        int | None, Query(ge=1, le=MAX_ID, description="event_id of the last one of the page before")
    ] = None,
) -> list[DeliveryShown]:
    """Waiting ones with the time of the next try, delivered ones, and dead ones with the last error."""
    states = [state] if state else list(DeliveryState)
    found = await delivery_log.listing(engine, webhook_id, states=states, before=before, limit=limit)
    return [DeliveryShown(**vars(one)) for one in found]


@router.post(
    "/webhooks/{webhook_id}/replay",
    summary="Send events again",
    response_model=Replayed,
    responses={200: shown({"replayed": 3}, "They are being sent"), **problems(404, 409)},
    openapi_extra=sent(Replay, {"dead": True}),
)
async def replay_events(request: Request, webhook_id: WebhookId, caller: _Admin, engine: UsesEngine) -> Replayed:
    """What was given up, all since a time, or one event. Each keeps its `webhook-id`, so a receiver that drops repeats
    takes only what it lacks."""
    wanted = await read_json(request, Replay)
    count = await delivery_log.replay(
        engine, webhook_id, actor=caller.name, dead=wanted.dead, since=wanted.since, event_id=wanted.event_id
    )  # fmt: skip
    return Replayed(replayed=count)
