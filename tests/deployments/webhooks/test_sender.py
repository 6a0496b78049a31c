"""Events reach real local servers: after failures, in order per image, at least once, and nobody is held up by another."""

import asyncio
import contextlib
import os
import signal
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine

from configs.settings import Settings
from deployments.webhooks.client import WebhookClient
from deployments.webhooks.sender import Sender, pause_s
from storage import delivery_log, webhooks
from storage.event_tables import Webhook
from storage.outbox import EventType, emit
from tests.deployments.webhooks.conftest import MakeSender, MakeWebhook
from tests.events import Received, Receiver, answers, happen, held_back, records, sending, settled, until


async def test_what_cannot_be_given_up_keeps_nothing_from_being_pruned(
    engine: AsyncEngine, make_sender: MakeSender, caplog: pytest.LogCaptureFixture
) -> None:
    await happen(engine, 1, 2)
    async with engine.begin() as connection:
        await connection.execute(text("UPDATE event SET created_at = created_at - interval '1 day'"))
    await make_sender(webhook_max_age_s=1e300, webhook_keep_s=60.0)  # an interval that PostgreSQL refuses

    async def pruned() -> bool:
        async with engine.connect() as connection:
            return not await connection.scalar(text("SELECT count(*) FROM event"))

    assert await until(pruned)
    assert "could not be swept (expire)" in caplog.text


async def test_a_server_that_fails_three_times_gets_everything_in_order(
    engine: AsyncEngine, make_sender: MakeSender, webhook: MakeWebhook
) -> None:
    tries: Counter[str] = Counter()

    async def behave(received: Received) -> tuple[int, dict[str, str]]:
        tries[received.message_id] += 1
        return (500 if len(receiver.received) <= 3 else 204), {}

    async with Receiver(behave) as receiver:
        held = await webhook(receiver)
        await happen(engine, 1, 2, 1, None, 2, 1)
        await happen(engine, 1, type=EventType.IMAGE_DELETED)
        await make_sender()
        done = await settled(engine, held, 7)
    assert {one.state for one in done} == {"delivered"} and sum(one.attempt for one in done) == 10
    for image in (1, 2):
        wanted = [one.message_id for one in done if one.image_id == image]
        assert [one.message_id for one in receiver.taken if one.content["data"].get("image_id") == image] == wanted
        # None was even tried while an earlier one of its image was under way or to be tried again.
        tried = [one.message_id for one in receiver.received if one.content["data"].get("image_id") == image]
        assert tried == sorted(tried, key=wanted.index)
    assert len(receiver.taken) == len({one.message_id for one in receiver.taken}) == 7
    assert sum(tries.values()) == 10, "the same webhook-id for every try"
    assert all(one.is_signed_with(held.secret) for one in receiver.received)
    last = next(one for one in receiver.taken if one.content["type"] == "image.deleted")
    assert last.content["data"] == {"image_id": 1, "place": 0} and last.line == "POST /hook?a=1 HTTP/1.1"
    assert last.headers["content-type"] == "application/json"
    shown = await webhooks.get(engine, held.id or 0)
    assert (shown.failures, shown.failing_since, shown.last_error) == (0, None, None) and shown.last_success_at


async def test_an_event_wakes_the_sender(engine: AsyncEngine, servers: Settings, webhook: MakeWebhook) -> None:
    client = WebhookClient(sending(servers))
    sender = Sender(engine, sending(servers), client, idle_s=30.0)
    async with Receiver() as receiver:
        await webhook(receiver)
        await sender.start()
        try:
            begun = time.monotonic()
            while not receiver.taken and time.monotonic() - begun < 25:  # listening begins in the background
                await happen(engine, None)
                await asyncio.sleep(0.2)
            assert receiver.taken
        finally:
            await sender.close()
            await client.close()
    with pytest.raises(RuntimeError, match="has stopped"):
        sender.check()


