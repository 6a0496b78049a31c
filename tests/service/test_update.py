"""`safeguard update` on the running service: every replica is a new one, nobody's request fails, and `up` then replaces none."""

import pytest

from benchmarks.client import Client
from benchmarks.mixed_load import KINDS, Load
from benchmarks.rolling import running_of
from graphs.cluster import RayCluster
from graphs.replicas import replicas, replicas_of
from graphs.service import Running, up
from graphs.updating import update
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
