"""Every queue has a bound: counted seldom, kept between two counts, and clients are told when to come back."""

import asyncio
from collections.abc import AsyncIterator
from uuid import uuid4

import httpx
import pytest
from sqlalchemy import event, text
from sqlalchemy.ext.asyncio import AsyncEngine

from configs.settings import Settings
from deployments.ingress.admission import AdmissionControl
from deployments.metrics.local import LocalSink
from deployments.metrics.meters import recording_to
from storage.errors import QueueFull
from tests.deployments.ingress.conftest import MakeApp, MakeClient, is_problem, picture
from tests.installation import own_engine
from tests.storage.test_figures import fill


class Clock:
    """Stands until it is moved."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
async def own(servers: Settings) -> AsyncIterator[AsyncEngine]:
    async with own_engine(servers) as engine:
        yield engine


async def claim_first(engine: AsyncEngine, count: int) -> None:
    """The first of those that wait are worked on."""
    async with engine.begin() as connection:
        await connection.execute(
            text(
                "UPDATE image SET status = 'PROCESSED' WHERE id IN"
                " (SELECT id FROM image WHERE status = 'UPLOADED' ORDER BY id LIMIT :count)"
            ),
            {"count": count},
        )


async def refusal(control: AdmissionControl, name: str = "m") -> QueueFull:
    with pytest.raises(QueueFull) as caught:
        await control.admit(name)
    return caught.value


async def test_what_was_let_in_since_the_count_is_counted(own: AsyncEngine) -> None:
    await fill(own, "m", "UPLOADED", 7)
    control = AdmissionControl(own, 10, {"m"}, clock=Clock())
    with recording_to(LocalSink()) as held:
        for _ in range(3):
            await control.admit("m")
        refused = await refusal(control)
        await control.admit("another queue")
        await refusal(AdmissionControl(own, 7, {}), "m")
        sink = held._sink
        assert isinstance(sink, LocalSink)
        assert sink.value("safeguard_uploads_refused_total", worker="pipeline") == 1
        assert sink.value("safeguard_uploads_refused_total", worker="outside") == 1
    assert "10 images of m wait" in str(refused) and refused.retry_after_s == 10


async def test_it_is_counted_once_a_second_however_many_come(own: AsyncEngine) -> None:
    await fill(own, "m", "UPLOADED", 20)
    clock, statements = Clock(), []
    event.listen(own.sync_engine, "before_cursor_execute", lambda *given: statements.append(given[2]))
    control = AdmissionControl(own, 1000, {"m"}, clock=clock)
    await asyncio.gather(*(control.admit("m") for _ in range(50)))
    assert len(statements) == 1
    clock.now += 0.9
    await control.admit("m")
    assert len(statements) == 1
    clock.now += 0.2
    await asyncio.gather(*(control.admit("m") for _ in range(50)))
    assert len(statements) == 2


async def test_a_database_that_does_not_answer_is_asked_by_one_of_those_who_wait(own: AsyncEngine) -> None:
    asked = []

    def fail(*given: object) -> None:
        asked.append(given)
        raise OSError("no route to the database")

    event.listen(own.sync_engine, "before_cursor_execute", fail)
    control = AdmissionControl(own, 1000, {"m"}, clock=Clock())
    ended = await asyncio.gather(*(control.admit("m") for _ in range(50)), return_exceptions=True)
    assert len(asked) == 1 and [one for one in ended if one is not None] == [ended[0]]


async def test_the_wait_is_what_a_twentieth_of_the_queue_takes(own: AsyncEngine) -> None:
    await fill(own, "m", "UPLOADED", 100)
    clock = Clock()
    control = AdmissionControl(own, 80, {"m"}, clock=clock)
    assert (await refusal(control)).retry_after_s == 10  # not known yet
    for _ in range(4):
        clock.now += 10
        await claim_first(own, 4)
        refused = await refusal(control)
    assert refused.retry_after_s == pytest.approx(80 * 0.05 / 0.4)
    clock.now += 10_000
    assert (await refusal(control)).retry_after_s == 120, "it stands"
    await claim_first(own, 80)
    clock.now += 2
    await control.admit("m")


async def test_a_first_second_in_which_nothing_ended_is_soon_forgotten(own: AsyncEngine) -> None:
    await fill(own, "m", "UPLOADED", 200)
    clock = Clock()
    control = AdmissionControl(own, 80, {"m"}, clock=clock)
    waits = [(await refusal(control)).retry_after_s]
    for ended in (0, 0, 0, 6, 0, 6, 0, 6):  # 2.25 a second, in batches
        clock.now += 1
        await claim_first(own, ended)
        waits.append((await refusal(control)).retry_after_s)
    assert max(waits) == 10 and waits[-1] == pytest.approx(80 * 0.05 / 2.25)
    clock.now += 30
    assert (await refusal(control)).retry_after_s == pytest.approx(80 * 0.05 * 38 / 18), "the mean of all that was seen"


async def test_many_are_told_to_stay_away_for_longer(own: AsyncEngine) -> None:
    await fill(own, "m", "UPLOADED", 10)
    clock = Clock()
    control = AdmissionControl(own, 10, {"m"}, clock=clock)
    waits = [(await refusal(control)).retry_after_s]
    for _ in range(3):
        await claim_first(own, 1)
        clock.now += 1
        await control.admit("m")
        await fill(own, "m", "UPLOADED", 1)
        waits += [(await refusal(control)).retry_after_s for _ in range(500)]
    assert waits[0] == 10 and 10 < max(waits) <= 120


async def test_a_quiet_time_does_not_count_as_slowness(own: AsyncEngine) -> None:
    clock = Clock()
    control = AdmissionControl(own, 50, {"m"}, clock=clock)
    for _ in range(3):  # one image an hour, each worked on at once
        await fill(own, "m", "UPLOADED", 1)
        await control.admit("m")
        await claim_first(own, 1)
        clock.now += 3600
    await fill(own, "m", "UPLOADED", 100)
    assert (await refusal(control)).retry_after_s == 10
    await claim_first(own, 25)
    clock.now += 1
    assert (await refusal(control)).retry_after_s == 1


async def test_no_limit_asks_nothing(own: AsyncEngine) -> None:
    statements: list[str] = []
    event.listen(own.sync_engine, "before_cursor_execute", lambda *given: statements.append(given[2]))
    await AdmissionControl(own, 0, {}).admit("m")
    assert not statements


async def test_names_that_clients_make_up_are_forgotten(own: AsyncEngine) -> None:
    control = AdmissionControl(own, 5, {})
    for number in range(1100):
        await control.admit(f"made-up-{number}")
    assert len(control._queues) == 1000


async def test_an_upload_into_a_full_queue_is_a_problem(make_app: MakeApp, make_client: MakeClient) -> None:
    queue = f"full-{uuid4().hex}"
    client = await make_client("image:write", target=await make_app(queue_limit=2))

    async def upload(name: str) -> httpx.Response:
        form = {"name": "a.png", "model_name": name}
        return await client.post("/image", data=form, files={"file": ("a.png", picture())})

    assert [(await upload(queue)).status_code for _ in range(2)] == [201, 201]
    answer = await upload(queue)
    shown = is_problem(answer, 503)
    assert shown["type"] == "urn:problem-type:queue-full" and 1 <= int(answer.headers["retry-after"]) <= 120
    assert (await upload(queue + "-other")).status_code == 201
