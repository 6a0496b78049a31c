"""docs/metrics.md is what the catalogue says."""

from deployments.metrics.catalogue import METRICS
from tools import metrics_docs


def test_the_page_is_not_stale() -> None:
    assert metrics_docs.PATH.read_text() == metrics_docs.text(), "run python -m tools.metrics_docs"


def test_every_metric_stands_on_it_once() -> None:
    page = metrics_docs.text()
    for metric in METRICS:
        assert page.count(f"| `{metric.exported}` |") == 1, metric.name
