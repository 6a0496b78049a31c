"""What a bank may be called and set to."""

from datetime import UTC, datetime, timedelta, timezone

import pytest

from storage import bank_rules as rules
from storage.errors import InvalidInput

NAMES = [
    "a",
    "Банк «Запрет» №1",
    "quotes \"double\" and 'single'",
    "银行",
    "👩‍👩‍👧 emoji",
    "x" * 120,
    "a/b?c=d&e",
    "%s {x}",
]


@pytest.mark.parametrize("name", NAMES)
def test_any_language_names_a_bank(name: str) -> None:
    assert rules.name_of(name) == name


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("", "blank"), (" \t", "blank"), (" a", "spaces"), ("x" * 121, "121 characters"), ("a\0b", r"U\+0000 at place 2"),
        ("a\nb", r"U\+000A"), ("a\x1b[2J", r"U\+001B"), ("\ud800", r"U\+D800"),
    ],
)  # fmt: skip
def test_names_that_are_refused(name: str, said: str) -> None:
    with pytest.raises(InvalidInput, match=said) as caught:
        rules.name_of(name)
    assert caught.value.field == "name"


def test_relations_are_ordered_and_known() -> None:
    assert rules.relations_of(["semantic", "exact", "semantic"]) == ["exact", "semantic"]
    with pytest.raises(InvalidInput, match="'Copy' is no relation; known are exact, copy"):
        rules.relations_of(["exact", "Copy"])
    with pytest.raises(InvalidInput, match="at least one"):
        rules.relations_of([])


def test_ranges() -> None:
    assert (rules.distance_of(0), rules.distance_of(64), rules.score_of(None, "x")) == (0, 64, None)
    assert (rules.score_of(0.0, "x"), rules.score_of(1.0, "x")) == (0.0, 1.0)
    for distance in (-1, 65):
        with pytest.raises(InvalidInput, match="between 0 and 64"):
            rules.distance_of(distance)
    for score in (-0.1, 1.1, float("nan"), float("inf")):
        with pytest.raises(InvalidInput, match="copy_score must be between 0 and 1"):
            rules.score_of(score, "copy_score")


def test_times_have_a_zone_and_lie_ahead() -> None:
    soon = datetime.now(timezone(timedelta(hours=3))) + timedelta(minutes=1)
    assert rules.until_of(soon) == soon
    with pytest.raises(InvalidInput, match="time zone"):
        rules.until_of(soon.replace(tzinfo=None))
    with pytest.raises(InvalidInput, match="future"):
        rules.until_of(datetime.now(UTC) - timedelta(seconds=1))
    with pytest.raises(InvalidInput, match="no such time"):
        rules.until_of(datetime.max.replace(tzinfo=timezone(timedelta(hours=-1))))


def test_notes_may_have_lines() -> None:
    assert rules.printable("a\n\tb", "note", 9) == "a\n\tb"
    with pytest.raises(InvalidInput, match=r"U\+0000"):
        rules.printable("a\0", "note", 9)
