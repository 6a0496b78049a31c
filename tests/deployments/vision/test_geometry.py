"""Local features and their geometry: known transforms come out, strangers do not, bad bytes are refused."""

import numpy as np
import pytest
from PIL import Image, ImageOps

from deployments.vision.geometry import align
from deployments.vision.local_features import LocalFeatures, local_features
from tests.service.pictures import photo


def features(picture: Image.Image) -> LocalFeatures:
    return local_features(np.asarray(picture.convert("RGB")))


@pytest.fixture(scope="module")
def astronaut() -> Image.Image:
    return photo("astronaut.png")


def test_the_same_picture_lies_in_itself(astronaut: Image.Image) -> None:
    fit = align(features(astronaut), features(astronaut))
    assert fit is not None and fit.inliers > 150
    np.testing.assert_allclose(fit.transform / fit.transform[2, 2], np.eye(3), atol=0.02)
    assert fit.residual < 0.01
    assert fit.query_overlap == pytest.approx(1, abs=0.02) and fit.stored_overlap == pytest.approx(1, abs=0.02)
    assert fit.scale == pytest.approx(1, abs=0.02)


def test_a_crop_lies_where_it_was_cut(astronaut: Image.Image) -> None:
    width, height = astronaut.size
    crop = astronaut.crop((width // 4, height // 10, width * 3 // 4, height * 6 // 10))
    fit = align(features(crop), features(astronaut))
    assert fit is not None and fit.inliers > 30
    corners = fit.transform @ np.asarray([[0, 1], [0, 1], [1, 1]])
    np.testing.assert_allclose(corners[:2] / corners[2], [[0.25, 0.75], [0.1, 0.6]], atol=0.02)
    assert fit.query_overlap == pytest.approx(1, abs=0.03) and fit.stored_overlap == pytest.approx(0.25, abs=0.03)
    assert fit.scale == pytest.approx(0.5, abs=0.05), "the crop was enlarged to the same long side"
    assert 0 < fit.residual < 1, "pixels of the coarser picture"


def test_turned_and_pasted(astronaut: Image.Image) -> None:
    turned = align(features(astronaut.transpose(Image.Transpose.ROTATE_90)), features(astronaut))
    assert turned is not None and turned.inliers > 150
    ground = photo("rocket.jpg").resize((640, 480))
    ground.paste(astronaut.resize((300, 300)), (200, 100))
    fit = align(features(ground), features(astronaut))
    assert fit is not None and fit.inliers > 30
    assert fit.query_overlap == pytest.approx(300 * 300 / (640 * 480), abs=0.05) and fit.stored_overlap > 0.95


def test_a_mirror_image_fits_only_mirrored(astronaut: Image.Image) -> None:
    mirrored = ImageOps.mirror(astronaut)
    plain = align(features(mirrored), features(astronaut))
    assert plain is None or plain.inliers < 10
    fit = align(features(mirrored).mirrored(), features(astronaut), mirrored=True)
    assert fit is not None and fit.mirrored and fit.inliers > 150


def test_mirrored_features_are_those_of_the_mirror_image(astronaut: Image.Image) -> None:
    derived, extracted = features(astronaut).mirrored(), features(ImageOps.mirror(astronaut))
    distances = np.linalg.norm(derived.points[:, None] - extracted.points[None], axis=2)
    near = distances.min(axis=1) < 1.5
    assert near.mean() > 0.8
    best = extracted.descriptors[distances.argmin(axis=1)][near].astype(float)
    own = derived.descriptors[near].astype(float)
    alike = (own * best).sum(1) / np.linalg.norm(own, axis=1) / np.linalg.norm(best, axis=1)
    assert np.median(alike) > 0.97
    again = derived.mirrored()
    np.testing.assert_array_equal(again.descriptors, features(astronaut).descriptors)


def test_strangers_do_not_fit() -> None:
    names = ("astronaut.png", "coffee.png", "chelsea.png", "rocket.jpg", "camera.png", "motorcycle_left.png")
    held = [features(photo(name)) for name in names]
    counts = [
        fit.inliers if (fit := align(a, b)) else 0 for i, a in enumerate(held) for j, b in enumerate(held) if i != j
    ]
    assert len(counts) == 30 and max(counts) <= 7


@pytest.mark.parametrize("size", [(1, 1), (16, 16), (400, 3), (3, 400)])
def test_pictures_without_points(size: tuple[int, int]) -> None:
    flat = features(Image.new("RGB", size, (90, 10, 200)))
    assert len(flat) == 0 and flat.descriptors.shape == (0, 128)
    assert align(flat, flat) is None
    assert align(flat, features(photo("coffee.png"))) is None


def test_bytes_and_back(astronaut: Image.Image) -> None:
    held = features(astronaut)
    again = LocalFeatures.from_bytes(held.to_bytes())
    assert len(held.to_bytes()) == 10 + 132 * len(held) and again.size == held.size
    np.testing.assert_allclose(again.points, held.points, atol=1 / 64)
    np.testing.assert_array_equal(again.descriptors, held.descriptors)
    assert len(LocalFeatures.from_bytes(features(Image.new("RGB", (9, 9))).to_bytes())) == 0


def test_damaged_bytes_are_refused(astronaut: Image.Image) -> None:
    data = features(astronaut).to_bytes()
    for bad, reason in ((b"", "cut short"), (data[:-1], "cut short"), (b"XXXX" + data[4:], "of version"),
                        (data[:4] + b"\x63\x00" + data[6:], "version 99")):  # fmt: skip
        with pytest.raises(ValueError, match=reason):
            LocalFeatures.from_bytes(bad)
