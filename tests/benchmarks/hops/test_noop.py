"""The application that does nothing is deployed beside the service, not in its place."""

from pathlib import Path

import yaml
from ray.serve import Application
from ray.serve.schema import ServeDeploySchema

from benchmarks.hops.__main__ import with_noop
from benchmarks.hops.noop import build
from graphs.cluster import CONFIG


def test_the_configuration_holds_both_applications(tmp_path: Path) -> None:
    content = yaml.safe_load(with_noop(tmp_path).read_text())
    service, noop = content["applications"]
    assert service == yaml.safe_load(CONFIG.read_text())["applications"][0]
    assert noop["import_path"] == f"{build.__module__}:{build.__name__}"
    assert len({one.route_prefix for one in ServeDeploySchema.model_validate(content).applications}) == 2


def test_it_is_built_of_what_the_configuration_names() -> None:
    application = build({})
    assert isinstance(application, Application) and application._bound_deployment.name == "Front"
