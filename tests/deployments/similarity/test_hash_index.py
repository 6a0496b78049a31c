"""The hash index against comparing everything with everything: near the limits, many alike, and after additions."""

from itertools import pairwise

import numpy as np
import pytest
from numpy.typing import NDArray

from deployments.similarity.hash_index import TABLED_LIMIT, HashIndex

Hashes = NDArray[np.uint8]


def _flipped(numbers: np.random.Generator, one: Hashes, bits: int) -> Hashes:
    """The hash with exactly so many other bits."""
    all_bits = np.unpackbits(one)
    all_bits[numbers.choice(256, bits, replace=False)] ^= 1
    return np.packbits(all_bits)


def _spread(numbers: np.random.Generator, one: Hashes, bits: int) -> Hashes:
    """So many other bits, over all sixteen parts as evenly as can be: the worst case for the tables."""
    all_bits = np.unpackbits(one)
    for turn in range(bits):
        part = turn % 16
        all_bits[16 * part + (turn // 16 * 5 + int(numbers.integers(5))) % 16] ^= 1
    return np.packbits(all_bits)


def _truth(hashes: Hashes, ids: NDArray[np.int64], limits: NDArray[np.int16], queries: Hashes) -> dict[int, int]:
    distances = np.bitwise_count(hashes[:, None] ^ queries[None]).sum(axis=2, dtype=np.int64).min(axis=1)
    return {int(one): int(bits) for one, bits, limit in zip(ids, distances, limits, strict=True) if bits <= limit}


def _random(numbers: np.random.Generator, count: int) -> Hashes:
    return numbers.integers(0, 256, (count, 32), np.uint8)


@pytest.mark.parametrize("count", [0, 1, 500, 20_000])
def test_finds_what_a_full_comparison_finds(count: int) -> None:
    numbers = np.random.default_rng(count)
    hashes, ids = _random(numbers, count), numbers.permutation(count).astype(np.int64) + 10**12
    limits = numbers.choice([0, 8, 15, 16, 30, 31, 32, 47, 60, 90], count).astype(np.int16)
    index = HashIndex(hashes, ids, limits)
    found_any = 0
    for _ in range(40 if count else 1):
        queries = _random(numbers, 8)
        for row, place in enumerate(numbers.integers(0, count, 8) if count else []):
            bits = int(numbers.integers(max(0, limits[place] - 2), limits[place] + 3))
            make = _spread if row % 2 and bits <= 48 else _flipped
            queries[row] = make(numbers, hashes[place], bits)
        truth = _truth(hashes, ids, limits, queries)
        assert index.search(queries) == truth
        found_any += len(truth)
    assert len(index) == count and (found_any > 0) == (count > 0)


def test_every_distance_up_to_the_limit_of_the_tables_is_found_and_none_above() -> None:
    numbers = np.random.default_rng(3)
    hashes = _random(numbers, 10_000)
    index = HashIndex(hashes, np.arange(10_000), np.full(10_000, TABLED_LIMIT, np.int16))
    assert index._tables is not None
    for bits in range(TABLED_LIMIT + 4):
        for make in (_flipped, _spread):
            near = make(numbers, hashes[777], bits)
            distance = int(np.bitwise_count(near ^ hashes[777]).sum())
            found = index.search(near[None])
            assert found.get(777) == (distance if distance <= TABLED_LIMIT else None)


def test_many_that_are_alike() -> None:
    numbers = np.random.default_rng(4)
    one = _random(numbers, 1)
    hashes = np.stack([_flipped(numbers, one[0], int(bits)) for bits in numbers.integers(0, 40, 6000)])
    index = HashIndex(hashes, np.arange(6000), np.full(6000, 31, np.int16))
    found = index.search(np.concatenate([one, _random(numbers, 7)]))
    assert found == _truth(hashes, np.arange(6000), np.full(6000, 31), one) and len(found) > 4000


def test_additions_are_found_at_once_and_the_index_before_them_is_as_it_was() -> None:
    numbers = np.random.default_rng(5)
    hashes, ids = _random(numbers, 30_000), np.arange(30_000)
    limits = numbers.choice([10, 31, 40], 30_000).astype(np.int16)
    index = first = HashIndex.empty()
    sizes = [0, 1, 3000, 3500, 9000, 9001, 20_000, 30_000]
    for start, end in pairwise(sizes):
        index = index.extended(hashes[start:end], ids[start:end], limits[start:end])
        assert len(index) == end
        for place in (0, end // 2, end - 1):
            queries = _flipped(numbers, hashes[place], 10)[None]
            found = index.search(queries)
            assert found == _truth(hashes[:end], ids[:end], limits[:end], queries) and found[place] == 10
    assert index._tables is not None and len(index._others) < 15_000
    assert len(first) == 0 and first.search(hashes[:1]) == {}


def test_a_hash_of_another_length_is_refused() -> None:
    with pytest.raises(ValueError, match="32"):
        HashIndex(np.zeros((2, 16), np.uint8), np.arange(2), np.zeros(2, np.int16))
    with pytest.raises(ValueError, match="32"):
        HashIndex.empty().extended(np.zeros((2, 33), np.uint8), np.arange(2), np.zeros(2, np.int16))
