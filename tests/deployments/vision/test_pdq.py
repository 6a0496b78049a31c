"""PDQ: the published hash of a published picture, and eight orientations that are found again."""

import numpy as np
import pytest
from numpy.typing import NDArray
from skimage import data

from deployments.vision.pdq import ORIENTATIONS, hamming, pdq_hashes
from deployments.vision.pdq import turned as turned_hashes
from tests.service.pictures import NAMES, photo

CHELSEA = """
5feb5321f01da156898e2bf629a5d3438412cdbd23f48942464526315db33ffd
39d09eb576271efdce537f34cd2d208c8e63eac6c667cb18a841c1969d921cb0
0abef98ba5480bfcdcdb81dc7cf079e9d147671776a123e813108c9b08e68557
6c85b41f6372b457db06d59e90788a26df36c06c933261b2fd146b3cc8c7b61a
5febacdef01d5ea9898ed48929a52cbc8412324223f476bd4645ddce7db3d002
4afe2e74a548f403dedb7ea37cf08616d14798e876a1dc171310776428e67aa8
39d0e14a3625e1038e5380cfc52ddf738e639539c66734e7a8413e699d92e34f
6c854be063704ba8db062a65907875d9df363f9393329e4dfd1494c3c8c749e5
"""
"""What ThreatExchange's C++, in the package pdqhash 0.2.8, makes of it in eight orientations, as all hashes of this page."""
WAVES = {
    (300, 200): (100, "557cff965574ff9a5534aac7553cffd6aa830069aa8b0069aac35029aacbc029"),
    (64, 64): (82, "af0680a9321e0b290156a8a9dd5602f91556aea9755ffffe0003aaa95ffd5556"),
    (40, 57): (55, "007d60776eb5c08a63d5180a47dd20aa0bf584aa7ffda2aa5ffda2aa4aa95555"),
    (511, 97): (100, "aaaefffbfff9000655595406754d5552a8adaaad5551ea045551f8045551fe06"),
    (900, 700): (100, "e455107a7555b06aaaea557fa2c2557fa0c2557fa0c0557fa0c0557fa0c0557f"),
}


def waves(height: int, width: int) -> np.ndarray:
    y, x = np.mgrid[:height, :width].astype(np.float64)
    colours = [np.sin(x / 9 + np.cos(y / 23) * 3), np.cos(y / 11 - x / 31), np.sin((x + 2 * y) / 17)]
    return np.round(127.5 + 127 * np.stack(colours, -1)).astype(np.uint8)


def parsed(text: str) -> np.ndarray:
    return np.array([list(bytes.fromhex(line)) for line in text.split()], np.uint8)


def test_the_hashes_are_those_of_the_reference_implementation() -> None:
    hashes, quality = pdq_hashes(data.chelsea())
    assert quality == 100
    # A bit or two may go the other way where another processor rounds otherwise; a mistake changes dozens.
    assert hashes.shape == parsed(CHELSEA).shape and hamming(hashes, parsed(CHELSEA)).max() <= 2
    coffee = "04629e769e66365cb983b8668827f27c21a779e61e36e1f8c79927e27c8299e0"
    assert hamming(pdq_hashes(data.coffee())[0][0], parsed(coffee)) <= 2


@pytest.mark.parametrize("size", WAVES)
def test_they_are_for_every_size_and_shape(size: tuple[int, int]) -> None:
    hashes, quality = pdq_hashes(waves(*size))
    assert quality == WAVES[size][0]
    assert hamming(hashes[0], parsed(WAVES[size][1])) <= 2


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
        assert hamming(told, hashes).max() <= 20, f"{name}: in the order of ORIENTATIONS"


def test_strangers_are_far_apart_and_edits_near() -> None:
    chelsea, coffee = pdq_hashes(data.chelsea())[0], pdq_hashes(data.coffee())[0]
    assert hamming(chelsea, coffee[0]).min() > 80
    darker = (data.chelsea() * 0.7).astype(np.uint8)
    assert hamming(pdq_hashes(darker)[0][0], chelsea[0]) <= 12


def test_a_flat_picture_has_no_quality() -> None:
    assert pdq_hashes(np.full((64, 64, 3), 128, np.uint8))[1] == 0


@pytest.mark.parametrize("sides", [(1, 1), (1, 300), (300, 4), (40, 5000)])
def test_strips_of_under_five_pixels_have_no_hash(sides: tuple[int, int]) -> None:
    ramp = np.broadcast_to(np.linspace(0, 255, max(sides)).astype(np.uint8), (min(sides), max(sides)))
    strip = np.ascontiguousarray(np.repeat((ramp if sides[1] > sides[0] else ramp.T)[..., None], 3, 2))
    hashes, quality = pdq_hashes(strip)
    assert hashes.shape == (8, 32) and not hashes.any() and quality == 0, "as the reference implementation has it"


def test_five_pixels_are_enough_for_a_hash() -> None:
    assert pdq_hashes(np.tile(data.chelsea()[:, :1], (1, 5, 1)))[0].any()


@pytest.mark.parametrize(
    "pixels", [np.zeros((64, 64), np.uint8), np.zeros((64, 64, 4), np.uint8), np.zeros((64, 64, 3), np.uint16)]
)
def test_other_arrays_are_refused(pixels: NDArray[np.uint8]) -> None:
    with pytest.raises(ValueError, match="uint8"):
        pdq_hashes(pixels)
