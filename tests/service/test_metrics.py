"""The running service under a real Prometheus: its metrics are those of the catalogue, and the boards show them."""

import re
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from benchmarks.client import Client
from benchmarks.prometheus import MISSING, Prometheus, installed, prometheus
from deployments.metrics.catalogue import METRICS
from graphs.service import Running
from tests.configs.monitoring.test_alerts import rules
from tests.service.pictures import edited, jpeg, photo
from tools.dashboards import names_in
from tools.panels import BOARDS, ONLY_SOMEWHERE, RAYS_OWN

pytestmark = [pytest.mark.service, pytest.mark.skipif(not installed(), reason=MISSING)]
NOT_HAPPENED = {
    "ray_safeguard_leases_expired_total", "ray_safeguard_index_recall_ratio", "ray_safeguard_webhook_tries_total",
    "ray_safeguard_uploads_refused_total", "ray_safeguard_jobs", "ray_safeguard_job_objects",
    "ray_safeguard_job_images_per_second", "ray_safeguard_job_left_seconds",
}  # fmt: skip
"""What this test brings about none of: jobs, webhooks, lost claims, a large index."""
OF_RAY = {
    "Component", "NodeAddress", "SessionName", "Version", "WorkerId", "le", "instance", "job", "__name__", "JobId",
}  # fmt: skip
LIMIT_S = 180.0


def use(service: Running, client: Client, round: int) -> None:
    """Some of everything: uploads, a search, a wrong key, an address that is none."""
    pictures = [
        jpeg(photo("chelsea.png"), quality=60 + round),
        edited("chelsea.png", "crop70"),
        jpeg(photo("coffee.png")),
    ]
    ids = [client.upload(f"{round}-{n}.jpg", data) for n, data in enumerate(pictures)]
    client.wait(ids, timeout_s=120)
    client.search("a.jpg", pictures[0])
    with httpx.Client(base_url=service.url, timeout=30) as other:
        assert other.get("/api/v1/image/1", headers={"X-API-Key": "sg_wrong"}).status_code == 401
        assert other.get(f"/no/such/{round}").status_code == 404


@pytest.fixture(scope="module")
def server(service: Running, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """With the configuration that `safeguard up` has written, while the service is used."""
    data = tmp_path_factory.mktemp("metrics") / "data"
    with (
        prometheus(service.settings.home / "monitoring" / "prometheus.yml", data) as made,
        Client(service.url, service.key) as client,
    ):
        end = time.monotonic() + LIMIT_S
        round = 0
        while round < 3 or empty(made):
            use(service, client, round)
            round += 1
            assert time.monotonic() < end, empty(made)
        yield made


def empty(server: Prometheus) -> list[str]:
    """Queries of panels that show nothing, though what they ask for has happened."""
    queries = [query for _, panels in BOARDS.values() for panel in panels for query, _ in panel.queries]
    asked = [query for query in queries if not names_in(query) & (NOT_HAPPENED | ONLY_SOMEWHERE)]
    return [query for query in asked if all(one["value"][1] == "NaN" for one in server.query(query))]


def test_every_panel_shows_data(server: Prometheus) -> None:
    assert not empty(server)


def test_every_query_is_valid(server: Prometheus) -> None:
    for _, panels in BOARDS.values():
        for panel in panels:
            for query, _ in panel.queries:
                server.query(query)
    for rule in rules():
        server.query(rule["expr"])


def test_nothing_critical_fires_on_a_healthy_service(server: Prometheus) -> None:
    firing = server.query('ALERTS{alertstate="firing",severity="critical"}')
    assert not firing


def test_what_is_exported_is_the_catalogue(server: Prometheus) -> None:
    catalogue = {metric.exported: metric for metric in METRICS}
    names = {one["metric"]["__name__"] for one in server.query('{__name__=~"ray_safeguard_.*"}')}
    known = {name for one in catalogue for name in (one, f"{one}_bucket", f"{one}_count", f"{one}_sum")}
    assert names <= known
    seen = {re.sub(r"_(bucket|count|sum)$", "", name) for name in names}
    assert catalogue.keys() - seen <= NOT_HAPPENED
    for one in server.query('{__name__=~"ray_safeguard_.*"}'):
        metric = catalogue[re.sub(r"_(bucket|count|sum)$", "", one["metric"]["__name__"])]
        assert one["metric"].keys() - OF_RAY == set(metric.labels), one


def test_rays_own_metrics_have_the_names_that_boards_ask_for(server: Prometheus) -> None:
    missing = [name for name in RAYS_OWN if name not in ONLY_SOMEWHERE and not server.query(f"count({name})")]
    assert not missing


def test_the_boards_add_up(server: Prometheus, client: Client) -> None:
    processed = len(client.get("/image/all", status="PROCESSED"))

    def shown() -> float:
        return float(server.query('sum(max by (model) (ray_safeguard_images{status="PROCESSED"}))')[0]["value"][1])

    end = time.monotonic() + LIMIT_S
    while shown() != processed:
        assert time.monotonic() < end, (shown(), processed)
        time.sleep(1.0)
    load = {
        one["metric"]["deployment"]: float(one["value"][1])
        for one in server.query(BOARDS["capacity"][1][6].queries[0][0])
    }
    assert {"Pipeline", "Embedder", "Detector", "SimilarityWriter", "Ingress", "SimilarityReader", "CPU"} <= load.keys()
    assert all(0 <= share < 1.5 for share in load.values()) and max(load.values()) > 0


def test_no_secret_is_exported(server: Prometheus, service: Running) -> None:
    token = Path(service.settings.home / "ray.token").read_text().strip()
    for target in server.ask("targets")["activeTargets"]:
        assert target["health"] == "up", target["lastError"]
        with urllib.request.urlopen(target["scrapeUrl"], timeout=30) as answer:
            text = answer.read().decode()
        assert service.key not in text and token not in text and "sg_wrong" not in text
