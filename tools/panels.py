"""What the dashboards show: panels with their queries, which hold no variables of Grafana, so that a test can ask them too."""

from dataclasses import dataclass

P = "ray_safeguard_"

RAYS_OWN = {
    "ray_node_cpu_utilization": "percent of a node's CPUs",
    "ray_node_mem_available": "bytes",
    "ray_node_mem_total": "bytes",
    "ray_node_disk_free": "bytes",
    "ray_node_disk_usage": "bytes",
    "ray_node_gpus_utilization": "percent of a GPU; only where there is one",
    "ray_serve_deployment_replica_healthy": "1 or 0",
    "ray_serve_deployment_replica_starts_total": "starts of replicas",
    "ray_serve_deployment_processing_latency_ms_sum": "milliseconds, from the middles of buckets",
    "ray_serve_deployment_processing_latency_ms_count": "calls",
    "ray_serve_replica_processing_queries": "calls in work",
    "ray_serve_deployment_queued_queries": "calls that wait",
    "ray_serve_replica_utilization_percent": "percent of max_ongoing_requests",
    "ray_component_rss_bytes": "bytes by process",
}
"""Metrics of Ray itself that dashboards and alerts use."""
ONLY_SOMEWHERE = {"ray_node_gpus_utilization"}


@dataclass(frozen=True)
class Panel:
    """One panel.

    Args:
        unit: of Grafana: s, bytes, percentunit, short, ops, ….
        queries: expression and legend of each.
        kind: timeseries or stat.
        help: what to do with it, a sentence.
        width: of 24 columns.
    """

    title: str
    unit: str
    queries: tuple[tuple[str, str], ...]
    help: str
    kind: str = "timeseries"
    width: int = 8


def _load(window: str) -> str:
    """Share of its slots that each deployment uses; of those that have none, of the calls that Ray lets in."""
    own = (
        f"sum by (deployment) (rate({P}busy_seconds_total[{window}])) / on (deployment) sum by (deployment) ({P}slots)"
    )
    rays = (
        "avg by (deployment) (avg_over_time(ray_serve_replica_utilization_percent"
        f'{{deployment=~"Ingress|SimilarityReader"}}[{window}])) / 100'
    )
    cpu = f'label_replace(avg(avg_over_time(ray_node_cpu_utilization[{window}])) / 100, "deployment", "CPU", "", "")'
    return f"(({own}) or ({rays}) or ({cpu}))"


LOAD = _load("5m")
_DONE = f'{P}images_finished_total{{outcome="processed"}}'
_RATE = f"sum(rate({_DONE}[5m]))"
_HOUR = f"scalar(sum(rate({_DONE}[1h])))"
_WAITING = f'sum({P}queue_images{{worker="pipeline"}})'
LEFT_S = f"{_WAITING} / clamp_min({_RATE} or vector(0), 0.000001)"
POSSIBLE = f"86400 * {_HOUR} / ({_load('1h')} > 0.001)"


def _each(metric: str, by: str, window: str = "5m") -> str:
    return f"sum by ({by}) (rate({P}{metric}[{window}]))"


def _q(expression: str, legend: str = "") -> tuple[tuple[str, str], ...]:
    return ((expression, legend),)


