"""Giving up a descriptor that is being built: its job ends first, its links go, its vectors are Ray's to drop."""

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import pytest_asyncio
from sqlalchemy.ext.asyncio import AsyncEngine

from configs.settings import Settings
from graphs import reindex
from storage import generations, jobs
from storage.database import create_engine
from storage.errors import Conflict, Unavailable
from storage.generations import begin, ensure_live
from storage.job_tables import JobStatus
from storage.objects import ObjectStore
from tests.graphs.checked import secret
from tests.installation import apart, clear
from tests.storage.test_generations import finished, held, link_counts

MODEL, LIVE, BUILT = "safeguard-v1", "lite0-copy@2", "lite0-copy@3"


class Dashboard(ThreadingHTTPServer):
    """In place of Ray's: takes jobs and runs none; ``down`` refuses them."""

    def __init__(self) -> None:
        self.entrypoints: list[str] = []
        self.down = False
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                content = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                if not outer.down:
                    outer.entrypoints.append(content["entrypoint"])
                self.send_response(503 if outer.down else 200)
                self.end_headers()
                self.wfile.write(json.dumps({"submission_id": "x"}).encode())

            def log_message(self, *_: object) -> None:
                pass

        super().__init__(("127.0.0.1", 0), Handler)


@pytest.fixture
def dashboard(monkeypatch: pytest.MonkeyPatch) -> Iterator[Dashboard]:
    server = Dashboard()
    monkeypatch.setenv("RAY_ADDRESS", f"http://127.0.0.1:{server.server_port}")
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def settings(servers: Settings) -> Iterator[Settings]:
    with apart(servers) as made:
        yield made


@pytest.fixture
def folder(settings: Settings, tmp_path: Path) -> Path:
    url, s3 = secret(settings)
    lines = s3 | {"DATABASE_URL": url}
    (tmp_path / "settings.env").write_text("".join(f"SAFEGUARD_{name}='{value}'\n" for name, value in lines.items()))
    return tmp_path


@pytest_asyncio.fixture
async def engine(settings: Settings) -> AsyncIterator[AsyncEngine]:
    """An installation that builds BUILT beside LIVE; three pictures have links by both."""
    made, objects = create_engine(settings), ObjectStore(settings)
    async with made.begin() as connection:
        await connection.exec_driver_sql("TRUNCATE generation, job CASCADE")
    await clear(settings, made, objects)
    await ensure_live(made, {MODEL: LIVE})
    await begin(made, MODEL, BUILT)
    both = {LIVE, BUILT}
    first = await finished(made, objects, MODEL, written=both)
    for _ in range(2):
        links = [(first or 0, LIVE, "copy", 0.9), (first or 0, BUILT, "copy", 0.8)]
        assert await finished(made, objects, MODEL, *links, written=both)
    assert await link_counts(made, MODEL) == {LIVE: 2, BUILT: 2}
    objects.close()
    yield made
    await made.dispose()


async def job(engine: AsyncEngine) -> int:
    made = await jobs.create(
        engine, source=BUILT, model_name=MODEL, options={}, created_by="test", kind=jobs.REINDEX
    )  # fmt: skip
    assert made.id is not None
    return made.id


async def test_it_goes_with_its_links_and_the_live_one_stays(
    folder: Path, engine: AsyncEngine, dashboard: Dashboard
) -> None:
    token = await jobs.take(engine, done := await job(engine), lease_s=30)
    await jobs.let_go(engine, done, token, JobStatus.DONE, None)
    assert await reindex.drop(folder, None, building=True) == BUILT
    assert await held(engine, MODEL) == {"live": LIVE}
    assert await link_counts(engine, MODEL) == {LIVE: 2}
    assert [one.rpartition(" -m ")[2] for one in dashboard.entrypoints] == [f"graphs.reindex drop {BUILT}"]
    assert (await jobs.get(engine, done)).status == JobStatus.DONE, "a job that has ended is left alone"
    with pytest.raises(Conflict, match="no building descriptor"):
        await reindex.drop(folder, None, building=True)
    await begin(engine, MODEL, BUILT)


async def test_its_job_is_cancelled_before_it_goes(folder: Path, engine: AsyncEngine, dashboard: Dashboard) -> None:
    """The test is the runner: first the one that works, then the one that is submitted to carry out the cancellation."""
    number = await job(engine)
    token = await jobs.take(engine, number, lease_s=30)

    async def runner() -> None:
        for _ in range(200):
            await asyncio.sleep(0.05)
            if (await jobs.get(engine, number)).status == JobStatus.CANCELLING and dashboard.entrypoints:
                break
        await jobs.let_go(engine, number, token, None, None)
        mine = await jobs.take(engine, number, lease_s=30)
        assert await held(engine, MODEL) == {"live": LIVE, "building": BUILT}, (
            "uploads are written with both until then"
        )
        await jobs.let_go(engine, number, mine, JobStatus.CANCELLED, None)

    work = asyncio.create_task(runner())
    assert await reindex.drop(folder, None, building=True) == BUILT
    await work
    assert (await jobs.get(engine, number)).status == JobStatus.CANCELLED
    assert await held(engine, MODEL) == {"live": LIVE}
    submitted = [one.rpartition(" -m ")[2] for one in dashboard.entrypoints]
    assert submitted == [f"graphs.backfill {number}", f"graphs.reindex drop {BUILT}"]


async def test_the_vectors_stay_while_another_model_is_written_with_it(
    folder: Path, engine: AsyncEngine, dashboard: Dashboard
) -> None:
    await ensure_live(engine, {"another": BUILT})
    assert await reindex.drop(folder, None, building=True) == BUILT
    assert await held(engine, MODEL) == {"live": LIVE} and dashboard.entrypoints == []


async def test_without_ray_the_descriptor_is_given_up_all_the_same(
    folder: Path, engine: AsyncEngine, dashboard: Dashboard
) -> None:
    dashboard.down = True
    with pytest.raises(Unavailable, match="does not take jobs"):
        await reindex.drop(folder, None, building=True)
    assert await held(engine, MODEL) == {"live": LIVE}, "uploads do not wait for it any more"
    assert await generations.models_of(engine, BUILT) == []
