"""How many pipelines there should be: they follow the queue in PostgreSQL. Called by Ray's controller; imports its types only."""

from collections.abc import Mapping
from typing import Any

from ray.serve.config import AutoscalingContext

WAITING, OLDEST_S, IN_WORK = "safeguard_waiting", "safeguard_oldest_s", "safeguard_in_work"
"""What every pipeline tells (``Pipeline.record_autoscaling_stats``): images that wait for any, age of the first, its own."""
_DOUBLED = 2.0
"""As far as age alone makes the number grow at a time: what waits long may wait for something else than a pipeline."""


class FollowQueue:
    """A policy of ``autoscaling_config``. Pipelines pull their work, so the calls that Ray counts say nothing of what waits.

    The largest of three decides: images waiting and in work over ``images_per_replica``; while the first has waited for longer
    than ``oldest_s``, the present number times the ratio, at most twice it and at most one for each image; searches over
    ``target_ongoing_requests``. Ray then applies its bounds, delays and factors. Without news of the queue (PostgreSQL does
    not answer) nothing changes.

    Args:
        images_per_replica: waiting or in work for each; what a pipeline holds at a time is ``batch_size`` × ``batches``.
        oldest_s: no image should wait longer, seconds.
    Raises:
        ValueError: one of them is not above 0.
    """

    def __init__(self, images_per_replica: float, oldest_s: float) -> None:
        if images_per_replica <= 0 or oldest_s <= 0:
            raise ValueError(f"images_per_replica={images_per_replica} and oldest_s={oldest_s} must be above 0")
        self._images_per_replica = images_per_replica
        self._oldest_s = oldest_s

    def __call__(self, context: AutoscalingContext) -> tuple[float, dict[str, Any]]:
        """How many there should be, before Ray's bounds and delays; and nothing to remember."""
        waiting, oldest_s = _newest(context, WAITING), _newest(context, OLDEST_S)
        if not waiting or not oldest_s:
            return float(context.target_num_replicas), {}
        images = _latest(waiting) + sum(value for _, value in _newest(context, IN_WORK))
        late = _latest(oldest_s) / self._oldest_s
        return max(
            images / self._images_per_replica,
            min(images, context.current_num_replicas * min(late, _DOUBLED)) if late > 1 else 0.0,
            context.total_num_requests / context.config.get_target_ongoing_requests(),
        ), {}


def _newest(context: AutoscalingContext, name: str) -> list[tuple[float, float]]:
    """The last time and value that each replica told."""
    told: Mapping[Any, Any] = (context.raw_metrics or {}).get(name, {})
    return [(series[-1].timestamp, series[-1].value) for series in told.values() if series]


def _latest(told: list[tuple[float, float]]) -> float:
    """What the last one said of something that is the same for all."""
    return max(told)[1]
