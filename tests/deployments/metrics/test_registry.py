"""What is recorded arrives, and nothing that the catalogue does not declare is recorded."""

import subprocess
import sys

import pytest
from prometheus_client.parser import text_string_to_metric_families

from deployments.metrics.catalogue import CATALOGUE
from deployments.metrics.local import LocalSink
from deployments.metrics.meters import busy, meters, recording_to, slots, stage
from deployments.metrics.registry import RaySink, Registry, Undeclared


def test_counters_add_gauges_hold_histograms_count() -> None:
    sink = LocalSink()
    registry = Registry(sink)
    registry.add("safeguard_claims_total", 2, attempt="first")
    registry.add("safeguard_claims_total", attempt="first")
    registry.add("safeguard_claims_total", 0, attempt="again")
    registry.set("safeguard_slots", 3, deployment="Pipeline")
    registry.set("safeguard_slots", 1, deployment="Detector")
    registry.observe("safeguard_http_latency_seconds", 0.03)
    assert sink.series("safeguard_claims_total") == {("first",): 3}
    assert sink.series("safeguard_slots") == {("Pipeline",): 3, ("Detector",): 1}
    assert sink.value("safeguard_http_latency_seconds") == 1


def test_replacing_a_gauge_lets_the_other_series_vanish() -> None:
    sink = LocalSink()
    registry = Registry(sink)
    registry.replace("safeguard_images", {("a", "UPLOADED"): 1, ("b", "UPLOADED"): 2})
    registry.replace("safeguard_images", {("b", "UPLOADED"): 3})
    assert sink.series("safeguard_images") == {("b", "UPLOADED"): 3}


@pytest.mark.parametrize(
    ("method", "name", "labels"),
    [
        ("add", "safeguard_no_such_total", {}),
        ("add", "safeguard_slots", {"deployment": "Pipeline"}),
        ("set", "safeguard_claims_total", {"attempt": "first"}),
        ("observe", "safeguard_slots", {"deployment": "Pipeline"}),
        ("add", "safeguard_claims_total", {}),
        ("add", "safeguard_claims_total", {"attempt": "first", "key": "x"}),
        ("set", "safeguard_slots", {"name": "x"}),
    ],
)
def test_what_is_not_declared_raises(method: str, name: str, labels: dict[str, str]) -> None:
    sink = LocalSink()
    with pytest.raises(Undeclared):
        getattr(Registry(sink), method)(name, 1.0, **labels)
    assert sink.exposition().strip() == ""


def test_a_replacement_with_other_labels_raises() -> None:
    with pytest.raises(Undeclared):
        Registry(LocalSink()).replace("safeguard_images", {("only-one",): 1})


def test_a_stage_is_measured_even_where_it_fails() -> None:
    sink = LocalSink()
    with recording_to(sink):
        with stage("fetch", 5):
            pass
        with pytest.raises(OSError), stage("fetch", 2):
            raise OSError
        with busy("Detector"):
            slots("Detector", 1)
    assert sink.value("safeguard_stage_calls_total", stage="fetch") == 2
    assert sink.value("safeguard_stage_items_total", stage="fetch") == 7
    assert sink.value("safeguard_stage_seconds_total", stage="fetch") > 0
    assert sink.value("safeguard_busy_seconds_total", deployment="Detector") > 0
    assert meters() is not None and not sink.series("safeguard_claims_total")


def test_the_exposition_is_what_prometheus_reads() -> None:
    sink = LocalSink()
    registry = Registry(sink)
    registry.set("safeguard_queue_oldest_seconds", 1.5, model='odd "name"\\ \n x')
    registry.add("safeguard_leases_expired_total", 4)
    for seconds in (0.001, 0.3, 100.0):
        registry.observe("safeguard_index_latency_seconds", seconds)
    families = {one.name: one for one in text_string_to_metric_families(sink.exposition())}
    (sample,) = families["ray_safeguard_queue_oldest_seconds"].samples
    assert sample.labels == {"model": 'odd "name"\\ \n x'} and sample.value == 1.5
    assert families["ray_safeguard_leases_expired"].samples[0].value == 4
    buckets = {one.labels.get("le"): one.value for one in families["ray_safeguard_index_latency_seconds"].samples}
    assert (buckets["0.005"], buckets["1.0"], buckets["+Inf"]) == (1, 2, 3)
    assert len(CATALOGUE["safeguard_index_latency_seconds"].buckets) + 3 == len(
        families["ray_safeguard_index_latency_seconds"].samples
    )


def test_rays_sink_takes_every_metric_without_a_cluster() -> None:
    registry = Registry(RaySink(every_s=0.01))
    for metric in CATALOGUE.values():
        labels = dict.fromkeys(metric.labels, "x")
        {"counter": registry.add, "gauge": registry.set, "histogram": registry.observe}[metric.kind](
            metric.name, 1.0, **labels
        )


def test_nothing_is_made_at_import() -> None:
    program = "import sys, deployments.metrics.meters as m; sys.exit(m._registry is not None or 'ray' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], timeout=60).returncode == 0
