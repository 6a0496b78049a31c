"""Pipelines follow the queue: the policy with real numbers, and as Ray makes it from the files and calls it."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from ray.serve._private.autoscaling_state import _resolve_policy_callable
from ray.serve._private.common import DeploymentID, ReplicaID, TimeStampedValue
from ray.serve.autoscaling_policy import _apply_autoscaling_config
from ray.serve.config import AutoscalingConfig, AutoscalingContext

from deployments.pipeline.scaling import IN_WORK, OLDEST_S, WAITING, FollowQueue

PIPELINE = DeploymentID("Pipeline", "safeguard")
ROOT = Path(__file__).parents[3]
CONFIG = AutoscalingConfig(
    min_replicas=1, max_replicas=8, target_ongoing_requests=4, upscale_delay_s=10, downscale_delay_s=60
)


def told(replicas: int, waiting: float, oldest_s: float, in_work: float) -> dict[str, dict[ReplicaID, Any]]:
    """What each of them has told: an older reading, and this one; the first replica a second later than the others."""
    now = {WAITING: waiting, OLDEST_S: oldest_s, IN_WORK: in_work}
    return {
        name: {
            ReplicaID(str(number), PIPELINE): [
                TimeStampedValue(90.0, 999.0),
                TimeStampedValue(100.0 - bool(number), value),
            ]
            for number in range(replicas)
        }
        for name, value in now.items()
    }


def context(
    replicas: int = 1, *, waiting: float = 0, oldest_s: float = 0, in_work: float = 0, calls: float = 0,
    metrics: dict[str, Any] | None = None, config: AutoscalingConfig = CONFIG, now: float = 100.0,
    state: dict[str, Any] | None = None,
) -> AutoscalingContext:  # fmt: skip
    return AutoscalingContext(
        deployment_id=PIPELINE, deployment_name="Pipeline", app_name="safeguard", current_num_replicas=replicas,
        target_num_replicas=replicas, running_replicas=[], total_num_requests=calls, total_queued_requests=0.0,
        aggregated_metrics={}, raw_metrics=told(replicas, waiting, oldest_s, in_work) if metrics is None else metrics,
        capacity_adjusted_min_replicas=1, capacity_adjusted_max_replicas=8, policy_state=state or {},
        last_scale_up_time=None, last_scale_down_time=None, current_time=now, config=config,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        (context(), 0.0),  # Ray makes it the least that is allowed
        (context(waiting=100, in_work=92), 2.0),
        (context(2, waiting=8, in_work=90), (8 + 2 * 90) / 96),
        (context(3, waiting=960, oldest_s=10, in_work=96), 13.0),
        (context(2, waiting=5, oldest_s=30), 2 * 30 / 20),
        (context(2, waiting=5, oldest_s=20), 5 / 96),
        (context(3, waiting=50, oldest_s=4000), 6.0),  # not more than twice as many at a time
        (context(3, waiting=1, oldest_s=4000), 1.0),  # one image is not done sooner by several
        (context(1, calls=10), 2.5),  # searches
        (context(4, metrics={}), 4.0),  # nothing is known: nothing changes
        (context(4, metrics={WAITING: {}, OLDEST_S: {}}), 4.0),
    ],
)
def test_the_number_wanted(given: AutoscalingContext, wanted: float) -> None:
    assert FollowQueue(96, 20)(given) == (pytest.approx(wanted), {})


def test_the_last_reading_counts() -> None:
    metrics = told(2, 0, 0, 0)
    old = ReplicaID("0", PIPELINE)
    metrics[WAITING][old] = [TimeStampedValue(50.0, 960.0)]  # that replica hangs; the other one sees an empty queue
    assert FollowQueue(96, 20)(context(2, metrics=metrics))[0] == 0.0


@pytest.mark.parametrize("options", [(0, 20), (96, 0), (-1, 20)])
def test_options_are_checked(options: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match="must be above 0"):
        FollowQueue(*options)


def pipeline_config(name: str) -> AutoscalingConfig:
    content = yaml.safe_load((ROOT / name).read_text())
    deployments = {one["name"]: one for one in content["applications"][0]["deployments"]}
    return AutoscalingConfig.model_validate(deployments["Pipeline"]["autoscaling_config"])


@pytest.mark.parametrize("name", ["serve_config.yaml", "configs/serve_gpu.yaml"])
def test_as_ray_makes_and_calls_it(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    config = pipeline_config(name)
    policy = _apply_autoscaling_config(_resolve_policy_callable(config.policy))
    least, most = config.min_replicas, config.max_replicas
    state: dict[str, Any] = {}

    def at(now: float, replicas: int, **given: float) -> int:
        nonlocal state
        monkeypatch.setattr("time.time", lambda: now)
        wanted, state = policy(context(replicas, config=config, now=now, state=state, **given))  # type: ignore[arg-type]
        return min(most, max(least, wanted))

    full = {"waiting": 5000.0, "oldest_s": 40.0, "in_work": 96.0}
    assert at(0, least) == least
    assert at(1, least, **full) == least, "a moment is no reason"
    assert at(1 + config.upscale_delay_s, least, **full) == most
    assert at(100, most) == most
    assert at(99 + config.downscale_delay_s, most) == most, "work may come again"
    assert at(100 + config.downscale_delay_s, most) == least
