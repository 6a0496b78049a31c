"""What every network must do, whatever it is made of: each implementation's tests inherit these."""

import numpy as np
import pytest

from deployments.vision.interfaces import ContentFilter, Descriptor, Detector


def frames_of(count: int, side: int) -> np.ndarray:
    """uint8[count, side, side, 3], all different."""
    return np.random.default_rng(11).integers(0, 256, (count, side, side, 3), np.uint8)


class DescriptorContract:
    """Subclasses give the fixture ``network``."""

    def test_unit_vectors_that_do_not_depend_on_the_batch(self, network: Descriptor) -> None:
        frames = frames_of(3, network.input_size)
        vectors = network.forward(frames)
        assert vectors.shape == (3, network.dim) and vectors.dtype == np.float32
        np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
        alone = np.concatenate([network.forward(frames[i : i + 1]) for i in range(3)])
        np.testing.assert_allclose(vectors, alone, atol=1e-4)
        assert np.abs(vectors[0] - vectors[1]).max() > 1e-4

    def test_other_sizes_are_refused(self, network: Descriptor) -> None:
        with pytest.raises(ValueError, match="takes uint8"):
            network.forward(frames_of(1, network.input_size - 8))


class DetectorContract:
    """Subclasses give the fixture ``network``."""

    def test_boxes_lie_inside_and_are_sorted(self, network: Detector) -> None:
        sizes = [(640, 480), (33, 500)]
        raw = network.forward(frames_of(2, network.input_size))
        found = network.finish(raw, sizes)
        assert len(found) == 2
        for boxes, (width, height) in zip(found, sizes, strict=True):
            assert [box.score for box in boxes] == sorted((box.score for box in boxes), reverse=True)
            for box in boxes:
                assert 0 <= box.x0 <= box.x1 <= width and 0 <= box.y0 <= box.y1 <= height
                assert 0 <= box.score <= 1 and box.label

    def test_other_sizes_are_refused(self, network: Detector) -> None:
        with pytest.raises(ValueError, match="takes uint8"):
            network.forward(frames_of(1, network.input_size - 8))


class FilterContract:
    """Subclasses give the fixture ``network``."""

    def test_scores_are_shares(self, network: ContentFilter) -> None:
        frames = frames_of(3, network.input_size)
        scores = network.forward(frames)
        assert scores.shape == (3,) and scores.dtype == np.float32
        assert (scores >= 0).all() and (scores <= 1).all()
        np.testing.assert_allclose(scores[1:2], network.forward(frames[1:2]), atol=1e-4)

    def test_other_sizes_are_refused(self, network: ContentFilter) -> None:
        with pytest.raises(ValueError, match="takes uint8"):
            network.forward(frames_of(1, network.input_size - 8))
