"""The profile over time, seconds made of requests and samples, and the rules by which a run is good or not."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from benchmarks.scaling import drawing, series, stages
from benchmarks.scaling.pressure import Phase, table, troubles
from benchmarks.scaling.recorder import complaint
from benchmarks.scaling.series import Request, Sample, Second
from benchmarks.scaling.stages import Stage

PROFILE = [Stage("quiet", 10, 2, 2), Stage("ramp", 10, 2, 12), Stage("burst", 5, 20, 20)]


def test_users_follow_the_profile() -> None:
    assert [stages.users_at(PROFILE, at) for at in (0, 9.9, 10, 15, 19.9, 20, 24.9)] == [2, 2, 2, 7, 12, 20, 20]
    assert stages.users_at(PROFILE, 25) is None and stages.stage_at(PROFILE, 25) is None
    assert stages.stage_at(PROFILE, 12.5) == (PROFILE[1], 2.5)


def test_a_profile_can_be_written_and_read() -> None:
    assert stages.written(PROFILE) == "quiet:10:2:2,ramp:10:2:12,burst:5:20:20"
    assert stages.parse(stages.written(PROFILE)) == PROFILE
    for broken in ("quiet:10:2", "quiet:ten:2:2", ""):
        with pytest.raises(ValueError):
            stages.parse(broken)


def test_the_burst_is_ten_times_the_quiet_load_and_the_run_short() -> None:
    quiet, _, burst, again = stages.PROFILE
    assert burst.first == burst.last == 10 * quiet.last == 10 * again.last
    assert sum(stage.seconds for stage in stages.PROFILE) <= 360


def test_requests_of_one_thing_that_a_user_does() -> None:
    assert series.requests_per_thing({"read": 1, "result": 1, "work": 0}) == 1.5
    assert series.requests_per_thing({"search": 3, "upload": 1, "work": 1}) == pytest.approx(7 / 5)


def test_requests_are_read_with_what_was_wrong(tmp_path: Path) -> None:
    file = tmp_path / "answers.csv"
    file.write_text("100.500,GET /image/{id},12.5,\n101.250,POST /search,900.0,500, with a comma\n")
    assert series.read_requests(file) == [
        Request(100.5, "GET /image/{id}", 12.5, ""),
        Request(101.25, "POST /search", 900.0, "500, with a comma"),
    ]


def test_seconds(tmp_path: Path) -> None:
    begun = 1000.0
    requests = [
        Request(begun + at / 10, "GET /image/{id}", 5.0, "") for at in range(20)
    ]  # ten a second, for two seconds
    requests += [Request(begun + 3.2, series.SEARCH, ms, "") for ms in range(100, 200)]
    requests += [
        Request(begun + 3.3, series.SEARCH, 60_000.0, "503 with Retry-After"),
        Request(begun - 1, "x", 1.0, ""),
    ]
    samples = [
        Sample(begun + 0.5, Counter(Pipeline=1), 0, 0.0, 900.0),
        Sample(begun + 4.2, Counter(Pipeline=2), 40, 6.5, 1500.0),
        Sample(begun + 4.9, Counter(Pipeline=2), 50, 7.5, 1500.0),
    ]
    rows = series.by_second(PROFILE, begun, requests, samples, 1.5)
    assert len(rows) == 25
    assert [one.answered for one in rows[:5]] == [10, 10, 0, 100, 0] and rows[3].failed == 1
    assert (rows[0].offered, rows[15].offered, rows[24].offered) == (3.0, 7 * 1.5, 30.0)
    assert np.isnan(rows[2].search_p95_ms) and rows[3].search_p95_ms == rows[12].search_p95_ms == pytest.approx(
        194, abs=1
    )
    assert np.isnan(rows[13].search_p95_ms)
    assert (rows[3].waiting, rows[4].waiting, rows[24].waiting) == (0, 50, 50)
    assert rows[3].replicas == {"Pipeline": 1} and rows[4].replicas == {"Pipeline": 2} and rows[4].oldest_s == 7.5
    series.write(rows, tmp_path / "rows.csv")
    lines = (tmp_path / "rows.csv").read_text().splitlines()
    assert len(lines) == 26 and lines[0].endswith("waiting,oldest_s,mib,Pipeline")
    assert lines[4] == "3,quiet,2,3.0,100,1,194,0,0.0,900,1"
    drawing.draw(rows, tmp_path / "rows.png", "a test")
    assert (tmp_path / "rows.png").read_bytes().startswith(b"\x89PNG")


def test_a_complaint_of_ready_is_told_with_its_seconds() -> None:
    full, hung = complaint({"status": 503, "detail": "not ready: models"}), complaint(None)
    samples = [
        Sample(100.5),
        Sample(103.0, not_ready=full),
        Sample(104.0, not_ready=full),
        Sample(109.9, not_ready=hung),
    ]
    assert series.not_ready(100.0, samples) == [
        "/health/ready at 3 s to 4 s (2 samples): not ready: models",
        "/health/ready at 9 s to 9 s (1 samples): no answer",
    ]
    assert complaint({"status": "ready", "checks": {}}) == ""


def rows_of(*counts: dict[str, int]) -> list[Second]:
    """The first stage ends with the first second in which replicas were seen."""
    quiet = next((place for place, replicas in enumerate(counts) if replicas), 0)
    return [
        Second(second, "burst" if second > quiet else "quiet", 2, 3.0, 3, 0, float("nan"), 0, 0.0, 900.0, replicas)
        for second, replicas in enumerate(counts)
    ]


@pytest.mark.parametrize(
    ("counts", "wrong"),
    [
        ([{"Pipeline": 1, "Ingress": 2}, {"Pipeline": 2, "Ingress": 2}, {"Pipeline": 1, "Ingress": 2}], []),
        ([{"Pipeline": 1}, {"Pipeline": 1}], ["no deployment got more replicas under load"]),
        ([{"Pipeline": 1}, {"Pipeline": 0}, {"Pipeline": 1}], ["no deployment got more replicas under load"]),
        ([{"Pipeline": 1}, {"Pipeline": 2}], ["Pipeline did not come down"]),
        ([{"A": 1, "B": 1}, {"A": 2, "B": 2}, {"A": 1, "B": 2}], ["B did not come down"]),
        ([{}, {"Pipeline": 1}, {"Pipeline": 2}, {"Pipeline": 1}, {}], []),
        ([{}, {}], ["no replica was ever seen"]),
    ],
)
def test_replicas_go_up_and_come_down(counts: list[dict[str, int]], wrong: list[str]) -> None:
    assert series.not_followed(rows_of(*counts)) == wrong


def phase(accepted: int, *, mib: float = 2000.0, refused: int = 0, errors: dict[str, int] | None = None) -> Phase:
    times = {"upload": [100.0] * accepted, "search": [900.0] * accepted}
    refusals = Counter({503: refused}) if refused else Counter()
    return Phase(
        16,
        10.0,
        times,
        refusals,
        Counter(errors),
        ({}, {"Ingress": 50.0, "S3": mib - 50}),
        processed_per_s=accepted / 10,
    )


def test_past_capacity_is_good_where_the_pace_is_kept() -> None:
    assert troubles([phase(50), phase(50)], [phase(46, refused=7, mib=2150.0)], growth=0.1) == []
    assert (
        phase(50).per_s() == 10.0 and phase(50).per_s("search") == 5.0 and phase(50).quantile_s("search", 0.95) == 0.9
    )


def test_what_only_made_the_queue_longer_was_not_done() -> None:
    filling = phase(50)
    filling.processed_per_s = 3.0
    assert filling.per_s() == 10.0 and filling.done_per_s() == 8.0


def test_a_machine_that_becomes_slower_is_measured_by_what_it_did_meanwhile() -> None:
    at, past = [phase(50), phase(45), phase(40)], [phase(44, refused=7), phase(39, refused=7)]
    assert troubles(at, past, growth=0.1) == []
    assert troubles(at[:2], past, growth=0.1) == ["8.30 done/s past capacity, 9.50 at capacity"]


@pytest.mark.parametrize(
    ("past", "wrong"),
    [
        (phase(44, refused=7), "8.80 done/s past capacity, 10.00 at capacity"),
        (phase(50, refused=7, mib=2300.0), "2300 MiB past capacity, 2000 at capacity"),
        (phase(50), "nobody was turned away in a phase past capacity: these are not clients enough"),
        (phase(50, refused=7, errors={"upload: 500": 3}), "past capacity: 3 × upload: 500"),
    ],
)
def test_past_capacity_is_not_good_otherwise(past: Phase, wrong: str) -> None:
    at = [phase(50), phase(50)]
    assert troubles(at, [past], growth=0.1) == [wrong]
    made = table(at, [past])
    assert made.row_count > 5
    assert [column.header for column in made.columns] == [
        "",
        "at it, 16 clients",
        "past it, 16 clients",
        "at it, 16 clients",
    ]


def test_somebody_must_be_turned_away_in_every_phase_past_capacity() -> None:
    past = [phase(50, refused=7), phase(50)]
    assert len(troubles([phase(50)] * 3, past, growth=0.1)) == 1
    assert troubles([phase(50)] * 3, [past[0]] * 2, growth=0.1) == []


def test_a_service_that_does_nothing_keeps_no_pace() -> None:
    assert troubles([phase(0)] * 2, [phase(0, refused=7)], growth=0.1) == ["nothing was done at capacity"]


def test_errors_at_capacity_are_told_too() -> None:
    at = [phase(50), phase(50, errors={"search: TimeoutError": 2})]
    assert troubles(at, [phase(50, refused=7)], growth=0.1) == ["at capacity: 2 × search: TimeoutError"]
