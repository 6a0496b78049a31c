"""Every metric of SafeGuard, once: name, kind, labels, what it says. Imports nothing of ours.

Ray puts ``ray_`` before the names, and a label ``WorkerId`` that tells processes apart. Averages come from counters (the
``_sum`` of a histogram of Ray is made from the middles of its buckets); histograms are for quantiles only.
"""

from dataclasses import dataclass
from enum import StrEnum

PREFIX = "ray_"


class Kind(StrEnum):
    """As Prometheus has them."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


class Source(StrEnum):
    """Who records a metric."""

    DATABASE = "collector"
    INGRESS = "Ingress"
    PIPELINE = "Pipeline"
    READER = "SimilarityReader"
    WRITER = "SimilarityWriter"
    SENDER = "WebhookSender"
    SEVERAL = "several"


@dataclass(frozen=True)
class Metric:
    """One metric.

    Args:
        name: by the conventions of Prometheus: the unit last, ``_total`` of counters.
        labels: few, and with few values; what a client may choose freely is never one.
        help: what the value says.
        source: who records it.
        buckets: upper edges, of a histogram.
    """

    name: str
    kind: Kind
    labels: tuple[str, ...]
    help: str
    source: Source
    buckets: tuple[float, ...] = ()

    @property
    def exported(self) -> str:
        """As Prometheus sees it."""
        return PREFIX + self.name


def _counter(name: str, help: str, source: Source, *labels: str) -> Metric:
    return Metric(name, Kind.COUNTER, labels, help, source)


def _gauge(name: str, help: str, source: Source, *labels: str) -> Metric:
    return Metric(name, Kind.GAUGE, labels, help, source)


LATENCY_BUCKETS = (0.005, 0.02, 0.05, 0.1, 0.25, 1.0, 5.0, 30.0)
STAGES = ("fetch", "decode", "detect", "embed", "write", "search", "match", "decide")
"""In the order in which a picture passes them; several pictures in one call."""

_DB, _IN, _PIPE = Source.DATABASE, Source.INGRESS, Source.PIPELINE
METRICS = (
    _gauge("safeguard_images", "images of a model in a status; above 50,000 the planner's estimate", _DB, "model", "status"),
    _gauge("safeguard_queue_images", "images that wait for the pipeline, or for workers outside", _DB, "worker"),
    _gauge("safeguard_queue_oldest_seconds", "age of the image that waits longest for processing", _DB, "model"),
    _counter(
        "safeguard_uploads_refused_total", "uploads refused because as many images as may wait already do", _IN, "worker"
    ),
    _gauge("safeguard_leases_overdue", "images whose lease is over and that nobody has taken back", _DB),
    _counter("safeguard_leases_expired_total", "claims taken back because their lease was over", Source.SEVERAL),
    _counter("safeguard_claims_total", "claims of the pipeline; attempt is first or again", _PIPE, "attempt"),
    _counter(
        "safeguard_images_finished_total",
        "ends of claims of the pipeline: processed, failed (for good), retried, or late (the lease was over)",
        _PIPE, "outcome",
    ),
    _counter("safeguard_stage_seconds_total", "time spent in a stage, waiting included", _PIPE, "stage"),
    _counter("safeguard_stage_calls_total", "calls of a stage", _PIPE, "stage"),
    _counter("safeguard_stage_items_total", "pictures (detect, embed: frames) of those calls", _PIPE, "stage"),
    _counter("safeguard_busy_seconds_total", "time in which a slot of a deployment was at work", Source.SEVERAL, "deployment"),
    _gauge("safeguard_slots", "what a deployment can work on at the same time", Source.SEVERAL, "deployment"),
    _gauge("safeguard_index_rows", "vectors of a table, as a reader holds it", Source.READER, "table"),
    _gauge("safeguard_index_unindexed_rows", "of those, not in the index yet and searched one by one", Source.READER, "table"),
    _gauge("safeguard_index_reader_version", "version of a table that a reader searches", Source.READER, "table"),
    _gauge("safeguard_index_writer_version", "version of a table that was written last", Source.WRITER, "table"),
    _gauge("safeguard_index_recall_ratio", "recall at 10 of a table's index when it was measured last", _DB, "table"),
    _counter("safeguard_index_search_seconds_total", "time of searches in a reader", Source.READER),
    _counter("safeguard_index_queries_total", "pictures searched for in a reader", Source.READER),
    Metric(
        "safeguard_index_latency_seconds", Kind.HISTOGRAM, (), "time of one search call of a reader", Source.READER,
        LATENCY_BUCKETS,
    ),
    _gauge("safeguard_verdict_images", "images by the verdict that holds; above 50,000 an estimate", _DB, "verdict"),
    _counter("safeguard_decisions_total", "decisions by verdict; by is policy or person", _DB, "verdict", "by"),
    _gauge("safeguard_review_oldest_seconds", "age of the image that waits longest for a reviewer", _DB),
    _gauge("safeguard_webhook_deliveries", "deliveries that wait, or are dead letters", _DB, "state"),
    _gauge("safeguard_webhook_oldest_seconds", "age of the delivery that waits longest", _DB),
    _gauge("safeguard_webhooks", "webhooks that are ok, failing, or switched off", _DB, "state"),
    _counter("safeguard_webhook_tries_total", "tries to deliver: delivered, failed or dead (given up)", Source.SENDER, "outcome"),
    _gauge("safeguard_lookbacks", "look-backs that wait or are dead", _DB, "state"),
    _gauge("safeguard_lookback_oldest_seconds", "age of the oldest look-back that is not finished", _DB),
    _gauge("safeguard_lookback_images", "images that the unfinished look-backs have judged anew", _DB),
    _gauge("safeguard_lookback_members", "members that the unfinished look-backs search for: all, done", _DB, "state"),
    _gauge("safeguard_jobs", "bulk jobs by kind and status, ended ones left out", _DB, "kind", "status"),
    _gauge(
        "safeguard_job_objects",
        "objects of the unfinished jobs: all, indexed (vectors stored), done (linked too), failed, skipped",
        _DB, "kind", "state",
    ),
    _gauge("safeguard_job_images_per_second", "speed of the running jobs, over all their runs", _DB, "kind"),
    _gauge("safeguard_job_left_seconds", "expected until the running jobs have ended", _DB, "kind"),
    _gauge("safeguard_database_bytes", "size of the database", _DB),
    _gauge("safeguard_disk_free_bytes", "room on the disk of the home, or of an embedded postgresql or s3", _DB, "part"),
    _gauge("safeguard_disk_bytes", "size of that disk", _DB, "part"),
    _gauge("safeguard_collected_timestamp_seconds", "when PostgreSQL was read last for these metrics, Unix time", _DB),
    _counter("safeguard_collection_seconds_total", "time of reading PostgreSQL for these metrics", _DB),
    _counter("safeguard_collections_total", "such readings: ok or failed", _DB, "outcome"),
    _counter("safeguard_http_requests_total", "answers by route and class of status, such as 2xx", _IN, "route", "status"),
    _counter("safeguard_http_seconds_total", "time of those answers", _IN, "route"),
    Metric("safeguard_http_latency_seconds", Kind.HISTOGRAM, (), "time of an answer", _IN, LATENCY_BUCKETS),
    _counter(
        "safeguard_http_refusals_total",
        "requests that were refused: unauthenticated (401), forbidden (403), too-large (413), limited (429),"
        " crowded or unavailable (503), or full (507)",
        _IN, "reason",
    ),
)  # fmt: skip
CATALOGUE = {metric.name: metric for metric in METRICS}
