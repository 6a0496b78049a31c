"""The Detector replica in this process: merged calls with and without the filter, a bad call alone, the canary."""

import asyncio

import numpy as np
import pytest_asyncio

from configs.models import load_models
from configs.settings import Settings
from deployments.detector import DetectCall, Detected, Detector
from deployments.vision.interfaces import prepare_square
from tests.service.pictures import photo

MODEL = (registry := load_models(Settings.model_fields["models_file"].default))[registry.default]


@pytest_asyncio.fixture(scope="module")
async def detector(within_serve: None) -> Detector:
    made = Detector(max_batch_frames=2, threads=1)
    made.reconfigure({"max_batch_calls": 4, "batch_wait_s": 0.2})
    return made


def call(*names: str, judged: bool = True) -> DetectCall:
    assert MODEL.content_filter is not None
    pictures = [np.asarray(photo(name)) for name in names]
    judges = np.stack([prepare_square(pixels, MODEL.content_filter.input_size) for pixels in pictures])
    return DetectCall(
        MODEL.detector_name,
        MODEL.filter_name if judged else None,
        np.stack([prepare_square(pixels, MODEL.detector.input_size) for pixels in pictures]),
        judges if judged else None,
        [(pixels.shape[1], pixels.shape[0]) for pixels in pictures],
    )


def labels(found: Detected) -> list[list[str]]:
    return [[box.label for box in boxes] for boxes in found.boxes]


async def test_merged_calls_get_their_own_answers(detector: Detector) -> None:
    first, second, third = await asyncio.gather(
        detector.detect(call("astronaut.png", "rocket.jpg", "coffee.png")),
        detector.detect(call("motorcycle_left.png", judged=False)),
        detector.detect(call("camera.png")),
    )
    assert labels(first) == [["person"], [], ["cup"]]
    assert labels(second) == [["motorcycle"]] and second.unsafe is None
    assert labels(third) == [["person"]]
    assert first.unsafe is not None and len(first.unsafe) == 3 and third.unsafe is not None
    assert all(0 <= score < 0.5 for score in first.unsafe + third.unsafe)
    cup = first.boxes[2][0]
    assert 0 <= cup.x0 < cup.x1 <= 600 and 0 <= cup.y0 < cup.y1 <= 400  # pixels of coffee.png


async def test_a_bad_call_fails_alone(detector: Detector) -> None:
    bad = DetectCall(MODEL.detector_name, None, np.zeros((1, 8, 8, 3), np.uint8), None, [(8, 8)])
    unknown = DetectCall("nobody@1", None, np.zeros((1, 8, 8, 3), np.uint8), None, [(8, 8)])
    good, small, nobody = await asyncio.gather(
        detector.detect(call("coffee.png", judged=False)),
        detector.detect(bad),
        detector.detect(unknown),
        return_exceptions=True,
    )
    assert isinstance(good, Detected) and labels(good) == [["cup"]]
    assert isinstance(small, Exception) and isinstance(nobody, KeyError)


async def test_the_canaries_pass(detector: Detector) -> None:
    await detector.check_health()
