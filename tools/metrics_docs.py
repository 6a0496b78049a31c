"""Writes docs/metrics.md from the catalogue: ``python -m tools.metrics_docs``; ``--check`` only says whether it is stale."""

import argparse
from pathlib import Path

from deployments.metrics.catalogue import METRICS, Kind, Metric, Source

PATH = Path(__file__).parent.parent / "docs" / "metrics.md"
_HEAD = """# Metrics

Made by `python -m tools.metrics_docs` from [the catalogue](../deployments/metrics/catalogue.py), the only place where a
metric is declared; a test holds the two together. [monitoring.md](monitoring.md) says how to collect and see them.

Ray exports them with its own, one series for each process (label `WorkerId`), so add up: `sum by (stage) (rate(…[5m]))`.
Averages come from two counters, such as `ray_safeguard_stage_seconds_total` over `ray_safeguard_stage_items_total`; the `_sum`
of a histogram is not exact in Ray, so the histograms are for quantiles only. A gauge whose process has died soon vanishes.
Model names that models.yaml does not have are shown by name up to twenty of them; the rest is `other`.
"""
_SAID = {
    Source.DATABASE: "Read from PostgreSQL by one replica (WebhookSender)",
    Source.INGRESS: "REST API (Ingress)",
    Source.PIPELINE: "Processing (Pipeline)",
    Source.READER: "Search (SimilarityReader)",
    Source.WRITER: "Vectors (SimilarityWriter)",
    Source.SENDER: "Webhooks (WebhookSender)",
    Source.SEVERAL: "Several deployments",
}


def _row(metric: Metric) -> str:
    labels = ", ".join(f"`{label}`" for label in metric.labels) or "–"
    more = f"; buckets {', '.join(f'{edge:g}' for edge in metric.buckets)}" if metric.buckets else ""
    return f"| `{metric.exported}` | {metric.kind} | {labels} | {metric.help}{more} |"


def text() -> str:
    """The whole page."""
    parts = [_HEAD]
    for source, title in _SAID.items():
        rows = [_row(metric) for metric in METRICS if metric.source == source]
        parts.append("\n".join([f"## {title}", "", "| Name | Kind | Labels | Says |", "|---|---|---|---|", *rows, ""]))
    histograms = sum(len(metric.buckets) + 3 for metric in METRICS if metric.kind == Kind.HISTOGRAM)
    parts.append(f"{len(METRICS)} metrics; the histograms have {histograms} series a process together.\n")
    return "\n".join(parts)


def main() -> int:
    """Writes, or checks."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 if the page is stale")
    if parser.parse_args().check:
        return int(not PATH.exists() or PATH.read_text() != text())
    PATH.write_text(text())
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
