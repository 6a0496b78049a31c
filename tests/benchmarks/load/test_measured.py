"""Reading Locust's statistics, and the rule of saturation."""

from pathlib import Path

import pytest

from benchmarks.load.measured import Endpoint, read, saturation

# As Locust 2.47.0 wrote them, shortened by columns that are not read.
STATISTICS = """\
Type,Name,Request Count,Failure Count,Requests/s,50%,66%,95%,99%
POST,/image,15,0,3.8156313344759787,73,79,230,230
GET,/image/{id}/processed,19,0,4.833133023669573,49,60,220,220
POST,/image/{id}/processed,12,0,3.052505067580783,74,80,320,320
GET,/image/{id}/return_images,20,20,4.833133023669573,51,78,210,210
POST,/search,12,12,3.052505067580783,50,57,180,180
,Aggregated,78,32,46.22839506172839,49,57,210,320
"""
FAILURES = """\
Method,Name,Error,Occurrences,First Seen,Last Seen
POST,/search,CatchResponseError('500'),12,2026-11-28T14:42:45Z,2026-11-28T14:42:47Z
GET,/image/{id}/return_images,CatchResponseError('503 with Retry-After'),12,2026-11-28T14:42:44Z,2026-11-28T14:42:48Z
GET,/image/{id}/return_images,CatchResponseError('429 with Retry-After'),4,2026-11-28T14:42:44Z,2026-11-28T14:42:48Z
GET,/image/{id}/return_images,CatchResponseError('503 without Retry-After'),3,2026-11-28T14:42:44Z,2026-11-28T14:42:48Z
GET,/image/{id}/return_images,CatchResponseError('no answer'),1,2026-11-28T14:42:44Z,2026-11-28T14:42:48Z
"""


def written(folder: Path, statistics: str) -> Path:
    (folder / "4-users_stats.csv").write_text(statistics)
    (folder / "4-users_failures.csv").write_text(FAILURES)
    return folder / "4-users"


def test_each_endpoint_and_all_of_them(tmp_path: Path) -> None:
    found = read(written(tmp_path, STATISTICS))
    assert [one.name for one in found.endpoints] == [
        "GET /image/{id}/processed",
        "GET /image/{id}/return_images",
        "POST /image",
        "POST /image/{id}/processed",
        "POST /search",
    ]
    assert found.endpoints[0] == Endpoint("GET /image/{id}/processed", 19, 4.833133023669573, 49, 220, 220)
    assert (found.all.name, found.all.requests, found.all.p99_ms) == ("all", 78, 320)


def test_only_429_and_503_that_say_when_to_come_back_are_refusals(tmp_path: Path) -> None:
    found = read(written(tmp_path, STATISTICS))
    counts = {one.name: (one.refused, one.errors) for one in found.endpoints if one.refused or one.errors}
    assert counts == {"GET /image/{id}/return_images": (16, 4), "POST /search": (0, 12)}
    assert (found.all.refused, found.all.errors) == (16, 16)


def test_a_step_without_an_answer_is_no_measurement(tmp_path: Path) -> None:
    silent = "Type,Name,Request Count,Failure Count,Requests/s,50%,66%,95%,99%\n,Aggregated,0,0,0.0,N/A,N/A,N/A,N/A\n"
    with pytest.raises(ValueError, match="no answer"):
        read(written(tmp_path, silent))


def steps(*figures: tuple[float, float]) -> list[Endpoint]:
    """(requests a second, p95 in milliseconds) of each."""
    return [Endpoint("all", 100, per_s, p95 / 2, p95, p95) for per_s, p95 in figures]


@pytest.mark.parametrize(
    ("figures", "full"),
    [
        ([(20, 90), (38, 95), (60, 120), (63, 240), (62, 500)], 2),  # the first such step, not the fastest
        ([(20, 90), (38, 95), (60, 120)], None),  # still growing
        ([(20, 90), (21, 100), (40, 110)], None),  # a slow step is no limit while nobody waits longer
        ([(20, 90), (30, 200), (44, 420)], None),  # slower, but there is more to be had
        ([(60, 90), (66, 135)], None),  # exactly 10 % more is a gain
        ([(60, 90), (65.9, 135)], 0),
        ([(60, 90), (40, 134)], None),  # p95 has not grown by half
        ([(60, 90)], None),
    ],
)
def test_saturation(figures: list[tuple[float, float]], full: int | None) -> None:
    assert saturation(steps(*figures)) == full
