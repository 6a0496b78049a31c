"""Merged calls: one pass for all, and a bad call fails alone."""

from collections.abc import Sequence

from deployments.batching import each_alone_on_failure


async def test_a_bad_call_fails_alone() -> None:
    passes: list[int] = []

    def run(items: Sequence[int]) -> list[float]:
        passes.append(len(items))
        return [1 / item for item in items]

    assert await each_alone_on_failure(run, [1, 2, 4]) == [1, 0.5, 0.25]
    assert passes == [3]
    first, bad, last = await each_alone_on_failure(run, [1, 0, 4])
    assert (first, last) == (1, 0.25) and isinstance(bad, ZeroDivisionError)
    assert passes == [3, 3, 1, 1, 1]
