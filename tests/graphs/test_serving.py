"""The Serve configurations: valid by Ray's own schema and by ours, complete, and with the one writer."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError
from ray.serve import Application
from ray.serve.config import AutoscalingConfig
from ray.serve.schema import ServeDeploySchema

from configs.settings import Settings
from graphs.serving import ServingOptions, build

ROOT = Path(__file__).parents[2]
FILES = [ROOT / "serve_config.yaml", ROOT / "configs" / "serve_gpu.yaml"]
DEPLOYMENTS = {
    "Ingress", "Pipeline", "Embedder", "Detector", "SimilarityReader", "SimilarityWriter", "WebhookSender"
}  # fmt: skip


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


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_who_is_turned_away_is_told_when_to_come_back(path: Path) -> None:
    ingress = next(one for one in application(path).deployments if one.name == "Ingress")
    assert ingress.backpressure_config.status_code == 503 and ingress.backpressure_config.retry_after_s >= 1


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_a_pipeline_is_added_when_one_has_more_than_it_holds(path: Path) -> None:
    found = application(path)
    options = ServingOptions.model_validate(found.args).pipeline
    pipeline = next(one for one in found.deployments if one.name == "Pipeline")
    scaling = AutoscalingConfig.model_validate(pipeline.autoscaling_config)
    assert scaling.policy.policy_kwargs["images_per_replica"] == options.batch_size * options.batches
    assert scaling.target_ongoing_requests < pipeline.max_ongoing_requests


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
        {"detector": {"max_batch_frames": "many"}},
        {"reader": {"stale_s": -1}},
        {"writer": {"optimize_every": 0}},
        {"webhooks": {"per_webhook": 0}},
        {"ingress": {"call_timeout_s": 90}, "pipeline": {"call_timeout_s": 60}},
    ],
)
def test_a_mistake_in_the_options_is_refused(args: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        ServingOptions.model_validate(args)


def built(args: dict[str, Any]) -> dict[str, Any]:
    """Every deployment of the graph that the builder binds, by name."""
    found: dict[str, Any] = {}

    def visit(node: Any) -> None:
        bound = node._bound_deployment
        found[bound.name] = bound
        for one in (*bound.init_args, *bound.init_kwargs.values()):
            if isinstance(one, Application):
                visit(one)

    visit(build(args))
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_the_file_names_the_deployments_that_are_built(path: Path) -> None:
    described = application(path)
    graph = built(described.args)
    assert {one.name for one in described.deployments} == set(graph)
    for name, options in described.args.items():
        other = {"reader": "SimilarityReader", "writer": "SimilarityWriter", "webhooks": "WebhookSender"}
        owner = other.get(name, name.capitalize())
        assert graph[owner].init_kwargs.items() >= options.items(), f"{name}: the options do not reach {owner}"


def test_without_options_the_defaults_are_built() -> None:
    graph = built({})
    assert set(graph) == DEPLOYMENTS
    assert graph["Detector"].init_kwargs["max_batch_frames"] == 16
    assert graph["Ingress"].init_kwargs["call_timeout_s"] <= graph["Pipeline"].init_kwargs["call_timeout_s"]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_limits_fit_into_one_another(path: Path) -> None:
    content = ServeDeploySchema.model_validate(yaml.safe_load(path.read_text()))
    found = content.applications[0]
    options = ServingOptions.model_validate(found.args)
    assert content.http_options.request_timeout_s > options.ingress.call_timeout_s, "a client would wait for nobody"
    by_name = {one.name: one for one in found.deployments}
    writer = by_name["SimilarityWriter"]
    assert writer.num_replicas == 1 and not isinstance(writer.autoscaling_config, dict), "two writers fence each other"
    longest_try = Settings.model_fields["webhook_timeout_s"].default
    assert by_name["WebhookSender"].graceful_shutdown_timeout_s > longest_try, "tries under way would be cut off"
    assert by_name["Pipeline"].graceful_shutdown_timeout_s >= options.pipeline.call_timeout_s
    for name in ("Embedder", "Detector"):
        assert by_name[name].max_ongoing_requests >= by_name[name].user_config["max_batch_calls"]


def test_the_gpu_one_is_for_several_machines() -> None:
    content = ServeDeploySchema.model_validate(yaml.safe_load(FILES[1].read_text()))
    assert content.proxy_location == "EveryNode"
    by_name = {one.name: one for one in content.applications[0].deployments}
    for name in ("Ingress", "Pipeline", "Embedder", "Detector", "SimilarityReader"):
        scaling = AutoscalingConfig.model_validate(by_name[name].autoscaling_config)
        assert scaling.downscale_delay_s > scaling.upscale_delay_s, "grows quickly, shrinks slowly"
        assert scaling.target_ongoing_requests < by_name[name].max_ongoing_requests, (
            "replicas would fill before growing"
        )
    small, large = (ServingOptions.model_validate(application(path).args) for path in FILES)
    assert large.embedder.max_batch_frames > small.embedder.max_batch_frames
    assert large.detector.max_batch_frames > small.detector.max_batch_frames


def test_ray_refuses_a_broken_file() -> None:
    content = yaml.safe_load(FILES[1].read_text())
    content["applications"][0]["deployments"][2]["max_ongoing_requests"] = 0
    with pytest.raises(ValidationError):
        ServeDeploySchema.model_validate(content)


def test_the_message_names_both_timeouts() -> None:
    with pytest.raises(ValidationError, match=r"ingress\.call_timeout_s=90.*pipeline\.call_timeout_s=60"):
        build({"ingress": {"call_timeout_s": 90}, "pipeline": {"call_timeout_s": 60}})
