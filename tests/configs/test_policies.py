"""Rules over facts: what beats what, each condition, and what cannot be a policy."""

import time
from dataclasses import replace
from typing import Any

import pytest
from pydantic import ValidationError

from configs.facts import BankMatch, Facts, SeenObject
from configs.policies import Condition, Policy, Rule, Verdict

BARE = Facts(7, "safeguard-v1", "image/png", 1000, 640, 480, {"opennsfw@1": 0.2})
BAD = BankMatch("scams", "unacceptable", 1, 2, "copy", "geometry", 0.99, 0.98)
GOOD = BankMatch("logos", "allowed", 3, 4, "exact", "sha256", 1.0, 1.0)


def policy(*rules: dict[str, Any], **more: Any) -> Policy:
    given = [
        {"name": f"rule {number}", "action": "block", "reason": "why", **rule} for number, rule in enumerate(rules)
    ]
    return Policy.model_validate({"rules": given, **more})


def holds(when: dict[str, Any], facts: Facts = BARE) -> bool:
    return policy({"when": when}).judge(facts).verdict == "block"


def test_block_beats_review_beats_allow_then_severity_then_order() -> None:
    always: dict[str, Any] = {"when": {"unsafe": {"min_score": 0.0}}}
    said = policy(
        {**always, "action": "allow", "severity": 10}, {**always, "action": "review", "severity": 10},
        {**always, "severity": 1}, {**always, "severity": 4}, {**always, "severity": 4},
    ).judge(BARE)  # fmt: skip
    assert (said.verdict, said.rule, said.severity) == (Verdict.BLOCK, "rule 3", 4)
    assert said.fired == [f"rule {number}" for number in range(5)]


def test_the_default_holds_where_no_rule_fires() -> None:
    said = policy({"when": {"unfiltered": True}}, default="review").judge(BARE)
    assert (said.verdict, said.rule, said.fired) == (Verdict.REVIEW, None, [])


def test_an_allowed_bank_beats_matches_but_no_other_condition() -> None:
    rules = policy({"when": {"match": {}}}, {"action": "review", "when": {"unsafe": {"min_score": 0.1}}})
    assert rules.judge(replace(BARE, matches=(BAD,))).rule == "rule 0"
    both = rules.judge(replace(BARE, matches=(GOOD, BAD)))
    assert (both.rule, both.waived) == ("rule 1", 1)


@pytest.mark.parametrize(
    ("match", "expected"),
    [
        ({}, True),
        ({"banks": ["scams"]}, True),
        ({"banks": ["others"]}, False),
        ({"relations": ["semantic"]}, False),
        ({"min_score": 0.99}, True),
        ({"min_score": 0.995}, False),
        ({"kind": "allowed"}, False),
    ],
)
def test_matches(match: dict[str, Any], expected: bool) -> None:
    assert holds({"match": match}, replace(BARE, matches=(BAD,))) is expected


def test_unsafe_scores_of_one_filter_or_any() -> None:
    two = replace(BARE, content_scores={"a@1": 0.2, "b@1": 0.8})
    assert holds({"unsafe": {"min_score": 0.8}}, two)
    assert not holds({"unsafe": {"min_score": 0.5, "filter": "a@1"}}, two)
    assert not holds({"unsafe": {"min_score": 0.1, "below": 0.8}}, two), "below is not included"
    assert not holds({"unsafe": {"min_score": 0.0}}, replace(BARE, content_scores={}))
    assert holds({"unfiltered": True}, replace(BARE, content_scores={})) and not holds({"unfiltered": True})


def test_objects_are_counted() -> None:
    seen = replace(BARE, objects=tuple(SeenObject("person", 0.9 - 0.1 * n, 0.3 - 0.1 * n) for n in range(3)))
    assert holds({"object": {"label": "person", "min_count": 3}}, seen)
    assert not holds({"object": {"label": "person", "min_count": 3, "min_score": 0.75}}, seen)
    assert holds({"object": {"label": "person", "min_share": 0.25, "max_count": 1}}, seen)
    assert not holds({"object": {"label": "person", "max_share": 0.05}}, replace(seen, objects=seen.objects[:2]))
    assert holds({"object": {"label": "cat", "min_count": 0, "max_count": 0}}, seen)


def test_the_file() -> None:
    assert holds({"file": {"min_width": 640, "max_height": 480, "media_types": ["image/png"]}})
    assert not holds({"file": {"min_width": 640, "max_height": 479}})
    assert not holds({"file": {"max_bytes": 999}}) and not holds({"file": {"models": ["other"]}})


def test_all_any_not_and_named_conditions() -> None:
    high, low = {"unsafe": {"min_score": 0.9}}, {"unsafe": {"min_score": 0.1}}
    assert holds({"any": [high, low]}) and not holds({"all": [high, low]}) and holds({"not": high})
    named = policy({"when": {"use": "b"}}, conditions={"a": low, "b": {"all": [{"use": "a"}, {"not": high}]}})
    assert named.judge(BARE).verdict == "block"


def test_a_condition_that_is_used_often_is_found_once() -> None:
    """Each uses the one below twice: by brute force 4^20 conditions."""
    tower = {f"c{n}": {"all": [{"use": f"c{n + 1}"}] * 4} for n in range(20)} | {"c20": {"unsafe": {"min_score": 0.1}}}
    start = time.monotonic()
    assert policy({"when": {"use": "c0"}}, conditions=tower).judge(BARE).verdict == "block"
    assert time.monotonic() - start < 5


@pytest.mark.parametrize(
    ("conditions", "said"),
    [
        ({"a": {"use": "b"}, "b": {"not": {"use": "a"}}}, "a → b → a"),
        ({"a": {"use": "a"}}, "a → a"),
        ({"a": {"use": "nothing"}}, "no condition 'nothing'"),
        ({f"c{n}": {"use": f"c{n + 1}"} for n in range(9999)} | {"c9999": {"unfiltered": True}}, "inside one another"),
    ],
)
def test_conditions_without_text_are_checked_too(conditions: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        policy(conditions=conditions)


def test_two_rules_of_one_name_and_a_name_that_cannot_be_stored() -> None:
    rule = Rule(name="a", action=Verdict.BLOCK, reason="why", when=Condition(unfiltered=True))
    with pytest.raises(ValidationError, match="'a' is the name of rule 0 too"):
        Policy(rules=[rule, rule])
    with pytest.raises(ValidationError, match="control character"):
        Rule(name="a\0", action=Verdict.BLOCK, reason="why", when=Condition(unfiltered=True))
