"""Clients that are turned away and come back when they are told to: how often they come, and what that leaves."""

import heapq

import pytest

from deployments.ingress.crowd import Crowd
from tests.deployments.ingress.test_admission import Clock


def played(
    clients: int, room_per_s: float, seconds: int, *, returns: float = 2.0, most_room: float = 3.0
) -> tuple[list[float], int, int]:
    """Lets so many come and come back; what they were told, how many came and got in within the last half."""
    clock = Clock()
    crowd = Crowd(2.0, 120.0, returns=returns, clock=clock)
    begun, due = clock.now, [(clock.now + number / clients, number) for number in range(clients)]
    room, told, came, let_in = 0.0, [], 0, 0
    while due[0][0] < begun + seconds:
        at, who = heapq.heappop(due)
        room, clock.now = min(most_room, room + (at - clock.now) * room_per_s), at
        late = at > begun + seconds / 2
        came += late
        if room >= 1:
            room -= 1
            let_in += late
            crowd.let_in()
            heapq.heappush(due, (at + 0.3, who))
        else:
            told.append(crowd.turned_away())
            heapq.heappush(due, (at + told[-1], who))
    return told, came, let_in


@pytest.mark.parametrize(("clients", "room_per_s"), [(64, 2.5), (500, 5.0), (64, 0.8)])
def test_however_many_come_a_few_are_turned_away_for_each_that_is_let_in(clients: int, room_per_s: float) -> None:
    told, came, let_in = played(clients, room_per_s, 600)
    assert let_in > 0.9 * 300 * room_per_s
    assert let_in < came < 4 * let_in
    settled, expected = told[len(told) // 2 :], clients / (2 * room_per_s)
    assert 0.2 * expected < min(settled) < expected < max(settled) < 3 * expected


@pytest.mark.parametrize(("clients", "room_per_s"), [(64, 2.5), (500, 5.0), (64, 0.8)])
def test_where_room_can_be_taken_later_fewer_come_for_nothing(clients: int, room_per_s: float) -> None:
    _, came, let_in = played(clients, room_per_s, 600, returns=1.0, most_room=60.0)
    assert let_in > 0.97 * 300 * room_per_s
    assert 1.7 * let_in < came < 2.2 * let_in
    _, more, as_many = played(clients, room_per_s, 600, returns=2.0, most_room=60.0)
    assert more / as_many > 1.25 * came / let_in


def test_a_single_one_comes_back_soon() -> None:
    told, _, let_in = played(1, 0.5, 600)
    assert max(told) < 4 and let_in > 100


def test_what_is_told_has_bounds() -> None:
    clock = Clock()
    crowd = Crowd(2.0, 60.0, returns=2.0, clock=clock)
    assert {crowd.turned_away() for _ in range(100)} == {2.0}, "nobody was let in: there is no pace to go by"
    crowd.let_in()
    assert max(crowd.turned_away() for _ in range(10_000)) == 60.0


def test_whoever_was_turned_away_long_ago_is_not_counted() -> None:
    clock = Clock()
    crowd = Crowd(2.0, 60.0, returns=2.0, clock=clock)
    for _ in range(100):
        crowd.turned_away()
    for _ in range(300):
        clock.now += 0.1
        crowd.let_in()
    assert [crowd.turned_away(), crowd.turned_away()] == [2.0, 2.0]


def test_a_burst_after_a_quiet_hour_is_told_by_its_own_pace() -> None:
    clock = Clock()
    crowd = Crowd(2.0, 60.0, returns=2.0, clock=clock)
    for _ in range(60):
        crowd.let_in()
        clock.now += 60
    told = []
    for _ in range(20):
        told.append(crowd.turned_away())
        crowd.let_in()
        clock.now += 0.5
    assert max(told) < 4.0
