"""A metrics endpoint as Ray's, over a LocalSink in which every metric of the catalogue grows with each scrape."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from deployments.metrics.catalogue import METRICS, STAGES, Kind
from deployments.metrics.local import LocalSink
from deployments.metrics.registry import Registry
from tools.panels import ONLY_SOMEWHERE, RAYS_OWN

VALUES: dict[str, tuple[str, ...]] = {
    "model": ("safeguard-v1", "other"),
    "stage": STAGES,
    "deployment": ("Pipeline", "Embedder", "Detector", "SimilarityWriter"),
    "table": ("pdq@1", "lite0-copy@2"),
    "verdict": ("allow", "review", "block"),
    "by": ("policy", "person"),
    "kind": ("backfill",),
    "worker": ("pipeline", "outside"),
    "route": ("POST /image", "GET /image/{image_id}"),
    "reason": ("unauthenticated", "forbidden", "too-large", "limited", "crowded", "unavailable", "full"),
    "attempt": ("first", "again"),
    "part": ("home", "postgresql", "s3"),
}
OF_METRIC: dict[tuple[str, str], tuple[str, ...]] = {
    ("safeguard_images", "status"): ("UPLOADED", "PROCESSING", "PROCESSED", "FAILED"),
    ("safeguard_jobs", "status"): ("running", "failed"),
    ("safeguard_http_requests_total", "status"): ("2xx", "4xx", "5xx"),
    ("safeguard_images_finished_total", "outcome"): ("processed", "failed", "retried", "late"),
    ("safeguard_webhook_tries_total", "outcome"): ("delivered", "failed", "dead"),
    ("safeguard_collections_total", "outcome"): ("ok", "failed"),
    ("safeguard_webhook_deliveries", "state"): ("waiting", "dead"),
    ("safeguard_webhooks", "state"): ("ok", "failing", "off"),
    ("safeguard_lookbacks", "state"): ("waiting", "dead"),
    ("safeguard_lookback_members", "state"): ("all", "done"),
    ("safeguard_job_objects", "state"): ("all", "indexed", "done", "failed", "skipped"),
}
"""Values of labels that mean something else with each metric."""


def values_of(metric: str, label: str) -> tuple[str, ...]:
    """What a label may be."""
    return OF_METRIC.get((metric, label)) or VALUES[label]


def combinations(metric: str, labels: tuple[str, ...]) -> list[dict[str, str]]:
    """All series of a metric."""
    made: list[dict[str, str]] = [{}]
    for label in labels:
        made = [one | {label: value} for one in made for value in values_of(metric, label)]
    return made


def grow(registry: Registry) -> None:
    """Records something in every series of the catalogue."""
    for metric in METRICS:
        for labels in combinations(metric.name, metric.labels):
            if metric.kind == Kind.COUNTER:
                registry.add(metric.name, 1.5, **labels)
            elif metric.kind == Kind.GAUGE:
                registry.set(metric.name, 3.0, **labels)
            else:
                registry.observe(metric.name, 0.07, **labels)


def rays_own(scrapes: int) -> str:
    """Ray's metrics, with the labels that Ray gives them."""
    lines = []
    for name in sorted(RAYS_OWN.keys() - ONLY_SOMEWHERE):
        counts = name.endswith(("_total", "_sum", "_count"))
        labels = 'ip="127.0.0.1"'
        if name.startswith("ray_serve_"):
            labels = 'application="safeguard",deployment="{}",replica="r1",WorkerId="w"'
        elif name.startswith("ray_component_"):
            labels = 'Component="ray::ServeReplica:safeguard:Pipeline",pid=""'
        lines.append(f"# TYPE {name} {'counter' if counts else 'gauge'}")
        deployments = ("Ingress", "SimilarityReader", "Detector") if "{}" in labels else ("",)
        lines += [f"{name}{{{labels.format(one)}}} {scrapes * 10 if counts else 40}" for one in deployments]
    return "\n".join(lines) + "\n"


@contextmanager
def exporter() -> Iterator[int]:
    """Serves ``/metrics`` on 127.0.0.1.

    Returns:
        Its port.
    """
    sink = LocalSink()
    registry = Registry(sink)
    lock = threading.Lock()
    scrapes = 0

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            nonlocal scrapes
            with lock:
                scrapes += 1
                grow(registry)
                body = (sink.exposition() + rays_own(scrapes)).encode()
            self.send_response(200)
            self.send_header("Content-Type", "text/plain; version=0.0.4")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            """Says nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()
        thread.join(timeout=5)
