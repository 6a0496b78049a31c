"""The load profile: users over time. Only the standard library: Locust reads it in an environment of its own."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Stage:
    """A stretch of time.

    Args:
        seconds: how long.
        first, last: users at its beginning and its end; between them a straight line.
    """

    name: str
    seconds: float
    first: int
    last: int


PROFILE = (
    Stage("quiet", 45, 2, 2),
    Stage("ramp", 60, 2, 10),
    Stage("burst", 60, 20, 20),
    Stage("quiet again", 165, 2, 2),
)
"""A burst of ten times the quiet load, which two cores cannot keep up with."""


def users_at(stages: Sequence[Stage], elapsed_s: float) -> int | None:
    """Users at a moment, None once the profile is over."""
    found = stage_at(stages, elapsed_s)
    if found is None:
        return None
    stage, since_s = found
    return round(stage.first + (stage.last - stage.first) * since_s / stage.seconds)


def stage_at(stages: Sequence[Stage], elapsed_s: float) -> tuple[Stage, float] | None:
    """The stage of a moment and the seconds since it began, None once the profile is over."""
    for stage in stages:
        if elapsed_s < stage.seconds:
            return stage, elapsed_s
        elapsed_s -= stage.seconds
    return None


def parse(text: str) -> list[Stage]:
    """Stages as they are written on a command line: ``quiet:45:2:2,ramp:60:2:10``.

    Raises:
        ValueError: it is not of that form.
    """
    stages = []
    for part in text.split(","):
        name, seconds, first, last = part.split(":")
        stages.append(Stage(name, float(seconds), int(first), int(last)))
    return stages


def written(stages: Sequence[Stage]) -> str:
    """The same text."""
    return ",".join(f"{stage.name}:{stage.seconds:g}:{stage.first}:{stage.last}" for stage in stages)
