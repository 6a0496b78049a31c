"""Every alert stands in the runbook, asks for metrics that there are, fires where it should and is silent where all is well."""

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from deployments.metrics.catalogue import METRICS
from tools.dashboards import names_in
from tools.panels import RAYS_OWN

ROOT = Path(__file__).parents[3]
RULES = ROOT / "configs" / "monitoring" / "alerts.yml"
RUNBOOK = ROOT / "docs" / "runbook.md"
P = "ray_safeguard_"
needs_promtool = pytest.mark.skipif(
    shutil.which("promtool") is None, reason="promtool is not installed (Debian: apt-get install prometheus)"
)

FIRING: dict[str, dict[str, str]] = {
    "NoMetrics": {},
    "DatabaseSilent": {f"{P}collected_timestamp_seconds": "0x60"},
    "ServerErrors": {
        f'{P}http_requests_total{{status="5xx"}}': "0+6x60",
        f'{P}http_refusals_total{{reason="crowded"}}': "0+3x60",
        f'{P}http_requests_total{{status="2xx"}}': "0+50x60",
    },
    "SlowAnswers": {
        f'{P}http_latency_seconds_bucket{{le="5.0"}}': "0+50x60",
        f'{P}http_latency_seconds_bucket{{le="30.0"}}': "0+100x60",
        f'{P}http_latency_seconds_bucket{{le="+Inf"}}': "0+100x60",
    },
    "ReplicaUnhealthy": {'ray_serve_deployment_replica_healthy{deployment="Detector",replica="a"}': "0x60"},
    "ReplicasRestart": {'ray_serve_deployment_replica_starts_total{deployment="Detector"}': "0+1x60"},
    "SlowReplica": {
        'ray_serve_deployment_processing_latency_ms_sum{deployment="D",replica="a"}': "0+1000x60",
        'ray_serve_deployment_processing_latency_ms_count{deployment="D",replica="a"}': "0+100x60",
        'ray_serve_deployment_processing_latency_ms_sum{deployment="D",replica="b"}': "0+50000x60",
        'ray_serve_deployment_processing_latency_ms_count{deployment="D",replica="b"}': "0+100x60",
    },
    "WrongKeys": {f'{P}http_refusals_total{{reason="unauthenticated"}}': "0+120x60"},
    "RequestsTurnedAway": {
        f'{P}http_refusals_total{{reason="unavailable"}}': "0+4x60",
        f'{P}http_refusals_total{{reason="crowded"}}': "0+4x60",
    },
    "StorageFull": {f'{P}http_refusals_total{{reason="full"}}': "0+1x60"},
    "DiskNearlyFull": {'ray_node_disk_free{ip="a"}': "5x60", 'ray_node_disk_usage{ip="a"}': "95x60"},
    "MemoryNearlyFull": {'ray_node_mem_available{ip="a"}': "5x60", 'ray_node_mem_total{ip="a"}': "100x60"},
    "DeploymentFull": {
        f'{P}busy_seconds_total{{deployment="Detector",WorkerId="a"}}': "0+59x60",
        f'{P}slots{{deployment="Detector",WorkerId="a"}}': "1x60",
    },
    "ProcessingStands": {f'{P}queue_images{{worker="pipeline"}}': "5x60"},
    "QueueTooLong": {
        f'{P}queue_images{{worker="pipeline"}}': "10000x60",
        f'{P}images_finished_total{{outcome="processed"}}': "0+60x60",
    },
    "QueueFull": {f'{P}uploads_refused_total{{worker="pipeline"}}': "0+5x60"},
    "ImageWaitsLong": {f'{P}queue_oldest_seconds{{model="m"}}': "3000x60"},
    "LeasesOverdue": {f"{P}leases_overdue": "2x60"},
    "LeasesExpire": {f"{P}leases_expired_total": "0+2x60"},
    "ManySecondAttempts": {
        f'{P}claims_total{{attempt="first"}}': "0+10x60",
        f'{P}claims_total{{attempt="again"}}': "0+5x60",
    },
    "ImagesFail": {
        f'{P}images_finished_total{{outcome="failed"}}': "0+5x60",
        f'{P}images_finished_total{{outcome="processed"}}': "0+60x60",
    },
    "JobFailed": {f'{P}jobs{{kind="backfill",status="failed"}}': "1x60"},
    "IndexBehind": {f'{P}index_unindexed_rows{{table="t"}}': "50000x60"},
    "ReaderBehind": {
        f'{P}index_writer_version{{table="t"}}': "300x60",
        f'{P}index_reader_version{{table="t"}}': "100x60",
        f"{P}index_queries_total": "0+60x60",
    },
    "RecallLow": {f'{P}index_recall_ratio{{table="t"}}': "0.8x60"},
    "BlocksJump": {f'{P}decisions_total{{verdict="block",by="policy"}}': "0+1x1470 1470+60x30"},
    "ReviewWaits": {f"{P}review_oldest_seconds": "90000x60"},
    "WebhookFails": {f'{P}webhooks{{state="failing"}}': "1x60"},
    "WebhooksLate": {f"{P}webhook_oldest_seconds": "1000x60"},
    "DeadLetters": {f'{P}webhook_deliveries{{state="dead"}}': "0+1x60"},
    "LookBackDead": {f'{P}lookbacks{{state="dead"}}': "1x60"},
    "LookBackLate": {f"{P}lookback_oldest_seconds": "30000x60"},
}
WELL = {
    f"{P}collected_timestamp_seconds": "0+60x60",
    f'{P}disk_free_bytes{{part="s3"}}': "50x60",
    f'{P}disk_bytes{{part="s3"}}': "100x60",
    f'{P}http_requests_total{{status="5xx"}}': "0+3x60",
    f'{P}http_refusals_total{{reason="crowded"}}': "0+3x60",
    f'{P}http_requests_total{{status="2xx"}}': "0+50x60",
    f'{P}http_latency_seconds_bucket{{le="5.0"}}': "0+100x60",
    f'{P}http_latency_seconds_bucket{{le="+Inf"}}': "0+100x60",
    'ray_serve_deployment_replica_healthy{deployment="Detector",replica="a"}': "1x60",
    'ray_serve_deployment_replica_starts_total{deployment="Detector"}': "3x60",
    'ray_serve_deployment_processing_latency_ms_sum{deployment="D",replica="a"}': "0+1000x60",
    'ray_serve_deployment_processing_latency_ms_count{deployment="D",replica="a"}': "0+100x60",
    'ray_serve_deployment_processing_latency_ms_sum{deployment="D",replica="b"}': "0+9000x60",
    'ray_serve_deployment_processing_latency_ms_count{deployment="D",replica="b"}': "0+100x60",
    f'{P}http_refusals_total{{reason="unauthenticated"}}': "0+2x60",
    f'{P}http_refusals_total{{reason="full"}}': "7x60",
    'ray_node_disk_free{ip="a"}': "50x60",
    'ray_node_disk_usage{ip="a"}': "50x60",
    'ray_node_mem_available{ip="a"}': "50x60",
    'ray_node_mem_total{ip="a"}': "100x60",
    f'{P}busy_seconds_total{{deployment="Detector",WorkerId="a"}}': "0+30x60",
    f'{P}slots{{deployment="Detector",WorkerId="a"}}': "1x60",
    f'{P}queue_images{{worker="pipeline"}}': "5x60",
    f'{P}queue_images{{worker="outside"}}': "5000x60",
    f'{P}images_finished_total{{outcome="processed"}}': "0+60x60",
    f'{P}images_finished_total{{outcome="failed"}}': "0+1x60",
    f'{P}uploads_refused_total{{worker="outside"}}': "9x60",
    f'{P}queue_oldest_seconds{{model="m"}}': "3x60",
    f"{P}leases_overdue": "0x60",
    f"{P}leases_expired_total": "4x60",
    f'{P}claims_total{{attempt="first"}}': "0+10x60",
    f'{P}claims_total{{attempt="again"}}': "0+1x60",
    f'{P}jobs{{kind="backfill",status="running"}}': "1x60",
    f'{P}index_unindexed_rows{{table="t"}}': "500x60",
    f'{P}index_writer_version{{table="t"}}': "300+1x60",
    f'{P}index_reader_version{{table="t"}}': "299+1x60",
    f"{P}index_queries_total": "0+60x60",
    f'{P}index_recall_ratio{{table="t"}}': "0.99x60",
    f'{P}decisions_total{{verdict="block",by="policy"}}': "0+10x60",
    f"{P}review_oldest_seconds": "90x60",
    f'{P}webhooks{{state="failing"}}': "0x60",
    f"{P}webhook_oldest_seconds": "1x60",
    f'{P}webhook_deliveries{{state="dead"}}': "9x60",
    f'{P}lookbacks{{state="dead"}}': "0x60",
    f"{P}lookback_oldest_seconds": "30x60",
}


