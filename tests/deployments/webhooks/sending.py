"""A process that sends until it is killed: ``python -m tests.deployments.webhooks.sending`` with SAFEGUARD_* set."""

import asyncio

from configs.settings import load_settings
from deployments.webhooks.client import WebhookClient
from deployments.webhooks.sender import Sender
from storage.database import create_engine


async def main() -> None:
    settings = load_settings()
    sender = Sender(create_engine(settings, pool_size=2), settings, WebhookClient(settings))
    await sender.start()
    await asyncio.Event().wait()


asyncio.run(main())
