"""Recording metrics: only what the catalogue declares. Where they go to is a sink: Ray's, or one in this process."""

import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol

from deployments.metrics.catalogue import CATALOGUE, Kind, Metric

Labels = tuple[str, ...]
"""Values of a metric's labels, in the order of the catalogue."""


class Undeclared(ValueError):
    """A name, kind or label that the catalogue does not have: a mistake in the code."""


class Sink(Protocol):
    """Where values go to; safe to be called from several threads."""

    def add(self, metric: Metric, labels: Labels, value: float) -> None:
        """Adds to a counter; ``value`` is above 0."""

    def replace(self, metric: Metric, values: Mapping[Labels, float], *, all_of_it: bool) -> None:
        """Sets series of a gauge; the others stay, or vanish where ``all_of_it``."""

    def observe(self, metric: Metric, labels: Labels, value: float) -> None:
        """Counts in a histogram."""


class RaySink:
    """Ray's metrics. Ray forgets a gauge that is not set again and again: a thread does that from the first one on.

    Args:
        every_s: pause between two rounds; below the interval in which Ray reports.
    """

    def __init__(self, every_s: float = 5.0) -> None:
        self._every_s = every_s
        self._lock = threading.Lock()
        self._instruments: dict[Metric, Any] = {}
        self._gauges: dict[Metric, dict[Labels, float]] = {}
        self._thread: threading.Thread | None = None

    def _made(self, metric: Metric) -> Any:
        if metric not in self._instruments:
            with self._lock:
                if metric not in self._instruments:
                    self._instruments[metric] = _instrument(metric)
        return self._instruments[metric]

    def add(self, metric: Metric, labels: Labels, value: float) -> None:
        """See ``Sink``."""
        self._made(metric).inc(value, tags=dict(zip(metric.labels, labels, strict=True)))

    def observe(self, metric: Metric, labels: Labels, value: float) -> None:
        """See ``Sink``."""
        self._made(metric).observe(value, tags=dict(zip(metric.labels, labels, strict=True)))

    def replace(self, metric: Metric, values: Mapping[Labels, float], *, all_of_it: bool) -> None:
        """See ``Sink``."""
        with self._lock:
            held = {} if all_of_it else self._gauges.get(metric, {})
            self._gauges[metric] = held | dict(values)
            if self._thread is None:
                self._thread = threading.Thread(target=self._repeat, name="gauges", daemon=True)
                self._thread.start()

    def _repeat(self) -> None:
        while True:
            with self._lock:
                held = [(metric, dict(values)) for metric, values in self._gauges.items()]
            for metric, values in held:
                for labels, value in values.items():
                    self._made(metric).set(value, tags=dict(zip(metric.labels, labels, strict=True)))
            time.sleep(self._every_s)


def _instrument(metric: Metric) -> Any:
    from ray.util import metrics

    if metric.kind == Kind.HISTOGRAM:
        return metrics.Histogram(metric.name, metric.help, list(metric.buckets), metric.labels)
    kind = metrics.Counter if metric.kind == Kind.COUNTER else metrics.Gauge
    return kind(metric.name, metric.help, metric.labels)


class Registry:
    """Hands values on to a sink, if the catalogue declares them.

    Args:
        sink: where to.
    """

    def __init__(self, sink: Sink) -> None:
        self._sink = sink

    def add(self, name: str, value: float = 1, /, **labels: str) -> None:
        """Adds to a counter; nothing below or at 0.

        Raises:
            Undeclared: see there; so for all methods.
        """
        metric = _declared(name, Kind.COUNTER)
        values = _values(metric, labels)
        if value > 0:
            self._sink.add(metric, values, float(value))

    def set(self, name: str, value: float, /, **labels: str) -> None:
        """Sets one series of a gauge; it is kept until it is set again or replaced."""
        metric = _declared(name, Kind.GAUGE)
        self._sink.replace(metric, {_values(metric, labels): float(value)}, all_of_it=False)

    def replace(self, name: str, values: Mapping[Labels, float]) -> None:
        """Sets all series of a gauge; those that are not among ``values`` vanish."""
        metric = _declared(name, Kind.GAUGE)
        wrong = [labels for labels in values if len(labels) != len(metric.labels)]
        if wrong:
            raise Undeclared(f"{name} has the labels {metric.labels}, not {wrong[0]}")
        self._sink.replace(metric, {labels: float(value) for labels, value in values.items()}, all_of_it=True)

    def observe(self, name: str, value: float, /, **labels: str) -> None:
        """Counts a value in a histogram."""
        metric = _declared(name, Kind.HISTOGRAM)
        self._sink.observe(metric, _values(metric, labels), float(value))

    @contextmanager
    def timed(self, name: str, /, **labels: str) -> Iterator[None]:
        """Adds the seconds of a block to a counter, however it ends."""
        began = time.monotonic()
        try:
            yield
        finally:
            self.add(name, time.monotonic() - began, **labels)


def _declared(name: str, kind: Kind) -> Metric:
    metric = CATALOGUE.get(name)
    if metric is None or metric.kind != kind:
        raise Undeclared(f"the catalogue has no {kind} {name}")
    return metric


def _values(metric: Metric, labels: Mapping[str, str]) -> Labels:
    if labels.keys() != set(metric.labels):
        raise Undeclared(f"{metric.name} has the labels {metric.labels}, not {tuple(labels)}")
    return tuple(labels[name] for name in metric.labels)
