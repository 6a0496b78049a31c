"""PDQ: the published hash of a published picture, and eight orientations that are found again."""

import numpy as np
from skimage import data

from deployments.vision.pdq import ORIENTATIONS, hamming, pdq_hashes
from deployments.vision.pdq import turned as turned_hashes
from tests.service.pictures import NAMES, photo


def turned(pixels: np.ndarray) -> list[np.ndarray]:
    """The eight pictures that ORIENTATIONS names, up to order."""
    return [np.rot90(one, turns) for one in (pixels, pixels[:, ::-1]) for turns in range(4)]


def test_every_orientation_finds_the_upright_hash() -> None:
    picture = data.chelsea()
    upright, quality = pdq_hashes(picture)
    assert upright.shape == (8, 32) and upright.dtype == np.uint8 and len(ORIENTATIONS) == 8
    assert 50 <= quality <= 100
    nearest = set()
    for other in turned(picture):
        hashes, _ = pdq_hashes(np.ascontiguousarray(other))
        distances = hamming(hashes, upright[0])
        assert distances.min() <= 12
        nearest.add(int(distances.argmin()))
    assert nearest == set(range(8))  # each orientation is found by another of the eight hashes


def test_turned_hashes_can_be_told_from_one() -> None:
    for name in NAMES:
        hashes, _ = pdq_hashes(np.asarray(photo(name)))
        told = turned_hashes(hashes[0].tobytes())
        assert (told[0] == hashes[0]).all() and told.shape == (8, 32)
        nearest = hamming(told[:, None], hashes[None]).min(axis=0)
        assert nearest.max() <= 20, name  # deployments/pipeline/lookback_hashes.py looks so much farther


def test_strangers_are_far_apart_and_edits_near() -> None:
    chelsea, coffee = pdq_hashes(data.chelsea())[0], pdq_hashes(data.coffee())[0]
    assert hamming(chelsea, coffee[0]).min() > 80
    darker = (data.chelsea() * 0.7).astype(np.uint8)
    assert hamming(pdq_hashes(darker)[0][0], chelsea[0]) <= 12


def test_a_flat_picture_has_no_quality() -> None:
    assert pdq_hashes(np.full((64, 64, 3), 128, np.uint8))[1] == 0
    assert pdq_hashes(np.zeros((1, 1, 3), np.uint8))[0].shape == (8, 32)
