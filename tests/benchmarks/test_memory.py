"""Processes are named by what they are there for, whatever else their command lines mention."""

import os

import psutil
import pytest

from benchmarks.memory import Memory, cores, kind_of, memory, total
from benchmarks.rest import memory_table, protection
from configs.settings import Settings
from graphs.doctor_ports import Listening

RAY = "/opt/lib/python3.11/site-packages/ray"


@pytest.mark.parametrize(
    ("name", "command", "kind"),
    [
        ("ray::ServeRepli", ["ray::ServeReplica:safeguard:Embedder.handle_request_with_rejection"], "Embedder"),
        ("ray::ServeRepli", ["ray::ServeReplica:safeguard:Ingress"], "Ingress"),
        ("ray::ServeContr", ["ray::ServeController.listen_for_change"], "Serve controller"),
        ("haproxy", ["/opt/bin/haproxy", "-db", "-f", "/tmp/h/haproxy.cfg"], "HAProxy"),
        ("python", ["python", "-P", "-m", "deployments.vision.sandboxed", "536870912"], "sandbox"),
        ("postgres", ["postgres: safeguard safeguard 127.0.0.1(40000) idle"], "PostgreSQL"),
        ("weed", ["/opt/bin/weed", "-logtostderr=true", "mini"], "S3"),
        ("ray::MapWorker(", ["ray::MapWorker(MapBatches(ReaderAndDescriber)).submit"], "job: reading and networks"),
        ("ray::MapWorker(", ["ray::MapWorker(MapBatches(Writer))"], "job: writing"),
        ("python", ["python", "-m", "graphs.backfill", "1"], "job: runner"),
        ("ray-dashboard-J", ["ray-dashboard-JobHead-0 (python -B -c ...)"], "dashboard"),
        ("python", ["python", f"{RAY}/dashboard/dashboard.py", "--host=127.0.0.1"], "dashboard"),
        ("raylet", [f"{RAY}/core/src/ray/raylet/raylet", "--a", "--b", "--c", f"{RAY}/dashboard/dashboard.py"],
         "raylet"),
        ("python", ["python", "-u", f"{RAY}/_private/log_monitor.py"], "Ray's agents and helpers"),
        ("ray::DashboardA", ["ray::DashboardAgent"], "Ray's agents and helpers"),
    ],
)  # fmt: skip
def test_kinds(name: str, command: list[str], kind: str) -> None:
    assert kind_of(name, command) == kind


def test_memory_is_that_of_all_processes_of_the_servers(servers: Settings) -> None:
    try:
        found = memory(servers)
    except psutil.AccessDenied:
        pytest.skip("the servers are another user's, whose memory may not be looked at here")
    assert set(found) == {"PostgreSQL", "S3"}
    assert found["PostgreSQL"].count > 3 and 0 < found["PostgreSQL"].pss_mib < found["PostgreSQL"].rss_mib
    (weed,) = [one for one in psutil.Process(os.getpid()).children() if one.name() == "weed"]
    assert found["S3"].rss_mib == pytest.approx(weed.memory_info().rss / 2**20, rel=0.5)
    assert total(found.values()).pss_mib == pytest.approx(sum(one.pss_mib for one in found.values()))


def test_the_table_has_all_kinds_of_all_moments() -> None:
    table = memory_table({"at rest": {"S3": Memory(1, 2.0, 3.0)}, "after": {"Ingress": Memory(2, 10.0, 20.0)}})
    assert list(table.columns[0].cells) == ["Ingress", "S3", "all"]
    assert list(table.columns[-1].cells) == ["10 (20)", "0 (0)", "10 (20)"]


@pytest.mark.parametrize(
    ("address", "guard", "said"),
    [("127.0.0.1", None, "loopback"), ("127.0.0.1", "keys", "loopback, keys"), ("0.0.0.0", "a token", "a token"),
     ("0.0.0.0", None, None)],
)  # fmt: skip
def test_what_protects_a_port(address: str, guard: str | None, said: str | None) -> None:
    assert protection(Listening("ray_metrics", address, 1, "python", guard)) == said


def test_cores_are_told_by_kind_and_new_processes_count_from_their_start() -> None:
    before = {("Pipeline", 1, 5.0): 10.0, ("Ingress", 2, 5.0): 4.0, ("Ingress", 3, 5.0): 4.0}
    now = {("Pipeline", 1, 9.0): 3.0, ("Ingress", 2, 5.0): 6.0, ("Ingress", 3, 5.0): 5.0}
    assert cores(before, now, 2.0) == {"Pipeline": 1.5, "Ingress": 1.5}
