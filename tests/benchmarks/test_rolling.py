"""What the benchmark of updates concludes from what it sees."""

import math
from pathlib import Path

import yaml

from benchmarks.mixed_load import Phase
from benchmarks.rolling import Succession, changed_user_config, running_of
from graphs.cluster import CONFIG
from graphs.replicas import Replica


def replica(deployment: str, id: str, state: str = "RUNNING") -> Replica:
    return Replica(deployment, id, state, "127.0.0.1", 1, 0.0, "")


def succession(before: dict[str, set[str]]) -> Succession:
    made = Succession.__new__(Succession)
    made.before, made.first_s, made.all_s, made.lost = before, {}, {}, set()
    return made


def test_running_replicas_are_told_from_others() -> None:
    found = [replica("A", "1"), replica("A", "2", "STARTING"), replica("B", "3", "STOPPING")]
    assert running_of(found) == {"A": {"1"}, "B": set()}


def test_a_deployment_is_new_when_none_of_the_old_ones_runs() -> None:
    watch = succession({"A": {"1", "2"}, "B": {"3"}})
    watch.note({"A": {"1", "2"}, "B": {"3"}}, 1)
    watch.note({"A": {"1", "2", "4"}, "B": set()}, 2)
    watch.note({"A": {"2", "4"}, "B": {"5"}}, 3)
    assert watch.first_s == {"A": 2, "B": 3} and watch.all_s == {"B": 3}, "an old one of A runs still"
    watch.note({"A": {"4", "6"}, "B": {"5"}}, 4)
    assert watch.all_s == {"A": 4, "B": 3} and watch.replaced == {"A", "B"}


def test_a_replica_that_comes_beside_the_others_replaces_none() -> None:
    watch = succession({"A": {"1"}, "B": {"3", "4"}})
    watch.note({"A": {"1", "2"}, "B": {"4"}}, 1)
    assert watch.first_s == {"A": 1} and watch.lost == {"B"} and not watch.all_s and not watch.replaced


def test_only_the_user_config_is_changed(tmp_path: Path) -> None:
    before, after = yaml.safe_load(CONFIG.read_text()), yaml.safe_load(changed_user_config(tmp_path).read_text())
    assert before != after
    for content in (before, after):
        for deployment in content["applications"][0]["deployments"]:
            deployment.pop("user_config", None)
    assert before == after


def test_failures_are_counted_by_kind() -> None:
    phase = Phase("p", failures=["search: ReadTimeout: ", "search: HTTPStatusError: 503", "list: x"])
    assert phase.failed() == {"search": 2, "list": 1} and math.isnan(phase.quantile("search", 0.95))
    phase.times_ms["read"] += [1.0, 3.0]
    assert phase.quantile("read", 0.5) == 2.0