async def test_one_that_hangs_holds_up_nobody(
    engine: AsyncEngine, make_sender: MakeSender, webhook: MakeWebhook
) -> None:
    released = asyncio.Event()
    async with Receiver(held_back(released)) as hanging, Receiver() as well:
        ill, other = await webhook(hanging), await webhook(well)
        await happen(engine, *range(1, 21))
        sender = await make_sender(webhook_timeout_s=120.0)
        await hanging.until(lambda receiver: len(receiver.received) == 8)
        assert {one.state for one in await settled(engine, other, 20)} == {"delivered"}
        assert {one.state for one in await records(engine, ill)} == {"waiting"}
        assert len(hanging.received) == sender.in_work == 8, "only so many at a time"
        released.set()
        assert {one.state for one in await settled(engine, ill, 20)} == {"delivered"}


async def test_one_that_hangs_ends_after_its_time(
    engine: AsyncEngine, make_sender: MakeSender, webhook: MakeWebhook
) -> None:
    never = asyncio.Event()
    async with Receiver(held_back(never)) as hanging:
        ill = await webhook(hanging)
        await happen(engine, 1)
        await make_sender(webhook_timeout_s=0.4, webhook_connect_timeout_s=30.0, webhook_attempts=1)
        (dead,) = await settled(engine, ill, 1)
        assert (dead.state, dead.last_error) == ("dead", "no answer within 0.4 s")
        assert (await webhooks.get(engine, ill.id or 0)).failing_since
        never.set()


async def test_a_redirect_is_not_followed(engine: AsyncEngine, make_sender: MakeSender, webhook: MakeWebhook) -> None:
    async with Receiver() as inward:
        for status in (301, 302, 307, 308):
            async with Receiver(answers(status, location=inward.url)) as receiver:
                held = await webhook(receiver, types=[EventType.IMAGE_DECIDED])
                await happen(engine, 7)
                sender = await make_sender(webhook_attempts=1)
                (dead,) = await settled(engine, held, 1)
                await sender.close()
                assert (dead.state, dead.last_status) == ("dead", status)
                assert "redirects are not followed" in (dead.last_error or "")
                await webhooks.remove(engine, held.id or 0, actor="test")
        assert inward.received == []


async def test_500_for_ever_ends_as_a_dead_letter_after_the_last_try(
    engine: AsyncEngine, make_sender: MakeSender, webhook: MakeWebhook
) -> None:
    async with Receiver(answers(500)) as broken, Receiver() as well:
        ill, other = await webhook(broken), await webhook(well)
        await happen(engine, 1, 1)
        await make_sender(webhook_attempts=3)
        assert [one.state for one in await settled(engine, other, 2)] == ["delivered"] * 2
        first, second = await settled(engine, ill, 2)
        assert (first.state, first.attempt, first.last_status, first.last_error) == ("dead", 3, 500, "answered 500")
        assert (second.state, second.attempt) == ("dead", 3), "it came after the first was dead"
        assert [one.message_id for one in broken.received] == [first.message_id] * 3 + [second.message_id] * 3
        shown = await webhooks.get(engine, ill.id or 0)
        assert shown.enabled and shown.failing_since and shown.failures >= 5

        broken.behave = answers(200)
        assert await delivery_log.replay(engine, ill.id or 0, actor="test", dead=True) == 2
        replayed = await settled(engine, ill, 2)
        assert [one.state for one in replayed] == ["delivered"] * 2
        assert [one.message_id for one in broken.taken] == [first.message_id, second.message_id]
        assert (await webhooks.get(engine, ill.id or 0)).failing_since is None


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("https://no-such-host.invalid/", "the name no-such-host.invalid does not resolve"),
        ("http://127.0.0.1:1/", "no connection: Connection refused"),
        ("http://[::1]:1/", "not on the public internet"),
        ("http://169.254.169.254/latest/meta-data/", "not on the public internet"),
    ],
)
async def test_what_cannot_be_reached_says_why(
    engine: AsyncEngine, make_sender: MakeSender, webhook: MakeWebhook, url: str, said: str
) -> None:
    held = await webhook(url)
    await happen(engine, 1)
    await make_sender(webhook_attempts=2)
    (dead,) = await settled(engine, held, 1)
    assert (dead.state, dead.attempt) == ("dead", 2) and said in (dead.last_error or "")


