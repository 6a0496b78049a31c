"""The manifests for Kubernetes: fields of RayService by hand, secrets and settings that exist, replicas that fit a pod."""

import re
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from graphs.serving import ServingOptions
from tests.deploy.reading import DEPLOY, OPTIONS, ROOT, documents

FOLDER = DEPLOY / "kuberay"
SERVICE = {"serveConfigV2", "rayClusterConfig", "upgradeStrategy", "excludeHeadPodFromServeSvc"}
CLUSTER = {
    "rayVersion", "enableInTreeAutoscaling", "authOptions", "gcsFaultToleranceOptions", "headGroupSpec", "workerGroupSpecs"
}  # fmt: skip
GROUP = {"groupName", "replicas", "minReplicas", "maxReplicas", "rayStartParams", "template"}
POD = {
    "automountServiceAccountToken", "terminationGracePeriodSeconds", "securityContext", "containers", "volumes",
    "restartPolicy",
}  # fmt: skip
CONTAINER = {"name", "image", "args", "envFrom", "env", "ports", "resources", "securityContext", "volumeMounts"}
"""What we use of KubeRay's API reference (ray.io/v1) and of Kubernetes."""


@pytest.fixture
def service() -> dict[str, Any]:
    (content,) = documents(FOLDER / "rayservice.yaml")
    return content


@pytest.fixture
def pods(service: dict[str, Any]) -> dict[str, dict[str, Any]]:
    cluster = service["spec"]["rayClusterConfig"]
    (job,) = documents(FOLDER / "prepare.yaml")
    found = {"head": cluster["headGroupSpec"]["template"]["spec"], "prepare": job["spec"]["template"]["spec"]}
    return found | {group["groupName"]: group["template"]["spec"] for group in cluster["workerGroupSpecs"]}


def test_fields_are_those_of_the_api(service: dict[str, Any], pods: dict[str, dict[str, Any]]) -> None:
    assert (service["apiVersion"], service["kind"]) == ("ray.io/v1", "RayService")
    assert service["spec"].keys() == SERVICE
    cluster = service["spec"]["rayClusterConfig"]
    assert cluster.keys() == CLUSTER
    assert cluster["headGroupSpec"].keys() <= GROUP and cluster["authOptions"]["mode"] == "token"
    assert {"redisAddress", "redisPassword"} == cluster["gcsFaultToleranceOptions"].keys()
    for group in cluster["workerGroupSpecs"]:
        assert group.keys() == GROUP and group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]
        assert all(isinstance(value, str) for value in group["rayStartParams"].values())
    for pod in pods.values():
        assert pod.keys() <= POD
        (container,) = pod["containers"]
        assert container.keys() <= CONTAINER
        mounts = {mount["name"] for mount in container["volumeMounts"]}
        assert mounts == {volume["name"] for volume in pod["volumes"]}
    locked = re.search(r"^ray==(.+)$", (ROOT / "requirements.lock").read_text(), re.MULTILINE)
    assert locked and cluster["rayVersion"] == locked[1]


def test_no_pod_is_root(pods: dict[str, dict[str, Any]]) -> None:
    for pod in pods.values():
        context, (container,) = pod["securityContext"], pod["containers"]
        assert context["runAsNonRoot"] is True and context["runAsUser"] == 10001
        assert container["securityContext"] == {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
        assert container["resources"]["limits"] == container["resources"]["requests"]
    assert {name for name, pod in pods.items() if pod["automountServiceAccountToken"]} == {"head"}, (
        "only the autoscaler beside the head talks to Kubernetes"
    )


def references(node: Any) -> Iterator[tuple[str, str]]:
    """Every key of a secret that is asked for."""
    if isinstance(node, dict):
        if "secretKeyRef" in node:
            yield node["secretKeyRef"]["name"], node["secretKeyRef"]["key"]
        if "secretName" in node and "items" in node:
            yield from ((node["secretName"], item["key"]) for item in node["items"])
        if "secretName" in node and "mode" in node:
            yield node["secretName"], "auth_token"
        for value in node.values():
            yield from references(value)
    if isinstance(node, list):
        for value in node:
            yield from references(value)


def test_secrets_and_settings_exist(service: dict[str, Any], pods: dict[str, dict[str, Any]]) -> None:
    examples = documents(FOLDER / "secrets.example.yaml")
    secrets = {(one["metadata"]["name"], key): value for one in examples if one["kind"] == "Secret"
               for key, value in one["stringData"].items()}  # fmt: skip
    assert not any(secrets.values()), "an example of a secret is used as one"
    (job,) = documents(FOLDER / "prepare.yaml")
    assert {*references(service), *references(job)} == secrets.keys()
    (plain,) = (one for one in examples if one["kind"] == "ConfigMap")
    assert plain["data"].keys() <= OPTIONS and all(isinstance(value, str) for value in plain["data"].values())
    assert plain["data"]["SAFEGUARD_RAY_DASHBOARD"] == f"http://{service['metadata']['name']}-head-svc:8265"
    for pod in pods.values():
        (container,) = pod["containers"]
        assert container["envFrom"] == [{"configMapRef": {"name": plain["metadata"]["name"]}}]
        names = [one["name"] for one in container["env"]]
        assert {name for name in names if name.startswith("SAFEGUARD_")} <= OPTIONS
        assert "SAFEGUARD_DATABASE_URL" in names and len(names) == len(set(names))


def test_the_application_is_that_of_configs(service: dict[str, Any]) -> None:
    served = yaml.safe_load(service["spec"]["serveConfigV2"])
    assert served == yaml.safe_load((ROOT / "configs" / "serve_gpu.yaml").read_text())
    (application,) = served["applications"]
    ServingOptions.model_validate(application["args"])
    module, _, attribute = application["import_path"].partition(":")
    assert attribute in dir(__import__(module, fromlist=[attribute]))


def test_every_replica_fits_a_pod_and_the_least_of_all_fit_the_cluster(service: dict[str, Any]) -> None:
    groups = service["spec"]["rayClusterConfig"]["workerGroupSpecs"]
    rooms = []
    for group in groups:
        limits = group["template"]["spec"]["containers"][0]["resources"]["limits"]
        memory = int(limits["memory"].removesuffix("Gi")) * 2**30
        rooms.append((int(limits["cpu"]), int(limits.get("nvidia.com/gpu", 0)), memory, group["replicas"]))
    (application,) = yaml.safe_load(service["spec"]["serveConfigV2"])["applications"]
    cpus = gpus = 0.0
    for deployment in application["deployments"]:
        options = deployment["ray_actor_options"]
        wanted = (options["num_cpus"], options.get("num_gpus", 0), options.get("memory", 0))
        assert any(all(one <= room for one, room in zip(wanted, rooms_of, strict=False)) for rooms_of in rooms)
        least = deployment.get("num_replicas") or deployment["autoscaling_config"]["min_replicas"]
        cpus, gpus = cpus + least * wanted[0], gpus + least * wanted[1]
    assert cpus <= sum(room[0] * room[3] for room in rooms)
    assert gpus <= sum(room[1] * room[3] for room in rooms)


def test_the_command_of_the_job_exists() -> None:
    from safeguard import app

    (job,) = documents(FOLDER / "prepare.yaml")
    (container,) = job["spec"]["template"]["spec"]["containers"]
    (name,) = container["args"]
    assert name in {
        command.name or command.callback.__name__ for command in app.registered_commands if command.callback
    }
