"""The Serve configurations: valid by Ray's own schema and by ours, complete, and with the one writer."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError
from ray.serve.config import AutoscalingConfig
from ray.serve.schema import ServeDeploySchema

from graphs.serving import ServingOptions

ROOT = Path(__file__).parents[2]
FILES = [ROOT / "serve_config.yaml", ROOT / "configs" / "serve_gpu.yaml"]
DEPLOYMENTS = {"Ingress", "Pipeline", "Embedder", "Detector", "SimilarityReader", "SimilarityWriter"}


def application(path: Path) -> Any:
    return ServeDeploySchema.model_validate(yaml.safe_load(path.read_text())).applications[0]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_ray_and_our_builder_take_the_file(path: Path) -> None:
    found = application(path)
    ServingOptions.model_validate(found.args)
    assert {deployment.name for deployment in found.deployments} == DEPLOYMENTS
    assert found.import_path == "graphs.serving:build"
    by_name = {deployment.name: deployment for deployment in found.deployments}
    assert by_name["SimilarityWriter"].num_replicas == 1
    for deployment in found.deployments:
        if deployment.name != "SimilarityWriter":
            assert deployment.max_queued_requests > 0, "a queue without limit"


def test_the_small_one_has_two_ingress_replicas() -> None:
    ingress = next(one for one in application(FILES[0]).deployments if one.name == "Ingress")
    assert ingress.num_replicas == 2


def test_the_gpu_one_scales_on_gpus() -> None:
    for one in application(FILES[1]).deployments:
        if one.name in ("Embedder", "Detector"):
            AutoscalingConfig.model_validate(one.autoscaling_config)
            assert one.autoscaling_config["max_replicas"] > one.autoscaling_config["min_replicas"] >= 1
            assert one.ray_actor_options.num_gpus > 0
            calls = one.user_config["max_batch_calls"]
            assert one.max_ongoing_requests >= 2 * calls, "batches would never fill"


@pytest.mark.parametrize(
    "args",
    [
        {"pipline": {}},
        {"pipeline": {"batch_size": 0}},
        {"embedder": {"thread": 2}},
        {"ingress": {"call_timeout_s": 90}, "pipeline": {"call_timeout_s": 60}},
    ],
)
def test_a_mistake_in_the_options_is_refused(args: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        ServingOptions.model_validate(args)


def test_ray_refuses_a_broken_file() -> None:
    content = yaml.safe_load(FILES[1].read_text())
    content["applications"][0]["deployments"][2]["max_ongoing_requests"] = 0
    with pytest.raises(ValidationError):
        ServeDeploySchema.model_validate(content)