async def test_410_disables_the_webhook(engine: AsyncEngine, make_sender: MakeSender, webhook: MakeWebhook) -> None:
    async with Receiver(answers(410)) as receiver:
        held = await webhook(receiver)
        await happen(engine, 1, 1)
        await make_sender()

        async def gone() -> Webhook | None:
            found = await webhooks.get(engine, held.id or 0)
            return None if found.enabled else found

        shown = await until(gone)
        assert "410" in (shown.disabled_reason or "")
        await happen(engine, 1)
        states = [one.state for one in await records(engine, held)]
        assert states == ["waiting", "dead"], "nothing is kept of what happens while it is disabled"
        assert len(receiver.received) == 1
        receiver.behave = answers(200)
        await webhooks.change(engine, held.id or 0, enabled=True, actor="test")
        assert [one.state for one in await settled(engine, held, 2)] == ["dead", "delivered"]


async def test_a_receiver_that_asks_for_a_pause_gets_it(
    engine: AsyncEngine, make_sender: MakeSender, webhook: MakeWebhook
) -> None:
    async with Receiver(answers(429, Retry_After="3600")) as receiver:
        held = await webhook(receiver)
        await happen(engine, 1)
        await make_sender(webhook_retry_max_s=100.0)

        async def tried() -> bool:
            return (await records(engine, held))[0].last_status == 429

        await until(tried)
        (waiting,) = await records(engine, held)
        assert waiting.next_try_at and 80 < (waiting.next_try_at - waiting.created_at).total_seconds() < 200


async def test_both_secrets_sign_after_a_rotation(
    engine: AsyncEngine, make_sender: MakeSender, webhook: MakeWebhook
) -> None:
    async with Receiver() as receiver:
        held = await webhook(receiver)
        rotated = await webhooks.rotate(engine, held.id or 0, keep_s=60, actor="test")
        await make_sender()
        await happen(engine, 1)
        await receiver.until(lambda one: len(one.taken) == 1)
        assert receiver.taken[0].is_signed_with(held.secret) and receiver.taken[0].is_signed_with(rotated.secret)
        at_once = await webhooks.rotate(engine, held.id or 0, keep_s=0, actor="test")
        await happen(engine, 1)
        await receiver.until(lambda one: len(one.taken) == 2)
        assert receiver.taken[1].is_signed_with(at_once.secret)
        assert not receiver.taken[1].is_signed_with(rotated.secret) and not receiver.taken[1].is_signed_with(
            held.secret
        )


async def test_a_rollback_sends_nothing(engine: AsyncEngine, make_sender: MakeSender, webhook: MakeWebhook) -> None:
    async with Receiver() as receiver:
        await webhook(receiver)
        await make_sender()
        with pytest.raises(ZeroDivisionError):
            async with engine.begin() as connection:
                await emit(connection, EventType.IMAGE_DECIDED, 1, {"never": True})
                raise ZeroDivisionError
        await happen(engine, 1)
        await receiver.until(lambda one: len(one.taken) == 1)
        assert "never" not in receiver.received[0].content["data"]


async def test_closing_waits_for_what_is_under_way(
    engine: AsyncEngine, make_sender: MakeSender, webhook: MakeWebhook
) -> None:
    released = asyncio.Event()
    async with Receiver(held_back(released)) as receiver:
        held = await webhook(receiver)
        sender = await make_sender(webhook_timeout_s=60.0)
        await happen(engine, 1)
        await receiver.until(lambda one: len(one.received) == 1)
        sender.check()
        assert sender.in_work == 1
        closing = asyncio.create_task(sender.close())
        await asyncio.sleep(0.3)
        assert not closing.done()
        released.set()
        await closing
        assert [one.state for one in await records(engine, held)] == ["delivered"]
        with pytest.raises(RuntimeError, match="send loop"):
            sender.check()


