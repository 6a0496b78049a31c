"""Template matching of contours: what is found, where, and what strangers reach."""

import cv2
import numpy as np
import pytest

from deployments.vision.details import Details, details_of
from deployments.vision.gradients import gradient_layers, grey_square
from deployments.vision.template import (
    CHANCE,
    FIELD_BYTES,
    SIZES,
    GradientField,
    Templates,
    correlations,
    gradient_field,
    match_template,
)
from deployments.vision.views import cut
from tests.service.pictures import photo

NAMES = ("astronaut.png", "coffee.png", "chelsea.png", "rocket.jpg", "camera.png", "motorcycle_left.png")


def pixels(name: str) -> np.ndarray:
    return np.asarray(photo(name).convert("RGB"))


def field(picture: np.ndarray) -> GradientField:
    return gradient_field(gradient_layers(grey_square(picture)))


def templates(picture: np.ndarray, inner: tuple[float, float, float, float] | None = None) -> Templates:
    return Templates(grey_square(np.ascontiguousarray(picture)), inner)


def drawn(picture: np.ndarray) -> np.ndarray:
    edges = cv2.Canny(cv2.GaussianBlur(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY), (0, 0), 1.5), 60, 140)
    return np.asarray(cv2.cvtColor(255 - edges, cv2.COLOR_GRAY2RGB))


def test_a_picture_lies_in_itself() -> None:
    picture = pixels("coffee.png")
    found = match_template(templates(picture), field(picture))
    assert found is not None and not found.mirrored and found.score > 0.98 and found.correlation > 0.98
    assert found.stored_box == found.query_box == (0.0, 0.0, 1.0, 1.0)
    flipped = match_template(templates(picture[:, ::-1]), field(picture))
    assert flipped is not None and flipped.mirrored and flipped.score > 0.95


@pytest.mark.parametrize("box", [(0.1, 0.2, 0.8, 0.9), (0.4, 0.05, 0.95, 0.6), (0.3, 0.3, 0.76, 0.76)])
def test_a_drawing_of_a_part_is_found_where_it_lies(box: tuple[float, float, float, float]) -> None:
    fields = [field(pixels(name)) for name in NAMES]
    right = 0
    for place, name in enumerate(NAMES):
        query = templates(drawn(np.ascontiguousarray(cut(pixels(name), box))))
        found = [match_template(query, one) for one in fields]
        scores = [one.score if one else 0.0 for one in found]
        ours = found[place]
        if ours is not None and int(np.argmax(scores)) == place:
            right += 1
            np.testing.assert_allclose(ours.stored_box, box, atol=0.1)
    assert right >= 5


def test_a_framed_picture_is_found_by_what_is_inside() -> None:
    picture = pixels("astronaut.png")
    framed = cv2.copyMakeBorder(picture, 100, 100, 0, 0, cv2.BORDER_CONSTANT, value=(255, 255, 255))
    height = len(framed)
    inner = (0.0, 100 / height, 1.0, 1 - 100 / height)
    found = match_template(templates(framed, inner), field(picture))
    assert found is not None and found.query_box == inner and found.score > 0.8


def test_strangers_stay_near_chance() -> None:
    fields = [field(pixels(name)) for name in NAMES]
    scores = [
        found.score if (found := match_template(templates(pixels(name)), fields[place])) else 0.0
        for name in NAMES
        for place, other in enumerate(NAMES)
        if other != name
    ]
    assert max(scores) < 0.15 and np.mean(np.asarray(scores) == 0) > 0.5
    assert len(CHANCE) == len(SIZES) and list(CHANCE) == sorted(CHANCE), "the smaller, the likelier by chance"


def test_correlations_are_those_of_the_definition() -> None:
    query, stored = templates(pixels("rocket.jpg")), field(pixels("camera.png"))
    cells = stored.cells.astype(np.float64)
    for template, (value, row, column) in list(correlations(query, stored))[::5]:
        part = cells[row : row + template.size, column : column + template.size]
        centred = part - part.mean(axis=(0, 1))
        own = np.fft.irfft2(np.conj(template.spectrum).astype(np.complex128), (40, 40))[
            :, : template.size, : template.size
        ]
        expected = (own.transpose(1, 2, 0) * centred).sum() / np.linalg.norm(centred)
        assert value == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize("size", [(1, 1), (7, 300), (200, 200)])
def test_flat_pictures_match_nothing(size: tuple[int, int]) -> None:
    flat, coffee = np.full((*size, 3), 200, np.uint8), pixels("coffee.png")
    assert not field(flat).cells.any() and not templates(flat).made
    assert match_template(templates(flat), field(coffee)) is None
    assert match_template(templates(coffee), field(flat)) is None
    assert match_template(templates(flat), field(flat)) is None


def test_details_as_bytes() -> None:
    details = details_of(pixels("coffee.png"))
    data = details.to_bytes()
    again = Details.from_bytes(data)
    np.testing.assert_array_equal(again.contours.cells, details.contours.cells)
    np.testing.assert_array_equal(again.points.descriptors, details.points.descriptors)
    assert GradientField.from_bytes(data[:FIELD_BYTES]).to_bytes() == details.contours.to_bytes()
    for bad in (b"", data[:-1], data[:FIELD_BYTES], data[1:], data[FIELD_BYTES:]):
        with pytest.raises(ValueError, match=r"cut short|version"):
            Details.from_bytes(bad)
    with pytest.raises(ValueError, match="9600"):
        GradientField.from_bytes(data[:99])
