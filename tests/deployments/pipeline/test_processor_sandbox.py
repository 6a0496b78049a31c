"""A picture whose processing has failed before, or that nobody has decoded yet, is decoded where it can do no harm."""

from dataclasses import replace

import pytest

from deployments.pipeline.processor import Processor
from deployments.pipeline.search import search
from deployments.vision.sandbox import Sandbox
from storage.errors import UnsupportedImage
from tests.deployments.pipeline.conftest import Upload, claim_all, state
from tests.deployments.vision.test_sandbox import HASTY_S, slow
from tests.service.pictures import jpeg, photo


async def test_a_second_attempt_and_a_search_are_within_the_limits_of_decoding(
    processor: Processor, put: Upload, sandbox: Sandbox
) -> None:
    hasty = replace(processor, sandbox=Sandbox(workers=1, cpu_s=HASTY_S, max_pixels=10**8))
    late, good = await put(slow()), await put(jpeg(photo("coffee.png")))
    await claim_all(hasty, lease_s=-1.0)  # as by a process that died with them
    held = await claim_all(hasty)
    assert {claim.attempt for claim in held} == {2}
    await hasty.process(held)
    status, _, reason = await state(hasty.engine, late)
    assert status == "FAILED" and reason is not None and f"decoding it takes over {HASTY_S} s" in reason
    assert (await state(hasty.engine, good))[0] == "PROCESSED"
    model_name = hasty.registry.default
    with pytest.raises(UnsupportedImage, match="over"):
        await search(hasty, slow(), model_name, k=1)
    assert (await search(hasty, jpeg(photo("coffee.png")), model_name, k=1))[0].relation == "exact"
    hasty.sandbox.close()
