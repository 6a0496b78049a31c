"""The Embedder replica in this process: merged calls, cuts into passes, a bad call alone, the canary."""

import asyncio
import shutil
from pathlib import Path
from uuid import uuid4

import numpy as np
import pytest
import pytest_asyncio
import yaml
from sqlalchemy.ext.asyncio import AsyncEngine

from configs.models import load_models
from configs.settings import Settings
from deployments.embedder import Embedder
from storage.errors import ConfigurationError
from storage.generations import begin, ensure_live, switch

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


@pytest.fixture
def several(tmp_path: Path, servers: Settings, monkeypatch: pytest.MonkeyPatch) -> tuple[str, Path]:
    """A models.yaml with a model of its own, three descriptors, two of them good; and a database that is running."""
    name = f"embedder-{uuid4().hex[:10]}"
    content = yaml.safe_load(Settings.model_fields["models_file"].default.read_text())
    own = content["descriptors"][SPEC.name]
    float16 = {**own, "path": "models/lite0-copy-2.onnx"}
    del float16["sha256"]
    late = tmp_path / "late.onnx"
    content["descriptors"] |= {"float16@1": float16, "late@1": {**own, "path": str(late)}}
    content["models"] = {name: content["models"][content["default"]]}
    content["default"] = name
    file = tmp_path / "models.yaml"
    file.write_text(yaml.safe_dump(content))
    assert servers.database_url is not None
    monkeypatch.setenv("SAFEGUARD_MODELS_FILE", str(file))
    monkeypatch.setenv("SAFEGUARD_DATABASE_URL", servers.database_url.get_secret_value())
    return name, late


async def test_a_descriptor_is_loaded_on_first_use(within_serve: None, several: tuple[str, Path]) -> None:
    embedder = Embedder(threads=1)
    assert set(embedder._descriptors) == {SPEC.name}
    pictures = frames(2, 5)
    exact, again = await asyncio.gather(*(embedder.embed("float16@1", pictures) for _ in range(2)))
    np.testing.assert_array_equal(exact, again)
    own = await embedder.embed(SPEC.name, pictures)
    alike = (own * exact).sum(axis=1)
    assert np.all(alike > 0.9) and not np.allclose(own, exact, atol=1e-4), "other weights, the same network"
    assert set(embedder._descriptors) == {SPEC.name, "float16@1"}
    await embedder.check_health()
    embedder._expected["float16@1"] *= -1
    with pytest.raises(RuntimeError, match="canary of float16@1"):
        await embedder.check_health()


async def test_missing_weights_fail_the_call_and_nothing_else(within_serve: None, several: tuple[str, Path]) -> None:
    _, late = several
    embedder = Embedder(threads=1)
    for _ in range(2):
        with pytest.raises(ConfigurationError, match="the weights of late@1 are missing"):
            await embedder.embed("late@1", frames(1, 1))
    late.write_bytes(b"something else")
    with pytest.raises(ConfigurationError, match="late@1 are damaged or of another version"):
        await embedder.embed("late@1", frames(1, 1))
    await embedder.check_health()
    assert len(await embedder.embed(SPEC.name, frames(3, 1))) == 3
    shutil.copy(SPEC.file, late)
    np.testing.assert_array_equal(
        await embedder.embed("late@1", frames(1, 1)), await embedder.embed(SPEC.name, frames(1, 1))
    )


async def test_the_live_descriptor_is_loaded_at_start(
    within_serve: None, several: tuple[str, Path], engine: AsyncEngine
) -> None:
    name, _ = several
    await ensure_live(engine, {name: "float16@1"})
    assert set(Embedder(threads=1)._descriptors) == {"float16@1"}
    await begin(engine, name, "late@1")
    assert set(Embedder(threads=1)._descriptors) == {"float16@1"}, "one that is being built is loaded when it is used"
    await switch(engine, name)
    with pytest.raises(ConfigurationError, match="the weights of late@1 are missing"):
        Embedder(threads=1)
