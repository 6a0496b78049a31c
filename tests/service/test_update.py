"""`safeguard update` on the running service: every replica is a new one, nobody's request fails, and `up` then replaces none."""

from pathlib import Path

import pytest
import yaml

from benchmarks.client import Client
from benchmarks.mixed_load import KINDS, Load
from benchmarks.rolling import running_of
from graphs.cluster import CONFIG, RayCluster
from graphs.replicas import replicas, replicas_of
from graphs.service import Running, ready, status, up
from graphs.updating import update
from storage.errors import ConfigurationError
from tests.service.pictures import jpeg, photo

pytestmark = pytest.mark.service


def ids(service: Running) -> dict[str, set[str]]:
    return running_of(list(replicas_of(RayCluster(service.settings).applications())))


def test_every_replica_is_replaced_and_no_request_fails(service: Running, client: Client) -> None:
    before, data = ids(service), [("a.jpg", jpeg(photo("chelsea.png"))), ("b.jpg", jpeg(photo("coffee.png")))]
    load = Load(
        service,
        data,
        {"search": 1, "upload": 1, "read": 1, "list": 1},
        {"search": 0.5, "upload": 0.5, "read": 0.1, "list": 0.5},
    )
    try:
        release = update(service.settings.home, say=lambda _: None)
    finally:
        load.close()
    after = ids(service)
    assert load.phase.failures == [] and all(load.phase.times_ms[kind] for kind in KINDS)
    assert after.keys() == before.keys() and all(after[name] and not after[name] & before[name] for name in before)
    assert set(client.wait(load.ids, timeout_s=300).values()) == {"PROCESSED"}
    local = replicas(service.settings.home)
    assert {one.deployment for one in local if one.activity} == set(before), "each process is told"
    up(service.settings.home, say=lambda _: None)
    still = ids(service)  # autoscaling may have added one or taken one away
    assert all(still[name] & after[name] for name in after), f"`up` keeps release {release}"


def test_the_address_on_a_cluster_of_others_is_asked_for(service: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    """The installation's own cluster, taken for that of others."""
    monkeypatch.setenv("RAY_ADDRESS", service.dashboard)
    cluster = RayCluster(service.settings)
    assert cluster.outside and cluster.url == service.url
    found = {name: (state, detail) for name, state, detail in status(service.settings.home)}
    assert found["ray"] == ("running", service.dashboard) and found["safeguard"] == ("running", service.url)
    assert found["  ready: database"][0] == "ok"


def test_new_replicas_that_do_not_start_leave_the_old_ones_at_work(
    service: Running, client: Client, tmp_path: Path
) -> None:
    config = yaml.safe_load(CONFIG.read_text())
    deployments = {one["name"]: one for one in config["applications"][0]["deployments"]}
    deployments["Detector"]["ray_actor_options"]["runtime_env"] = {"env_vars": {"SAFEGUARD_MAX_PIXELS": "many"}}
    broken = tmp_path / "serve.yaml"
    broken.write_text(yaml.safe_dump(config))
    before, data = ids(service), [("a.jpg", jpeg(photo("camera.png"))), ("b.jpg", jpeg(photo("page.png")))]
    load = Load(service, data, {"search": 1, "upload": 1, "read": 1}, {"search": 0.5, "upload": 0.5, "read": 0.1})
    try:
        with pytest.raises(
            ConfigurationError, match=r"safeguard cannot be deployed: Detector: .*ValidationError.*\s+max_pixels"
        ):
            update(service.settings.home, config=broken, say=lambda _: None)
        assert ids(service)["Detector"] & before["Detector"], "the old one goes on"
        assert (ready(service.url) or {}).get("status") == "ready"
        update(service.settings.home, say=lambda _: None)  # and nothing stands in the way of a release that is well
    finally:
        load.close()
    after = ids(service)
    assert load.phase.failures == [] and all(load.phase.times_ms[kind] for kind in ("search", "upload", "read"))
    assert all(after[name] and not after[name] & before[name] for name in before)
    assert set(client.wait(load.ids, timeout_s=300).values()) == {"PROCESSED"}
