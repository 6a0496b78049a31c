"""How long those who are turned away should stay away: the more of them there are, the longer. Knows no route."""

import time
from collections import deque
from collections.abc import Callable

_WINDOW_S = 30
"""How far back the pace is looked at."""
_STEADY = 2.0
"""Of what is told next, its own share is one in (1 + those away / _STEADY): else what is told swings between its bounds."""


class Crowd:
    """Those who want the same thing and are turned away while there is no room; each comes back when it was told to.

    Whoever was turned away within the time that is told is away now. With N of them, and p let in a second, what is told comes to
    about N / (returns × p) seconds, and one more than ``returns`` comes for each that is let in
    (tests/deployments/ingress/test_crowd.py). A client that comes back sooner than it was told counts each time; against those
    there are the limits of keys.

    Args:
        least_s, most_s: bounds of what is told, seconds.
        returns: so many should come back in the time in which one is let in. Room that nobody takes at once is lost where work
            stops for it (searches: 2), and not where it can be taken later (a queue: 1); more are work for nothing.
        clock: seconds that only grow.
    """

    def __init__(
        self, least_s: float, most_s: float, *, returns: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._least_s, self._most_s, self._returns, self._clock = least_s, most_s, returns, clock
        self._began = 0.0
        self._told_s = least_s
        self._let_in: deque[list[int]] = deque()
        self._away: deque[list[int]] = deque()

    def let_in(self) -> None:
        """One was let in."""
        _count(self._let_in, self._clock(), _WINDOW_S)

    def turned_away(self) -> float:
        """One is turned away.

        Returns:
            Seconds that it should stay away; while nobody is let in, as long as the last one.
        """
        now = self._clock()
        _drop(self._away, now, self._told_s)
        if not self._away:  # nobody is away: how little came before says nothing of how much there is room for
            self._began, self._told_s = now, self._least_s
            self._let_in.clear()
        _count(self._away, now, self._told_s)
        _drop(self._let_in, now, _WINDOW_S)
        if self._let_in:
            per_s = sum(count for _, count in self._let_in) / min(float(_WINDOW_S), max(1.0, now - self._began))
            away = sum(count for _, count in self._away)
            step = (away / (self._returns * per_s) - self._told_s) / (1.0 + away / _STEADY)
            self._told_s = min(self._most_s, max(self._least_s, self._told_s + step))
        return self._told_s


def _count(seconds: deque[list[int]], now: float, kept_s: float) -> None:
    """Counts one in the present second, and forgets what is older than ``kept_s``."""
    if not seconds or seconds[-1][0] != int(now):
        seconds.append([int(now), 0])
    seconds[-1][1] += 1
    _drop(seconds, now, kept_s)


def _drop(seconds: deque[list[int]], now: float, kept_s: float) -> None:
    while seconds and seconds[0][0] < now - kept_s - 1:
        seconds.popleft()