CAPACITY = (
    Panel("Images that wait", "short", _q(_WAITING), "Those that the pipeline has to process.", "stat", 4),
    Panel("Until the queue is empty", "s", _q(LEFT_S), "At the speed of the last five minutes.", "stat", 4),
    Panel("Images a day", "short", _q(f"86400 * {_RATE}"), "At the speed of the last five minutes.", "stat", 4),
    Panel(
        "Images a day still possible", "short", _q(f"clamp_min(min({POSSIBLE}) - 86400 * {_HOUR}, 0)"),
        "What the fullest part leaves, by the last hour; says little where nearly nothing was processed.", "stat", 4,
    ),
    Panel(
        "Scale next", "percentunit", _q(f"topk(1, {_load('1h')})", "{{deployment}}"),
        "The part that was fullest in the last hour. CPU: add machines; any other: replicas, in serve_config.yaml.",
        "stat", 4,
    ),
    Panel(
        "Age of these figures", "s", _q(f"time() - max({P}collected_timestamp_seconds)"),
        "Above a minute: PostgreSQL or the WebhookSender does not answer.", "stat", 4,
    ),
    Panel("Load against capacity", "percentunit", _q(LOAD, "{{deployment}}"), "At 1 a part is full.", width=12),
    Panel("Images a day that each part could do", "short", _q(POSSIBLE, "{{deployment}}"), "The lowest limits.", width=12),
    Panel(
        "Queue", "short", _q(f"sum by (worker) ({P}queue_images)", "{{worker}}"), "outside: left to workers that poll."
    ),
    Panel(
        "Oldest waiting image", "s", _q(f"max by (model) ({P}queue_oldest_seconds)", "{{model}}"),
        "Grows where nobody works on a queue.",
    ),
    Panel(
        "Images by status", "short", _q(f"sum by (status) ({P}images)", "{{status}}"), "Above 50,000 an estimate."
    ),
    Panel(
        "Ends of claims", "ops", _q(_each("images_finished_total", "outcome"), "{{outcome}}"),
        "failed: the picture is at fault; retried: it is tried again; late: another one has it.",
    ),
    Panel(
        "Claims and leases", "ops",
        (
            (_each("claims_total", "attempt"), "{{attempt}}"),
            (f"sum(rate({P}leases_expired_total[5m]))", "leases expired"),
        ),
        "Many second attempts: something dies or is slow.",
    ),
    Panel(
        "Replicas", "short", _q("sum by (deployment) (ray_serve_deployment_replica_healthy)", "{{deployment}}"), "Healthy ones."
    ),
    Panel(
        "Seconds an item, by stage", "s",
        _q(f"{_each('stage_seconds_total', 'stage')} / {_each('stage_items_total', 'stage')}", "{{stage}}"),
        "Waiting included: a stage grows when what it calls is full.", width=12,
    ),
    Panel(
        "Items a call, by stage", "short",
        _q(f"{_each('stage_items_total', 'stage')} / {_each('stage_calls_total', 'stage')}", "{{stage}}"),
        "Size of batches.", width=12,
    ),
    Panel(
        "Time of a call, by replica", "ms",
        _q(
            "sum by (deployment, replica) (rate(ray_serve_deployment_processing_latency_ms_sum[5m]))"
            " / sum by (deployment, replica) (rate(ray_serve_deployment_processing_latency_ms_count[5m]))",
            "{{deployment}} {{replica}}",
        ),
        "One that stands out from others of its deployment is slow: see the runbook.", width=12,
    ),
    Panel(
        "Calls in work and waiting", "short",
        (
            ("sum by (deployment) (ray_serve_replica_processing_queries)", "{{deployment}} in work"),
            ("sum by (deployment) (ray_serve_deployment_queued_queries)", "{{deployment}} waiting"),
        ),
        "Ray's own queues.", width=12,
    ),
    Panel("Requests", "ops", _q(_each("http_requests_total", "status"), "{{status}}"), "Answers by class of status."),
    Panel(
        "Time of an answer", "s",
        tuple(
            (f"histogram_quantile({q}, sum by (le) (rate({P}http_latency_seconds_bucket[5m])))", f"p{q * 100:g}")
            for q in (0.5, 0.95, 0.99)
        ),
        "All routes together.",
    ),
    Panel(
        "Slowest routes", "s",
        _q(f"topk(8, {_each('http_seconds_total', 'route')} / {_each('http_requests_total', 'route')})", "{{route}}"),
        "Mean time of an answer.",
    ),
    Panel(
        "Refused requests", "ops", _q(_each("http_refusals_total", "reason"), "{{reason}}"),
        "unauthenticated: wrong keys; limited: a key's limit; unavailable, full: the service.",
    ),
    Panel(
        "Uploads refused: queue full", "ops", _q(f"sum by (worker) (rate({P}uploads_refused_total[5m]))", "{{worker}}"),
        "As many wait as SAFEGUARD_QUEUE_LIMIT allows: see the runbook.",
    ),
    Panel(
        "Search call", "s",
        (
            (f"histogram_quantile(0.95, sum by (le) (rate({P}index_latency_seconds_bucket[5m])))", "p95"),
            (f"sum(rate({P}index_search_seconds_total[5m])) / sum(rate({P}index_queries_total[5m]))", "mean of a picture"),
        ),
        "In the readers.",
    ),
    Panel(
        "Vectors", "short",
        (
            (f"max by (table) ({P}index_rows)", "{{table}}"),
            (f"max by (table) ({P}index_unindexed_rows)", "{{table}} not in the index"),
        ),
        "What is not in the index is searched one by one.",
    ),
    Panel(
        "Versions that readers lack", "short",
        _q(
            f"max by (table) ({P}index_writer_version) - on (table) min by (table) ({P}index_reader_version)", "{{table}}"
        ),
        "A reader looks for a newer version when it is asked; more than a few while searches go on is wrong.",
    ),
    Panel("Recall of the indexes", "percentunit", _q(f"min by (table) ({P}index_recall_ratio)", "{{table}}"), "When built."),
    Panel(
        "CPU and GPU", "percentunit",
        (
            ("avg(ray_node_cpu_utilization) / 100", "CPU"),
            ("avg(ray_node_gpus_utilization) / 100", "GPU"),
        ),
        "Of all nodes.",
    ),
    Panel(
        "Memory", "bytes",
        (
            ("sum(ray_node_mem_total) - sum(ray_node_mem_available)", "used"),
            ("sum(ray_node_mem_total)", "there is"),
            ('topk(5, sum by (Component) (ray_component_rss_bytes{Component=~"ray::.*"}))', "{{Component}}"),
        ),
        "Of all nodes, and the largest of Ray's processes.",
    ),
    Panel(
        "Disk and database", "bytes",
        (
            (f"min by (part) ({P}disk_free_bytes)", "free for {{part}}"),
            ("sum(ray_node_disk_free)", "free on Ray's nodes"),
            ("sum(ray_node_disk_usage)", "used on Ray's nodes"),
            (f"max({P}database_bytes)", "database"),
        ),
        "Parts that share a disk show the same. Of servers that are not embedded ask their own monitoring.",
    ),
    Panel(
        "Cost of these figures", "percentunit",
        (
            (f"sum(rate({P}collection_seconds_total[5m]))", "time of reading PostgreSQL"),
            (
                f'(sum(rate({P}collections_total{{outcome="failed"}}[5m])) or vector(0))'
                f" / sum(rate({P}collections_total[5m]))",
                "readings that fail",
            ),
        ),
        "Share of the time, and of the readings.",
    ),
)  # fmt: skip

