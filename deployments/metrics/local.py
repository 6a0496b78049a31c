"""Metrics kept in this process and shown as Prometheus reads them, for what runs without Ray: tests and benchmarks."""

import threading
from collections.abc import Mapping

from deployments.metrics.catalogue import CATALOGUE, Kind, Metric
from deployments.metrics.registry import Labels


class LocalSink:
    """Values by metric and labels."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._values: dict[Metric, dict[Labels, float]] = {}
        self._observed: dict[Metric, dict[Labels, list[float]]] = {}

    def add(self, metric: Metric, labels: Labels, value: float) -> None:
        """See ``Sink``."""
        with self._lock:
            held = self._values.setdefault(metric, {})
            held[labels] = held.get(labels, 0.0) + value

    def replace(self, metric: Metric, values: Mapping[Labels, float], *, all_of_it: bool) -> None:
        """See ``Sink``."""
        with self._lock:
            held = {} if all_of_it else self._values.get(metric, {})
            self._values[metric] = held | dict(values)

    def observe(self, metric: Metric, labels: Labels, value: float) -> None:
        """See ``Sink``."""
        with self._lock:
            self._observed.setdefault(metric, {}).setdefault(labels, []).append(value)

    def value(self, name: str, **labels: str) -> float:
        """Of one series; 0 where it was never recorded. Of a histogram how many were counted."""
        metric = CATALOGUE[name]
        wanted = tuple(labels[label] for label in metric.labels)
        if metric.kind == Kind.HISTOGRAM:
            return float(len(self._observed.get(metric, {}).get(wanted, ())))
        return self._values.get(metric, {}).get(wanted, 0.0)

    def series(self, name: str) -> dict[Labels, float]:
        """All series of a gauge or counter."""
        return dict(self._values.get(CATALOGUE[name], {}))

    def exposition(self) -> str:
        """Everything in the text format of Prometheus, under the names that Ray gives."""
        lines = []
        with self._lock:
            for metric, values in self._values.items():
                lines += [f"# HELP {metric.exported} {metric.help}", f"# TYPE {metric.exported} {metric.kind}"]
                lines += [f"{_series(metric.exported, metric, labels)} {value!r}" for labels, value in values.items()]
            for metric, observed in self._observed.items():
                lines += [f"# HELP {metric.exported} {metric.help}", f"# TYPE {metric.exported} histogram"]
                for labels, values_of in observed.items():
                    lines += _histogram(metric, labels, values_of)
        return "\n".join(lines) + "\n"


def _series(name: str, metric: Metric, labels: Labels, **more: str) -> str:
    named = dict(zip(metric.labels, labels, strict=True)) | more
    shown = ",".join(f'{key}="{_escaped(value)}"' for key, value in named.items())
    return f"{name}{{{shown}}}" if shown else name


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _histogram(metric: Metric, labels: Labels, values: list[float]) -> list[str]:
    name = metric.exported
    lines = []
    for edge in (*metric.buckets, float("inf")):
        shown = "+Inf" if edge == float("inf") else repr(edge)
        lines.append(f"{_series(name + '_bucket', metric, labels, le=shown)} {sum(value <= edge for value in values)}")
    lines.append(f"{_series(name + '_count', metric, labels)} {len(values)}")
    lines.append(f"{_series(name + '_sum', metric, labels)} {sum(values)!r}")
    return lines