def rules() -> list[dict[str, Any]]:
    return [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]


def runbook() -> dict[str, str]:
    """Section -> text."""
    parts = re.split(r"^## (\S+)\n", RUNBOOK.read_text(), flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def test_alerts_and_runbook_name_the_same() -> None:
    assert [rule["alert"] for rule in rules()] and sorted(rule["alert"] for rule in rules()) == sorted(runbook())
    assert all(len(text.strip()) > 60 for text in runbook().values())


def test_alerts_have_severity_and_summary_and_ask_for_what_there_is() -> None:
    exported = {metric.exported for metric in METRICS}
    known = exported | {f"{name}_bucket" for name in exported} | RAYS_OWN.keys()
    for rule in rules():
        assert rule["labels"]["severity"] in ("warning", "critical") and rule["annotations"]["summary"], rule
        assert names_in(rule["expr"]) and names_in(rule["expr"]) <= known, rule["alert"]


def test_every_alert_is_tried() -> None:
    assert sorted(FIRING) == sorted(rule["alert"] for rule in rules())


def _case(series: dict[str, str], at: str, expr: str, value: int) -> dict[str, Any]:
    return {
        "interval": "1m",
        "input_series": [{"series": name, "values": values} for name, values in series.items()],
        "promql_expr_test": [
            {"expr": expr, "eval_time": at, "exp_samples": [{"labels": "{}", "value": value}]},
        ],
    }


def _run(tmp_path: Path, cases: list[dict[str, Any]]) -> subprocess.CompletedProcess[str]:
    file = tmp_path / "cases.yml"
    file.write_text(yaml.safe_dump({"rule_files": [str(RULES)], "evaluation_interval": "1m", "tests": cases}))
    return subprocess.run(["promtool", "test", "rules", str(file)], capture_output=True, text=True, timeout=120)


@needs_promtool
def test_every_alert_fires(tmp_path: Path) -> None:
    cases = []
    for name, series in FIRING.items():
        heard = {} if name in ("NoMetrics", "DatabaseSilent") else {f"{P}collected_timestamp_seconds": "0+60x1500"}
        fires = f'count(ALERTS{{alertname="{name}",alertstate="firing"}})'
        cases.append(_case(heard | series, "1500m" if name == "BlocksJump" else "59m", fires, 1))
    done = _run(tmp_path, cases)
    assert done.returncode == 0, done.stdout + done.stderr


@needs_promtool
def test_the_disk_of_one_part_is_named(tmp_path: Path) -> None:
    small = {
        f'{P}{name}{{part="{part}"}}': f"{value}x60"
        for part, free in (("s3", 5), ("home", 50))
        for name, value in (("disk_free_bytes", free), ("disk_bytes", 100))
    }
    fires = 'count(ALERTS{alertname="DiskNearlyFull",alertstate="firing",part="s3"})'
    heard = {name: values for name, values in WELL.items() if "disk" not in name}
    done = _run(tmp_path, [_case(heard | small, "59m", fires, 1)])
    assert done.returncode == 0, done.stdout + done.stderr


@needs_promtool
def test_no_alert_fires_where_all_is_well(tmp_path: Path) -> None:
    done = _run(tmp_path, [_case(WELL, "59m", 'count(ALERTS{alertstate="firing"}) or vector(0)', 0)])
    assert done.returncode == 0, done.stdout + done.stderr


@needs_promtool
def test_a_series_that_says_nothing_fires_nothing(tmp_path: Path) -> None:
    """The tests above can fail."""
    done = _run(tmp_path, [_case({}, "59m", 'count(ALERTS{alertname="JobFailed"})', 1)])
    assert done.returncode != 0


@needs_promtool
def test_the_scrape_configuration_is_valid() -> None:
    done = subprocess.run(
        ["promtool", "check", "config", str(RULES.with_name("prometheus.yml"))], capture_output=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
