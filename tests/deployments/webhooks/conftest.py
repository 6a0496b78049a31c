"""Senders on real PostgreSQL, with small times."""

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from configs.settings import Settings
from deployments.webhooks.client import WebhookClient
from deployments.webhooks.sender import Sender
from storage import webhooks
from storage.event_tables import Webhook
from tests.events import Receiver, forget_events, sending

MakeSender = Callable[..., Awaitable[Sender]]
MakeWebhook = Callable[..., Awaitable[Webhook]]


@pytest.fixture(autouse=True)
async def no_events(engine: AsyncEngine) -> AsyncIterator[None]:
    yield
    await forget_events(engine)


@pytest.fixture
async def make_sender(engine: AsyncEngine, servers: Settings, no_events: None) -> AsyncIterator[MakeSender]:
    made: list[tuple[Sender, WebhookClient]] = []

    async def make(**settings: Any) -> Sender:
        options = sending(servers, **settings)
        client = WebhookClient(options)
        sender = Sender(engine, options, client, idle_s=0.05)
        made.append((sender, client))
        await sender.start()
        return sender

    yield make
    for sender, client in made:
        await sender.close()
        await client.close()


@pytest.fixture
def webhook(engine: AsyncEngine) -> MakeWebhook:
    async def make(receiver: Receiver | str, **more: Any) -> Webhook:
        url = receiver if isinstance(receiver, str) else receiver.url
        return await webhooks.create(engine, url, created_by="test", **more)

    return make
