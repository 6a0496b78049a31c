"""Configuration of Prometheus and Grafana for one installation: the shipped files with the paths of its home in them."""

from pathlib import Path
from typing import Any

import yaml

from graphs.cluster import RayCluster

SHIPPED = Path(__file__).parent.parent / "configs" / "monitoring"


def write(home: Path, cluster: RayCluster) -> Path:
    """Writes ``<home>/monitoring``; a repeat writes the same.

    Args:
        home: of the installation.
        cluster: Ray keeps the list of what to scrape in a folder of its own.
    Returns:
        The configuration of Prometheus.
    """
    folder = home / "monitoring"
    config: dict[str, Any] = yaml.safe_load((SHIPPED / "prometheus.yml").read_text())
    config["rule_files"] = [str(SHIPPED / "alerts.yml")]
    for job in config["scrape_configs"]:
        for discovery in job["file_sd_configs"]:
            discovery["files"] = [str(cluster.metrics_targets)]
    source = {
        "name": "Prometheus", "type": "prometheus", "url": "http://127.0.0.1:9090", "access": "proxy", "isDefault": True,
    }  # fmt: skip
    boards = {"SafeGuard": SHIPPED / "grafana", "Ray": cluster.rays_dashboards}
    providers = [
        {"name": name, "folder": name, "type": "file", "allowUiUpdates": False, "options": {"path": str(path)}}
        for name, path in boards.items()
    ]
    files = {
        folder / "prometheus.yml": config,
        folder / "grafana" / "datasources" / "safeguard.yml": {"apiVersion": 1, "datasources": [source]},
        folder / "grafana" / "dashboards" / "safeguard.yml": {"apiVersion": 1, "providers": providers},
    }
    for path, content in files.items():
        path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        draft = path.with_suffix(".draft")
        draft.write_text(yaml.safe_dump(content, sort_keys=False))
        draft.rename(path)  # Prometheus may be reading it
    return folder / "prometheus.yml"
