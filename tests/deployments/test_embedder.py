"""The Embedder replica in this process: merged calls, cuts into passes, a bad call alone, the canary."""

import asyncio

import numpy as np
import pytest
import pytest_asyncio

from configs.models import load_models
from configs.settings import Settings
from deployments.embedder import Embedder

SPEC = (registry := load_models(Settings.model_fields["models_file"].default))[registry.default].descriptor


@pytest_asyncio.fixture(scope="module")
async def embedder(within_serve: None) -> Embedder:
    made = Embedder(max_batch_frames=4, threads=1)
    made.reconfigure({"max_batch_calls": 4, "batch_wait_s": 0.2})
    return made


def frames(count: int, seed: int) -> np.ndarray:
    side = SPEC.input_size
    return np.random.default_rng(seed).integers(0, 256, (count, side, side, 3), np.uint8)


async def test_concurrent_calls_get_their_own_vectors(embedder: Embedder) -> None:
    calls = [frames(count, count) for count in (1, 3, 6, 2)]  # 12 frames, 4 in a pass
    found = await asyncio.gather(*(embedder.embed(SPEC.name, call) for call in calls))
    for call, vectors in zip(calls, found, strict=True):
        assert vectors.shape == (len(call), SPEC.dim) and vectors.dtype == np.float32
        np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-4)
        alone = np.concatenate([await embedder.embed(SPEC.name, call[place : place + 1]) for place in range(len(call))])
        assert np.all((vectors * alone).sum(axis=1) > 0.999)


async def test_a_bad_call_fails_alone(embedder: Embedder) -> None:
    good, small, unknown, also_good = await asyncio.gather(
        embedder.embed(SPEC.name, frames(2, 1)),
        embedder.embed(SPEC.name, np.zeros((1, 8, 8, 3), np.uint8)),
        embedder.embed("nobody@1", frames(1, 1)),
        embedder.embed(SPEC.name, frames(1, 2)),
        return_exceptions=True,
    )
    assert isinstance(good, np.ndarray) and len(good) == 2
    assert isinstance(also_good, np.ndarray) and len(also_good) == 1
    assert isinstance(small, Exception) and isinstance(unknown, KeyError)


async def test_the_canary_sees_a_changed_network(embedder: Embedder) -> None:
    await embedder.check_health()
    embedder._expected = {name: -vector for name, vector in embedder._expected.items()}
    with pytest.raises(RuntimeError, match="canary"):
        await embedder.check_health()
