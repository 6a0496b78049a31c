"""The configuration that `safeguard up` writes is one that Prometheus takes, and leads to what is there."""

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from configs.settings import Settings
from graphs.cluster import RayCluster
from graphs.monitoring import write


def content(path: Path) -> Any:
    return yaml.safe_load(path.read_text())


def test_paths_are_those_of_the_home(tmp_path: Path) -> None:
    cluster = RayCluster(Settings(home=tmp_path))
    made = write(tmp_path, cluster)
    before = made.read_bytes()
    assert write(tmp_path, cluster).read_bytes() == before
    config = content(made)
    (job,) = config["scrape_configs"]
    assert job["file_sd_configs"][0]["files"] == [str(cluster.metrics_targets)]
    assert all(Path(path).is_file() for path in config["rule_files"])
    providers = content(tmp_path / "monitoring" / "grafana" / "dashboards" / "safeguard.yml")["providers"]
    ours = Path(providers[0]["options"]["path"])
    assert {path.name for path in ours.glob("*.json")} == {"capacity.json", "content.json"}
    (source,) = content(tmp_path / "monitoring" / "grafana" / "datasources" / "safeguard.yml")["datasources"]
    assert source["type"] == "prometheus"
    assert not list((tmp_path / "monitoring").rglob("*.draft"))


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed (Debian: prometheus)")
def test_prometheus_takes_it(tmp_path: Path) -> None:
    made = write(tmp_path, RayCluster(Settings(home=tmp_path)))
    done = subprocess.run(["promtool", "check", "config", str(made)], capture_output=True, timeout=60)
    assert done.returncode == 0, done.stderr