async def test_lost_connections_to_the_database_lose_no_event(
    engine: AsyncEngine, make_sender: MakeSender, webhook: MakeWebhook
) -> None:
    """All are cut again and again while events are sent; what could not be recorded is sent anew with its old id."""

    async def cut() -> None:
        others = "pid <> pg_backend_pid() AND datname = current_database()"
        statement = f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {others}"
        async with engine.begin() as connection:
            await connection.execute(text(statement))

    async def slowly(_: Received) -> tuple[int, dict[str, str]]:
        await asyncio.sleep(0.02)
        return 200, {}

    async with Receiver(slowly) as receiver:
        held = await webhook(receiver)
        await happen(engine, *(n // 3 for n in range(60)))
        sender = await make_sender(webhook_timeout_s=0.5, webhook_connect_timeout_s=0.4)
        for count in (10, 25, 40):
            await receiver.until(lambda one, count=count: len(one.received) >= count)  # type: ignore[misc]
            with contextlib.suppress(DBAPIError):
                await cut()
        done = await settled(engine, held, 60)
        sender.check()
    assert {one.state for one in done} == {"delivered"}
    for image in range(20):
        wanted = [one.message_id for one in done if one.image_id == image]
        seen = dict.fromkeys(one.message_id for one in receiver.taken if one.content["data"]["image_id"] == image)
        assert list(seen) == wanted


async def test_kill_9_in_the_middle_loses_nothing(
    engine: AsyncEngine, make_sender: MakeSender, webhook: MakeWebhook, servers: Settings
) -> None:
    """A process is killed while a receiver has its requests and has not answered; another one sends them again."""
    released = asyncio.Event()

    async def behave(_: Received) -> tuple[int, dict[str, str]]:
        await released.wait()
        return 200, {}

    async with Receiver(behave) as receiver:
        held = await webhook(receiver)
        await happen(engine, 1, 1, 2, None)
        assert servers.database_url
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tests.deployments.webhooks.sending", cwd=Path(__file__).parents[3],
            env={
                **os.environ, "SAFEGUARD_HOME": str(servers.home),
                "SAFEGUARD_DATABASE_URL": servers.database_url.get_secret_value(),
                "SAFEGUARD_WEBHOOK_ALLOW_PRIVATE": "127.0.0.0/8",
                "SAFEGUARD_WEBHOOK_TIMEOUT_S": "0.5", "SAFEGUARD_WEBHOOK_CONNECT_TIMEOUT_S": "0.4",
            },
        )  # fmt: skip
        try:
            await receiver.until(lambda one: len(one.received) >= 3, 30.0)
        finally:
            process.send_signal(signal.SIGKILL)
            await process.wait()
        before = {one.message_id for one in receiver.received}
        assert len(before) == 3, "the second event of image 1 waits for the first"
        assert {one.state for one in await records(engine, held)} == {"waiting"}
        released.set()
        await make_sender()
        done = await settled(engine, held, 4)
        assert {one.state for one in done} == {"delivered"}
        seen = Counter(one.message_id for one in receiver.received)
        assert set(seen) == {one.message_id for one in done} and all(seen[one] >= 2 for one in before)
        first, second = (one.message_id for one in done if one.image_id == 1)
        order = [one.message_id for one in receiver.received]
        assert order.index(second) > max(n for n, one in enumerate(order) if one == first)


def test_pauses_grow_up_to_a_limit_and_differ(servers: Settings) -> None:
    settings = servers.model_copy(update={"webhook_retry_s": 1.0, "webhook_retry_max_s": 100.0})
    for attempt, middle in ((1, 1), (2, 3), (3, 9), (4, 27), (6, 100), (10_000, 100)):
        drawn = {pause_s(attempt, settings) for _ in range(50)}
        assert len(drawn) > 10 and min(drawn) >= 0.8 * middle and max(drawn) <= 1.2 * middle
    defaults = Settings()
    total = sum(pause_s(attempt, defaults) / 1.2 for attempt in range(1, defaults.webhook_attempts))
    assert total > 24 * 3600 / 1.2, "a receiver may be down for a day"