CONTENT = (
    Panel("Blocked", "short", _q(f'max({P}verdict_images{{verdict="block"}})'), "Images that may not stay.", "stat", 4),
    Panel("Wait for review", "short", _q(f'max({P}verdict_images{{verdict="review"}})'), "See POST /review/next.", "stat", 4),
    Panel("Oldest in review", "s", _q(f"max({P}review_oldest_seconds)"), "", "stat", 4),
    Panel("Deliveries that wait", "short", _q(f'max({P}webhook_deliveries{{state="waiting"}})'), "", "stat", 4),
    Panel("Dead letters", "short", _q(f'max({P}webhook_deliveries{{state="dead"}})'), "Given up.", "stat", 4),
    Panel("Look-backs under way", "short", _q(f'max({P}lookbacks{{state="waiting"}})'), "", "stat", 4),
    Panel("Images by verdict", "short", _q(f"max by (verdict) ({P}verdict_images)", "{{verdict}}"), "Which hold.", width=12),
    Panel(
        "Decisions", "ops", _q(_each("decisions_total", "verdict, by"), "{{verdict}} by {{by}}"),
        "A jump of one verdict follows a policy, a bank or a wave of uploads.", width=12,
    ),
    Panel("Webhooks", "short", _q(f"max by (state) ({P}webhooks)", "{{state}}"), "failing: the receiver does not take events."),
    Panel("Tries to deliver", "ops", _q(_each("webhook_tries_total", "outcome"), "{{outcome}}"), "dead: given up."),
    Panel("Oldest delivery", "s", _q(f"max({P}webhook_oldest_seconds)"), "Events of an image are sent in order."),
    Panel(
        "Look-backs", "short",
        (
            (f"max by (state) ({P}lookbacks)", "{{state}}"),
            (f"max by (state) ({P}lookback_members)", "members {{state}}"),
        ),
        "dead: given up; see safeguard lookbacks show.",
    ),
    Panel("Images judged anew", "short", _q(f"max({P}lookback_images)"), "By the look-backs under way."),
    Panel("Oldest look-back", "s", _q(f"max({P}lookback_oldest_seconds)"), "That is not finished."),
    Panel("Bulk jobs", "short", _q(f"max by (kind, status) ({P}jobs)", "{{kind}} {{status}}"), "That have not ended."),
    Panel(
        "Objects of bulk jobs", "short", _q(f"max by (kind, state) ({P}job_objects)", "{{kind}} {{state}}"),
        "done: images now, with links.",
    ),
    Panel(
        "Speed and rest of bulk jobs", "short",
        (
            (f"max by (kind) ({P}job_images_per_second)", "{{kind}}, images a second"),
            (f"max by (kind) ({P}job_left_seconds) / 60", "{{kind}}, minutes left"),
        ),
        "Over all runs of a job.",
    ),
)  # fmt: skip
BOARDS = {"capacity": ("SafeGuard: capacity", CAPACITY), "content": ("SafeGuard: content", CONTENT)}
