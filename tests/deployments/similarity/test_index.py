"""Exact search: what a brute force in numpy finds, in the same order, while the index grows."""

import threading
import tracemalloc

import numpy as np
import pytest
from numpy.typing import NDArray

from deployments.similarity import index as index_module
from deployments.similarity.index import Ask, ExactIndex
from storage.vector_rows import PDQ_SPACE, VectorRows, VectorSpace

FLOATS = VectorSpace("floats@1", 48)


def rows(space: VectorSpace, count: int, seed: int, first_id: int = 0) -> VectorRows:
    """Random rows; three regions an image."""
    rng = np.random.default_rng(seed)
    if space.binary:
        vectors = rng.integers(0, 256, (count, space.dim), np.uint8)
    else:
        vectors = rng.normal(size=(count, space.dim)).astype(np.float32)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    places = np.arange(count)
    return VectorRows(
        (first_id + places // 3).astype(np.int64), (places % 3).astype(np.int16),
        rng.random((count, 4), np.float32), vectors,
    )  # fmt: skip


def brute_force(space: VectorSpace, held: VectorRows, queries: NDArray) -> NDArray:
    """Scores of every query against every row, the slow and plain way."""
    if not space.binary:
        return np.asarray([[float(np.dot(q, v)) for v in held.vectors] for q in queries])
    bits = np.unpackbits(held.vectors, axis=1)
    return np.asarray([[1 - 2 * float((row != one).mean()) for row in bits] for one in np.unpackbits(queries, axis=1)])


@pytest.mark.parametrize("space", [FLOATS, PDQ_SPACE], ids=["float", "binary"])
@pytest.mark.parametrize(("k", "min_score"), [(5, -1.0), (1000, 0.1), (3, 0.1)])
def test_the_same_as_brute_force(space: VectorSpace, k: int, min_score: float) -> None:
    held = rows(space, 700, 1)
    queries = np.concatenate([rows(space, 4, 2).vectors, held.vectors[10:11]])
    index = ExactIndex(space)
    index.extend(held)
    found = index.search(queries, k=k, min_score=min_score)
    wanted = brute_force(space, held, queries)
    for query, line in enumerate(wanted):
        mine = [(hit[0], hit[2], hit[4]) for hit in found if hit[1] == query]
        order = [place for place in np.argsort(-line) if line[place] >= min_score][:k]
        assert [score for _, _, score in mine] == pytest.approx([line[place] for place in order], abs=1e-5)
        if not space.binary:  # bit strings tie
            assert [(image, region) for image, region, _ in mine] == [(p // 3, p % 3) for p in order]
        for image, region, score in mine:
            assert line[image * 3 + region] == pytest.approx(score, abs=1e-5)
    assert [hit[4] for hit in found] == sorted((hit[4] for hit in found), reverse=True)
    assert found[0][:3] == (3, 4, 1) and found[0][4] == pytest.approx(1.0, abs=1e-5)
    assert found[0][3] == tuple(float(value) for value in held.boxes[10])


@pytest.mark.parametrize("space", [FLOATS, PDQ_SPACE], ids=["float", "binary"])
def test_an_excluded_image_is_absent_and_the_next_takes_its_place(space: VectorSpace) -> None:
    held = rows(space, 90, 3)
    index = ExactIndex(space)
    index.extend(held)
    query = held.vectors[30:31]
    with_it = index.search(query, k=4, min_score=-1.0)
    without = index.search(query, k=4, min_score=-1.0, exclude=10)
    assert with_it[0][0] == 10 and len(without) == 4
    assert all(hit[0] != 10 for hit in without)
    assert index.search(query, k=90, min_score=-1.0, exclude=10) == [
        hit for hit in index.search(query, k=90, min_score=-1.0) if hit[0] != 10
    ]


@pytest.mark.parametrize("space", [FLOATS, PDQ_SPACE], ids=["float", "binary"])
def test_only_a_range_of_images_is_searched(space: VectorSpace) -> None:
    held = rows(space, 90, 3)
    index = ExactIndex(space)
    index.extend(held)
    query = held.vectors[30:32]
    everything = index.search(query, k=90, min_score=-1.0, exclude=12)
    for within in ((9, 14), (-1, 29), (29, 40), (14, 9)):
        found = index.search(query, k=90, min_score=-1.0, exclude=12, within=within)
        wanted = [hit for hit in everything if within[0] < hit[0] <= within[1]]
        assert [hit[:4] for hit in found] == [hit[:4] for hit in wanted]
        assert [hit[4] for hit in found] == pytest.approx([hit[4] for hit in wanted], abs=1e-6)
    best = index.search(query, k=1, min_score=-1.0, within=(9, 14))
    assert len(best) == 2 and all(9 < hit[0] <= 14 for hit in best)


@pytest.mark.parametrize("space", [FLOATS, PDQ_SPACE], ids=["float", "binary"])
@pytest.mark.parametrize(
    ("at_once", "groups"),
    [(1, [1] * 8), (93 * 5, [3, 1, 1, 1, 1, 1]), (93 * 6, [4, 1, 1, 1, 1]), (2**23, [4, 1, 1, 1, 1])],
)
def test_many_pictures_at_once_find_what_each_finds(
    space: VectorSpace, at_once: int, groups: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(index_module, "_AT_ONCE", at_once)
    held, ids = rows(space, 90, 3), np.asarray([3, 12, 20])
    index = ExactIndex(space)
    index.extend(held)
    index.extend(VectorRows(held.image_ids[:3], held.regions[:3], held.boxes[:3], held.vectors[:3]))  # image 0 again
    asks = [
        Ask(held.vectors[30:32], 4, -1.0),
        Ask(held.vectors[40:41], 90, -1.0, exclude=13, images=ids),
        Ask(held.vectors[39:41], 90, -1.0, images=ids),  # of image 13
        Ask(held.vectors[20:21], 7, 0.1, exclude=7),
        Ask(held.vectors[:0], 4, -1.0),
        Ask(held.vectors[36:39], 5, -1.0, within=(9, 14), images=ids),
        Ask(held.vectors[36:39], 5, -1.0, within=(14, 20)),
        Ask(held.vectors[20:23], 7, 0.1, exclude=7),
    ]
    rest, made = asks, []
    while rest:
        made.append(len(index_module._together(rest, len(index))))
        rest = rest[made[-1] :]
    assert made == groups
    found = index.search_many(asks)
    assert [len(nearest) for nearest, _ in found[:7]] == [8, 87, 180, len(found[3][0]), 0, 15, 15] and found[3][0]
    for ask, both in zip(asks, found, strict=True):
        ((alone, theirs_alone),) = index.search_many([ask])
        for mine, wanted in zip(both, (alone, theirs_alone), strict=True):
            assert [hit[4] for hit in mine] == pytest.approx([hit[4] for hit in wanted], abs=1e-6)
            # The order of what ties is free, and who of them is left out at the k-th place.
            if not space.binary or ask.k >= 90:
                assert sorted(hit[:4] for hit in mine) == sorted(hit[:4] for hit in wanted)
    assert {hit[0] for hit in found[1][1]} == {3, 12, 20} and {hit[0] for hit in found[5][1]} == {12}
    assert 13 not in {hit[0] for hit in found[1][0]} and found[2][0][0][0] == 13


def test_growing_by_parts_is_the_same_as_at_once() -> None:
    parts = [rows(FLOATS, count, seed, 1000 * seed) for seed, count in enumerate((1, 0, 1023, 1, 900, 2500))]
    grown, whole = ExactIndex(FLOATS), ExactIndex(FLOATS)
    assert grown.search(parts[0].vectors, k=3, min_score=-1) == []
    for part in parts:
        grown.extend(part)
    whole.extend(VectorRows.concatenate(parts))
    assert len(grown) == len(whole) == 4425
    queries = parts[4].vectors[:3]
    assert grown.search(queries, k=20, min_score=0.0) == whole.search(queries, k=20, min_score=0.0)
    assert grown.search(queries[:0], k=20, min_score=0.0) == []


@pytest.mark.parametrize("space", [FLOATS, PDQ_SPACE], ids=["float", "binary"])
def test_later_rows_of_an_image_take_the_place_of_earlier_ones(space: VectorSpace) -> None:
    index, held, later = ExactIndex(space), rows(space, 300, 1), rows(space, 6, 2, first_id=40)  # images 40 and 41
    index.extend(held)
    index.extend(later)
    old = held.vectors[120:126]
    everything = {"k": 1000, "min_score": -1.0}
    found = index.search(old, **everything)
    assert len(found) == 6 * 300 and {hit[0] for hit in found} == set(range(100))
    assert all(hit[4] < 0.95 for hit in found if hit[0] in (40, 41)), "the old vectors would be found again"
    assert {hit[0] for hit in index.search(later.vectors, k=1, min_score=0.95)} == {40, 41}
    ((among, theirs),) = index.search_many([Ask(old, **everything, images=np.asarray([40, 50]))])
    assert len(among) == 6 * 300 and {hit[0] for hit in theirs} == {40, 50} and len(theirs) == 6 * 6
    assert {hit[0] for hit in index.search(old, within=(39, 42), **everything)} == {40, 41, 42}


def test_searching_in_a_thread_while_rows_are_added() -> None:
    index = ExactIndex(FLOATS)
    index.extend(rows(FLOATS, 30_000, 1))
    query = rows(FLOATS, 8, 9).vectors
    failures: list[Exception] = []
    stop = threading.Event()

    def search() -> None:
        try:
            while not stop.is_set():
                assert len(index.search(query, k=2, min_score=-1.0, exclude=5)) == 16
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=search) for _ in range(2)]
    for thread in threads:
        thread.start()
    for seed in range(600):
        index.extend(rows(FLOATS, 20, seed, 20_000))
        if failures:
            break
    stop.set()
    for thread in threads:
        thread.join()
    assert not failures, repr(failures[0])


def test_a_range_of_ids_in_any_order_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index_module, "_BLOCK", 16)
    rng = np.random.default_rng(5)
    index, ids = ExactIndex(PDQ_SPACE), np.repeat(rng.permutation(np.arange(1, 101)), 3)
    for start in range(0, 300, 60):  # the last block is never whole
        part = rows(PDQ_SPACE, 60, start)
        index.extend(VectorRows(ids[start : start + 60], part.regions, part.boxes, part.vectors))
        held = set(ids[: start + 60].tolist())
        for within in ((0, 10), (10, 11), (40, 90), (99, 10**6), (200, 300)):
            found = index.search(rows(PDQ_SPACE, 1, 9).vectors, k=1000, min_score=-1.0, within=within)
            wanted = [one for one in ids[: start + 60].tolist() if within[0] < one <= within[1]]
            assert sorted(hit[0] for hit in found) == sorted(wanted) and {hit[0] for hit in found} <= held


def test_a_range_of_ids_does_not_look_at_all_rows() -> None:
    index, vectors = ExactIndex(PDQ_SPACE), rows(PDQ_SPACE, 600_000, 1, first_id=1)
    index.extend(vectors)
    asked = {"k": 10, "min_score": -1.0, "within": (50_000, 50_010)}
    index.search(vectors.vectors[:1], **asked)
    tracemalloc.start()
    try:
        found = index.search(vectors.vectors[:1], **asked)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(found) == 10 and most < 200_000, "bytes: a byte a row would be more"
