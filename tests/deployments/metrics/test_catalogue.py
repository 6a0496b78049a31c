"""The list of metrics keeps the conventions of Prometheus."""

import re

import pytest

from deployments.metrics.catalogue import CATALOGUE, METRICS, Kind, Metric

UNITS = ("seconds", "bytes", "ratio", "images", "rows", "per_second")


def test_no_name_stands_twice() -> None:
    assert len(CATALOGUE) == len(METRICS)


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
def test_names_labels_and_texts(metric: Metric) -> None:
    assert re.fullmatch(r"safeguard_[a-z]+(_[a-z]+)*", metric.name)
    assert (metric.kind == Kind.COUNTER) == metric.name.endswith("_total")
    assert not metric.name.endswith(("_count", "_sum", "_bucket", "_info", "_ms", "_percent"))
    assert metric.help and not metric.help.endswith(".") and len(metric.help) < 150
    assert len(metric.labels) <= 2 and not {"le", "job", "instance", "WorkerId"} & set(metric.labels)


def test_histograms_are_few_and_small() -> None:
    histograms = [metric for metric in METRICS if metric.kind == Kind.HISTOGRAM]
    assert len(histograms) <= 3
    for metric in histograms:
        assert 2 <= len(metric.buckets) <= 10 and list(metric.buckets) == sorted(set(metric.buckets))
        assert not metric.labels and metric.name.endswith("_seconds")


def test_only_histograms_have_buckets() -> None:
    assert all(not metric.buckets for metric in METRICS if metric.kind != Kind.HISTOGRAM)
