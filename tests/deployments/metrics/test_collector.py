"""What PostgreSQL holds becomes metrics; names that clients make up do not become labels without end."""

import asyncio
from pathlib import Path

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from deployments.metrics.catalogue import METRICS, Kind, Source
from deployments.metrics.collector import OTHER, Collector, ModelNames
from deployments.metrics.local import LocalSink
from deployments.metrics.meters import recording_to
from storage.objects import ObjectStore
from tests.storage.test_claims import stored


def test_names_that_clients_make_up_are_bounded() -> None:
    shown = ModelNames(["safeguard-v1"], most=2)
    assert [shown(name) for name in ("a", "b", "c", "a", "safeguard-v1", "d")] == [
        "a", "b", OTHER, "a", "safeguard-v1", OTHER,
    ]  # fmt: skip


async def test_a_reading_sets_every_gauge_of_the_database(own: tuple[AsyncEngine, ObjectStore], tmp_path: Path) -> None:
    engine, objects = own
    (tmp_path / "objects" / "data").mkdir(parents=True)
    await stored(engine, objects, "metrics-queue", 3)
    sink = LocalSink()
    with recording_to(sink):
        collector = Collector(engine, ["safeguard-v1", "metrics-queue"], home=tmp_path)
        await collector.collect()
        await stored(engine, objects, "metrics-queue", 1)
        await collector.collect()
    assert sink.value("safeguard_images", model="metrics-queue", status="UPLOADED") == 4
    assert sink.value("safeguard_queue_images", worker="pipeline") == 4
    assert sink.value("safeguard_queue_oldest_seconds", model="metrics-queue") > 0
    assert sink.value("safeguard_collections_total", outcome="ok") == 2
    assert sink.value("safeguard_database_bytes") > 1e6
    assert sink.series("safeguard_disk_bytes").keys() == {("home",), ("s3",)}
    assert 0 < sink.value("safeguard_disk_free_bytes", part="s3") < sink.value("safeguard_disk_bytes", part="s3")
    kept = {metric.name for metric in METRICS if sink.series(metric.name)}
    wanted = {one.name for one in METRICS if one.source == Source.DATABASE and one.kind == Kind.GAUGE}
    of_what_is_not_there = {
        "safeguard_jobs", "safeguard_job_objects", "safeguard_job_images_per_second", "safeguard_job_left_seconds",
        "safeguard_index_recall_ratio",
    }  # fmt: skip
    assert wanted - of_what_is_not_there <= kept


async def test_a_database_that_is_down_is_counted_and_ends_nothing() -> None:
    down = create_async_engine("postgresql+asyncpg://nobody@127.0.0.1:9/none", connect_args={"timeout": 1})
    sink = LocalSink()
    with recording_to(sink):
        collector = Collector(down, ["safeguard-v1"], every_s=0.01)
        with pytest.raises(OSError):
            await collector.collect()
        await collector.start()
        async with asyncio.timeout(10):
            while sink.value("safeguard_collections_total", outcome="failed") < 4:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        collector.check()
        await collector.close()
    assert not sink.series("safeguard_collected_timestamp_seconds") and not sink.series("safeguard_images")
    with pytest.raises(RuntimeError, match="collect loop"):
        collector.check()


async def test_what_is_gone_vanishes(own: tuple[AsyncEngine, ObjectStore]) -> None:
    engine, objects = own
    sink = LocalSink()
    with recording_to(sink):
        collector = Collector(engine, ["safeguard-v1"])
        await stored(engine, objects, "short", 1)
        await collector.collect()
        assert ("short", "UPLOADED") in sink.series("safeguard_images")
        async with engine.begin() as connection:
            await connection.exec_driver_sql("DELETE FROM image")
        await collector.collect()
    assert ("short", "UPLOADED") not in sink.series("safeguard_images")
    assert sink.value("safeguard_images", model="safeguard-v1", status="UPLOADED") == 0
