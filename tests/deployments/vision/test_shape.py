"""The shape descriptor, views and margins: what changes them and what does not."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from configs.models import ShapeSpec, load_models
from configs.settings import Settings
from deployments.vision.gradients import gradient_layers, grey_square, mirrored, turned
from deployments.vision.margins import inner_box
from deployments.vision.shape import ShapeDescriptor, grid_of
from deployments.vision.views import WHOLE, BoxShares, View, cut, frames_of, views_of
from storage.errors import ConfigurationError
from tests.service.pictures import photo

NAMES = ("astronaut.png", "coffee.png", "chelsea.png", "rocket.jpg", "camera.png", "motorcycle_left.png")


@pytest.fixture(scope="module")
def spec() -> ShapeSpec:
    return next(iter(load_models(Settings().models_file).shapes.values()))


@pytest.fixture(scope="module")
def describe(spec: ShapeSpec) -> ShapeDescriptor:
    return ShapeDescriptor(spec)


def pixels(name: str) -> np.ndarray:
    return np.asarray(photo(name))


def grid(picture: np.ndarray) -> np.ndarray:
    return grid_of(gradient_layers(grey_square(picture)))


def vectors(describe: ShapeDescriptor, pictures: list[np.ndarray]) -> np.ndarray:
    return describe.project([grid(one) for one in pictures])


def drawn(picture: np.ndarray) -> np.ndarray:
    edges = cv2.Canny(cv2.GaussianBlur(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY), (0, 0), 1.5), 60, 140)
    return np.asarray(cv2.cvtColor(255 - edges, cv2.COLOR_GRAY2RGB))


def test_edge_maps_negatives_and_colours_find_their_picture(describe: ShapeDescriptor) -> None:
    originals = [pixels(name) for name in NAMES]
    stored = vectors(describe, originals)
    np.testing.assert_allclose(np.linalg.norm(stored, axis=1), 1, atol=1e-5)
    for edit in (drawn, lambda one: 255 - one, lambda one: one[:, :, ::-1] // 2, lambda one: one[::3, ::3]):
        scores = vectors(describe, [np.ascontiguousarray(edit(one)) for one in originals]) @ stored.T
        assert (scores.argmax(axis=1) == np.arange(len(NAMES))).all()
        assert np.diag(scores).min() > 0.3


def test_strangers_score_near_zero(describe: ShapeDescriptor) -> None:
    held = vectors(describe, [pixels(name) for name in NAMES])
    others = (held @ held.T)[~np.eye(len(NAMES), dtype=bool)]
    assert np.abs(others).mean() < 0.12 and others.max() < 0.35, "unrelated vectors of 128 numbers: 0.07"


@pytest.mark.parametrize("size", [(1, 1), (5, 200), (300, 2)])
def test_flat_and_tiny_pictures(describe: ShapeDescriptor, size: tuple[int, int]) -> None:
    flat = np.full((*size, 3), 77, np.uint8)
    assert not grid(flat).any() and not vectors(describe, [flat]).any()


def described(
    describe: ShapeDescriptor, picture: np.ndarray, inner: BoxShares | None = None
) -> tuple[list[View], np.ndarray]:
    return describe.describe(picture, gradient_layers(grey_square(picture)), inner)


def test_views_of_a_picture(describe: ShapeDescriptor) -> None:
    picture = pixels("coffee.png")
    views, found = described(describe, picture, (0.1, 0.1, 0.9, 0.9))
    assert [view.name for view in views] == [
        "whole", *["part"] * 9, "mirrored", "turned 90°", "turned 180°", "turned 270°", "without margins",
        "without margins, mirrored",
    ]  # fmt: skip
    assert [view.stored for view in views] == [True] * 10 + [False] * 6
    seen = [picture, picture[:, ::-1], *(np.rot90(picture, turns) for turns in (1, 2, 3))]
    direct = vectors(describe, [np.ascontiguousarray(one) for one in seen])
    assert ((found[[0, 10, 11, 12, 13]] * direct).sum(axis=1) > 0.98).all(), "mirrored and turned without looking again"
    assert len(described(describe, picture)[0]) == 14


@pytest.mark.parametrize("corner", [(0.0, 0.0), (0.07, 0.22), (0.28, 0.1)])
def test_a_drawn_part_finds_its_picture(describe: ShapeDescriptor, corner: tuple[float, float]) -> None:
    stored = np.stack([described(describe, pixels(name))[1][:10] for name in NAMES])
    box = (*corner, corner[0] + 0.7, corner[1] + 0.7)
    parts = vectors(describe, [drawn(np.ascontiguousarray(cut(pixels(name), box))) for name in NAMES])
    scores = np.einsum("qd,pvd->qpv", parts, stored).max(axis=2)
    assert (scores.argmax(axis=1) == np.arange(len(NAMES))).mean() > 0.8


def test_mirrored_and_turned_grids() -> None:
    found = grid(pixels("rocket.jpg"))
    np.testing.assert_array_equal(mirrored(mirrored(found)), found)
    np.testing.assert_array_equal(turned(turned(found, 1), 3), found)
    np.testing.assert_array_equal(turned(turned(found, 1), 1), turned(found, 2))


def test_files_that_are_no_projection(spec: ShapeSpec, tmp_path: Path) -> None:
    data = spec.file.read_bytes()

    def loaded(name: str, content: bytes | None, **more: object) -> None:
        if content is not None:
            (tmp_path / name).write_bytes(content)
        ShapeDescriptor(spec.model_copy(update={"path": str(tmp_path / name), **more}))

    loaded("good.npz", data)
    with pytest.raises(ConfigurationError, match="missing"):
        loaded("none.npz", None)
    with pytest.raises(ConfigurationError, match="damaged or of another version"):
        loaded("cut.npz", data[: len(data) // 2])
    with pytest.raises(ConfigurationError, match="not a shape projection"):
        loaded("cut.npz", data[: len(data) // 2], sha256=None)
    with pytest.raises(ConfigurationError, match="not a shape projection"):
        loaded("text.npz", b"no archive", sha256=None)
    with pytest.raises(ConfigurationError, match=r"projects \[384, 128\].*\[384, 64\]"):
        loaded("good.npz", data, dim=64)


def test_views_and_their_frames() -> None:
    views = views_of([(0.1, 0.1, 0.5, 0.9)], (0.0, 0.2, 1.0, 0.8))
    assert views[0] == WHOLE and sum(view.stored for view in views) == 7
    picture = np.arange(60 * 80 * 3, dtype=np.uint32).reshape(60, 80, 3).astype(np.uint8)
    frames = list(frames_of(picture, views, 32))
    assert len(frames) == len(views) and all(frame.shape == (32, 32, 3) for frame in frames)
    turned = next(place for place, view in enumerate(views) if view.turns == 1)
    np.testing.assert_array_equal(frames[turned], np.rot90(frames[0]))
    assert cut(picture, (0.0, 0.0, 0.5, 0.5)).shape == (30, 40, 3)
    assert cut(picture, (1.0, 1.0, 1.0, 1.0)).shape == (1, 1, 3), "never empty"


def test_margins_are_found_and_pictures_kept() -> None:
    coffee = photo("coffee.png").resize((300, 200))
    framed = Image.new("RGB", (340, 260), (10, 120, 60))
    framed.paste(coffee, (20, 30))
    box = inner_box(np.asarray(framed))
    assert box is not None
    np.testing.assert_allclose(box, [20 / 340, 30 / 260, 320 / 340, 230 / 260], atol=0.03)
    assert inner_box(np.asarray(coffee)) is None
    assert inner_box(np.full((50, 50, 3), 9, np.uint8)) is None, "nothing would be left"
    assert inner_box(np.zeros((1, 1, 3), np.uint8)) is None
