"""A real Prometheus scrapes every metric of the catalogue; every query of every panel and alert gives data or is valid."""

import json
import time
from collections.abc import Callable, Iterator

import pytest
import yaml

from benchmarks.prometheus import MISSING, Prometheus, installed, prometheus
from tests.configs.monitoring.exporter import exporter
from tests.configs.monitoring.test_alerts import RULES, rules
from tools.dashboards import FOLDER, names_in
from tools.panels import BOARDS, ONLY_SOMEWHERE

pytestmark = pytest.mark.skipif(not installed(), reason=MISSING)
SCRAPES = 4


def until(done: Callable[[], bool], limit_s: float = 60.0) -> None:
    end = time.monotonic() + limit_s
    while not done():
        assert time.monotonic() < end, "it takes too long"
        time.sleep(0.2)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """Prometheus with the shipped configuration, but for the place of the targets and shorter intervals."""
    folder = tmp_path_factory.mktemp("prometheus")
    with exporter() as port:
        targets = folder / "prom_metrics_service_discovery.json"
        targets.write_text(json.dumps([{"labels": {"job": "ray"}, "targets": [f"127.0.0.1:{port}"]}]))
        config = yaml.safe_load(RULES.with_name("prometheus.yml").read_text())
        config["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
        config["rule_files"] = [str(RULES)]
        config["scrape_configs"][0]["file_sd_configs"][0]["files"] = [str(targets)]
        file = folder / "prometheus.yml"
        file.write_text(yaml.safe_dump(config))
        with prometheus(file, folder / "data") as made:
            scraped = 'count_over_time(ray_safeguard_leases_overdue{job="ray"}[5m])'
            until(lambda: any(float(one["value"][1]) >= SCRAPES for one in made.query(scraped)))
            yield made


PANELS = [
    (uid, panel.title, query) for uid, (_, panels) in BOARDS.items() for panel in panels for query, _ in panel.queries
]


def test_the_files_ask_what_the_list_says() -> None:
    asked = [
        (uid, panel["title"], target["expr"])
        for uid in BOARDS
        for panel in json.loads((FOLDER / f"{uid}.json").read_text())["panels"]
        for target in panel["targets"]
    ]
    assert asked == PANELS


def test_every_panel_shows_data(server: Prometheus) -> None:
    empty = []
    for uid, title, query in PANELS:
        found = server.query(query)
        numbers = [one for one in found if one["value"][1] not in ("NaN", "+Inf", "-Inf")]
        if not numbers and not names_in(query) & ONLY_SOMEWHERE:
            empty.append((uid, title, query, found))
    assert not empty


def test_every_part_of_every_alert_gives_data(server: Prometheus) -> None:
    """Without its comparison a rule gives data: it asks for metrics and labels that there are."""
    for rule in rules():
        server.query(rule["expr"])
        for name in names_in(rule["expr"]):
            assert server.query(f"count({name})"), (rule["alert"], name)


def test_the_rules_are_loaded_and_evaluated(server: Prometheus) -> None:
    def states() -> dict[str, str]:
        groups = server.ask("rules", type="alert")["groups"]
        return {rule["name"]: rule["health"] for group in groups for rule in group["rules"]}

    until(lambda: set(states().values()) == {"ok"})
    assert set(states()) == {rule["alert"] for rule in rules()}


def test_alerts_without_patience_fire(server: Prometheus) -> None:
    """The exporter says that a job has failed and a look-back is dead."""

    def firing() -> set[str]:
        return {one["metric"]["alertname"] for one in server.query('ALERTS{alertstate="firing"}')}

    until(lambda: {"JobFailed", "LookBackDead"} <= firing())


def test_a_wrong_query_is_seen(server: Prometheus) -> None:
    with pytest.raises(ValueError, match="parse error"):
        server.query("sum by (rate(")
    assert not server.query("ray_safeguard_no_such_metric")
