"""The drill of the operator's bad day: what it reads in the runbook, how it hurries the rules, what it plants."""

import re
import shutil
import subprocess
import sys
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import yaml

from benchmarks.bad_day import hurry
from benchmarks.bad_day.causes import FullDisk, PoisonImage, SlowReplica, poison
from benchmarks.bad_day.runbook import RUNBOOK, run, sections
from benchmarks.disks import Disk
from configs.settings import Settings
from deployments.vision.decoding import decode, probe
from graphs.cluster import RayCluster
from graphs.monitoring import SHIPPED, write
from graphs.replicas import Replica
from graphs.service import Running
from storage.errors import UnsupportedImage

RULES: dict[str, Any] = yaml.safe_load((SHIPPED / "alerts.yml").read_text())
TEXT = """# Runbook
## SlowReplica
"Time of a call, by replica" shows it, as "no panel" does not.
```sh
safeguard replicas $replica       # where "Queue" is no panel
echo $deployment
```
Then:
```sh
safeguard replicas $replica --end
```
## Other
Look at "Disk
and database".
"""


def test_a_section_is_panels_and_commands() -> None:
    slow, other = sections(TEXT).values()
    assert [panel.title for panel in slow.panels] == ["Time of a call, by replica"]
    assert slow.looks == ("safeguard replicas $replica", "echo $deployment")
    assert slow.remedies == ("safeguard replicas $replica --end",)
    assert [panel.title for panel in other.panels] == ["Disk and database"] and other.looks == other.remedies == ()


def test_the_causes_that_are_planted_have_commands_and_panels() -> None:
    found = sections(RUNBOOK.read_text())
    for alert in ("SlowReplica", "StorageFull", "DiskNearlyFull", "ImagesFail", "ManySecondAttempts"):
        assert found[alert].looks and found[alert].panels, alert
    assert found["SlowReplica"].remedies == ("safeguard replicas $replica --end",)


def test_commands_of_the_runbook_exist() -> None:
    """Each `safeguard` command of every block is one of the command line, with options that it has."""
    for section in sections(RUNBOOK.read_text()).values():
        for command in (*section.looks, *section.remedies):
            words = command.split()
            assert words[0] == "safeguard"
            said = subprocess.run(
                [sys.executable, "safeguard.py", words[1], "--help"], cwd=RUNBOOK.parents[1],
                capture_output=True, text=True, check=True, timeout=120,
            ).stdout  # fmt: skip
            said = re.sub(r"\x1b\[[0-9;]*m", "", said)  # colours, where a terminal is pretended
            assert all(word in said for word in words if word.startswith("--")), command


def test_labels_are_variables_of_a_command(tmp_path: Path) -> None:
    labels = {"replica": "ab 12", "__name__": "ALERTS"}
    assert run('echo "$replica" in $SAFEGUARD_HOME', tmp_path, labels) == f"ab 12 in {tmp_path}\n"
    assert "Usage" in run("safeguard --help", tmp_path, {})
    with pytest.raises(subprocess.CalledProcessError):
        run("no-such-command", tmp_path, {})


def test_only_times_are_changed() -> None:
    fast = hurry.hurried(RULES)
    assert fast != RULES
    for before, after in zip(RULES["groups"], fast["groups"], strict=True):
        for rule, changed in zip(before["rules"], after["rules"], strict=True):
            assert changed.keys() == rule.keys() and changed.get("for", hurry.FOR) == hurry.FOR
            assert {name: rule[name] for name in ("alert", "labels", "annotations")} == {
                name: changed[name] for name in ("alert", "labels", "annotations")
            }
            assert "[1d]" not in rule["expr"] or "[1d]" in changed["expr"]
            assert "[15m]" not in changed["expr"] and "[5m]" not in changed["expr"]


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed (Debian: prometheus)")
def test_prometheus_takes_the_copies(tmp_path: Path) -> None:
    write(tmp_path, RayCluster(Settings(home=tmp_path)))
    done = subprocess.run(["promtool", "check", "config", str(hurry.write(tmp_path))], capture_output=True, timeout=60)
    assert done.returncode == 0, done.stderr


def test_the_poison_passes_an_upload_and_no_decoder() -> None:
    data = poison()
    info = probe(data, max_bytes=2**20, max_pixels=100_000_000, max_frames=1)
    assert (info.media_type, info.width, info.height) == ("image/bmp", 6000, 4500)
    with pytest.raises(UnsupportedImage, match="damaged or cut short"):
        decode(data, max_pixels=100_000_000, long_side=1024)


def series(value: float, **labels: str) -> dict[str, Any]:
    return {"metric": labels, "value": [0, str(value)]}


@pytest.fixture
def running(tmp_path: Path) -> Running:
    return Running("http://127.0.0.1:9", "", tmp_path / "key", Settings(home=tmp_path))


def test_a_slow_replica_is_named_by_its_id_and_process(running: Running) -> None:
    cause = SlowReplica(running, "Ingress", victim=Replica("Ingress", "ab12", "RUNNING", "", 4711, 0.0, ""))
    assert cause.named("Ingress ab12 RUNNING 4711") and not cause.named("ab12") and not cause.named("4711")
    slow, fast = series(900, deployment="Ingress", replica="ab12"), series(9, deployment="Ingress", replica="cd34")
    assert cause.shown([fast, slow]) and not cause.shown([fast])
    assert cause.shown([slow, series(9000, deployment="Embedder", replica="ef56")]), "others may take longer by nature"
    assert not cause.shown([slow, series(1000, deployment="Ingress", replica="cd34")])


def test_a_full_disk_is_named_by_its_folder(tmp_path: Path) -> None:
    cause = FullDisk(Disk(tmp_path, 8))
    line = "│ {} │ disk │ {} MiB of 768 MiB are free at {} (s3) │ make room │"
    assert cause.named(line.format("bad", "0", tmp_path))
    assert not cause.named(line.format("ok", "90", tmp_path)) and not cause.named(line.format("bad", "0", "/other"))
    assert cause.shown([series(0, part="s3")]) and not cause.shown([series(0, part="home"), series(2**30, part="s3")])


def test_a_poison_image_is_named_by_its_bytes_and_id(running: Running) -> None:
    cause = PoisonImage(running, ids=[7, 8])
    digest = sha256(cause.data).hexdigest()[:16]
    assert cause.named(f"│ 2 │ FAILED │ 8 │ {digest} │") and not cause.named(f"│ 2 │ FAILED │ 9 │ {digest} │")
    assert cause.shown([series(0.5, outcome="failed")]) and not cause.shown([series(1, outcome="processed")])
