"""HAProxy's own pages stay on loopback, the REST API listens where it is told to."""

import os
import subprocess
from pathlib import Path

import pytest

from configs.settings import load_settings

SCRIPT = Path(__file__).parents[2] / "graphs" / "haproxy_on_loopback.sh"
CONFIG = "frontend f\n    bind :9101\n    bind {host}:8000\nlisten stats\n  bind *:8404\n  stats enable\n"


@pytest.mark.parametrize("host", ["*", "127.0.0.1", "10.0.0.7"])
def test_only_the_pages_of_haproxy_are_bound_to_loopback(tmp_path: Path, host: str) -> None:
    path = tmp_path / "haproxy.cfg"
    path.write_text(CONFIG.format(host=host))
    done = subprocess.run(
        ["sh", str(SCRIPT), str(path)], capture_output=True, text=True, check=True,
        env=os.environ | {"SAFEGUARD_HAPROXY": "/bin/cat", "RAY_SERVE_HAPROXY_STATS_PORT": "8404"},
    )  # fmt: skip
    binds = [line.split()[1] for line in done.stdout.splitlines() if "bind" in line]
    assert binds == ["127.0.0.1:9101", f"{host}:8000", "127.0.0.1:8404"]


def test_without_a_known_port_everything_is(tmp_path: Path) -> None:
    path = tmp_path / "haproxy.cfg"
    path.write_text(CONFIG.format(host="*"))
    environment = {name: value for name, value in os.environ.items() if name != "RAY_SERVE_HAPROXY_STATS_PORT"}
    done = subprocess.run(
        ["sh", str(SCRIPT), str(path)], capture_output=True, text=True, check=True,
        env=environment | {"SAFEGUARD_HAPROXY": "/bin/cat"},
    )  # fmt: skip
    assert done.stdout.count("bind 127.0.0.1:") == 3


def test_the_address_is_loopback_unless_said_otherwise(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SAFEGUARD_HTTP_HOST", raising=False)
    assert str(load_settings(tmp_path).http_host) == "127.0.0.1"
    monkeypatch.setenv("SAFEGUARD_HTTP_HOST", "0.0.0.0")
    assert str(load_settings(tmp_path).http_host) == "0.0.0.0"
    monkeypatch.setenv("SAFEGUARD_HTTP_HOST", "everywhere")
    with pytest.raises(ValueError, match="http_host"):
        load_settings(tmp_path)
