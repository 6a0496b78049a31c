"""Processing measures its stages and counts how claims end."""

from deployments.metrics.local import LocalSink
from deployments.metrics.meters import recording_to
from deployments.pipeline.processor import Processor
from tests.deployments.pipeline.conftest import Upload, claim_all, run_queue
from tests.service.pictures import jpeg, photo


async def test_stages_and_ends(processor: Processor, put: Upload) -> None:
    await put(jpeg(photo("astronaut.png")))
    await put(jpeg(photo("coffee.png")))
    await put(b"no picture at all", checked=False)
    sink = LocalSink()
    with recording_to(sink):
        await run_queue(processor)
    for stage, items in {"fetch": 3, "decode": 3, "write": 2, "match": 2, "decide": 2}.items():
        assert sink.value("safeguard_stage_items_total", stage=stage) == items, stage
        assert sink.value("safeguard_stage_seconds_total", stage=stage) > 0, stage
    assert sink.value("safeguard_stage_calls_total", stage="fetch") == 1
    assert sink.series("safeguard_images_finished_total") == {("processed",): 2, ("failed",): 1}
    assert sink.value("safeguard_busy_seconds_total", deployment="SimilarityWriter") > 0
    assert sink.series("safeguard_index_writer_version")


async def test_a_claim_that_was_lost_is_counted(processor: Processor, put: Upload) -> None:
    await put(jpeg(photo("coffee.png")))
    late = await claim_all(processor, lease_s=-1.0)
    sink = LocalSink()
    with recording_to(sink):
        await processor.process(late)
        await run_queue(processor)
    assert sink.series("safeguard_images_finished_total") == {("processed",): 1}
