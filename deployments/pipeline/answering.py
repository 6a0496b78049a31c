"""Whether somebody waits for an answer of a pipeline, so that it should not take on much else. Imports nothing of ours."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_FOR_S = 10.0


class Answering:
    """True while calls are answered, for some seconds after each, and at first.

    In a moment without a call a pipeline could claim all it may hold, and so could one that is added under load; calls to any
    pipeline of the machine would then wait behind that.

    Args:
        for_s: after a call, and at first, another one is expected for so long, seconds.
        clock: seconds that only grow.
    """

    def __init__(self, for_s: float = _FOR_S, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._for_s = for_s
        self._clock = clock
        self._calls = 0
        self._until = clock() + for_s

    @contextmanager
    def call(self) -> Iterator[None]:
        """Somebody waits inside the block."""
        self._calls += 1
        try:
            yield
        finally:
            self._calls -= 1
            self._until = self._clock() + self._for_s

    def __call__(self) -> bool:
        """Whether it is so now."""
        return self._calls > 0 or self._clock() < self._until
