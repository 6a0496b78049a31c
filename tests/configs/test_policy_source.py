"""Policies as text: every mistake has its place and says what was meant; all of them are told at once."""

from pathlib import Path

import pytest

from configs.policies import Verdict
from configs.policy_mistakes import PolicyError
from configs.policy_references import Known
from configs.policy_source import parse_policy

KNOWN = Known(
    banks={"scams": "unacceptable", 'Наши "логотипы"': "allowed"}, labels={"person", "cat"}, filters={"opennsfw@1"},
    models={"safeguard-v1"}, media_types={"image/png", "image/jpeg"},
)  # fmt: skip


def rule(when: str, more: str = "") -> str:
    return f"rules:\n  - name: one\n    action: block\n    reason: why\n    when: {when}\n{more}"


def mistakes(source: str) -> list[str]:
    with pytest.raises(PolicyError) as caught:
        parse_policy(source, KNOWN)
    return caught.value.lines("p")


def test_the_shipped_policy_is_one() -> None:
    policy = parse_policy(Path("configs/policies.yaml").read_text(), KNOWN)
    assert policy.default == Verdict.ALLOW and policy.rules[0].name == "known-unacceptable"


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("", "p:1:1: the policy is empty"),
        ("# nothing\n", "p:1:1: the policy is empty"),
        ("- a\n", "p:1:1: a policy has keys"),
        ("{}", "p:1:1: rules: is missing"),
        ("rules:\n", "p:1:7: rules: should be a list"),
        ("rules: [\n", "p:2:1: this is not YAML"),
        ("rules: []\n\tx: 1", "p:2:1: this is not YAML"),
        ("rules: []\nx: \0", "p:2:4: this is not YAML: the character U+0000"),
        ("rules: []\nx: \ud800", "p:2:1: a character that is no text"),
        ("rules: []\n---\na: 1", "p:2:1: a second document"),
        ("rules: []\ndefalt: allow", "p:2:1: defalt: unknown key 'defalt'; did you mean 'default'?"),
        ("rules: []\nversion: 2", "p:2:10: version: should be 1"),
        ("rules: []\ndefault: review\ndefault: allow", "p:3:1: default: is there twice; first in line 2"),
        ("rules: []\nconditions: {1: {unfiltered: true}, 2: {use: 1}}", "p:2:46: conditions.2.use: should be text"),
        ("rules: []\nconditions: {a: {any: []}}", "p:2:23: conditions.a.any: should have at least 1 item"),
        ("rules: []\n? [a]\n: b", "p:2:3: a key must be text"),
        ("rules: !!python/object/apply:os.system ['true']", "p:1:8: rules: tags are not read"),
        ("rules: &a []\nconditions: *a", "p:1:8: rules: anchors (&) and aliases (*) are not read"),
        ("a: {<<: {b: c}}\nrules: []", "p:1:1: a: unknown key 'a'"),
        ("[" * 100_000, "more than 128 levels"),
        ("x" * 1_000_001, "p:1:1: it has 1000001 bytes; 1000000 are the limit"),
        (rule("{mach: {}}"), "p:5:12: rules.0.when.mach: unknown key 'mach'; did you mean 'match'?"),
        (rule("{match: {}, unfiltered: true}"), "p:5:11: rules.0.when: must be exactly one of"),
        (rule("{unfiltered: false}"), "p:5:24: rules.0.when.unfiltered: should be True; it is false"),
        (rule("{use: c}"), "p:5:17: rules.0.when.use: there is no condition 'c'; there are none"),
        (rule("{match: {banks: [Scams]}}"), "p:5:28: rules.0.when.match.banks.0: there is no bank 'Scams'; did you mean 's"),
        (rule("{match: {banks: ['Наши \"логотипы\"']}}"), "is of the kind allowed, the condition is of unacceptable"),
        (rule("{match: {relations: [same]}}"), "p:5:32: rules.0.when.match.relations.0: unknown value 'same'"),
        (rule("{unsafe: {min_score: 1.5}}"), "p:5:32: rules.0.when.unsafe.min_score: should be less than or equal to 1"),
        (rule("{unsafe: {min_score: .nan}}"), "rules.0.when.unsafe.min_score: should be less than or equal to 1"),
        (rule("{unsafe: {min_score: '0.5'}}"), "rules.0.when.unsafe.min_score: should be a valid number; it is '0.5'"),
        (rule("{unsafe: {min_score: 0.5, below: 0.5}}"), "rules.0.when.unsafe: below 0.5 is not above min_score 0.5"),
        (rule("{unsafe: {min_score: 0.5, filter: opennsfw}}"), "there is no filter 'opennsfw'; did you mean 'opennsfw@1'?"),
        (rule("{object: {label: cats}}"), "p:5:28: rules.0.when.object.label: no detector finds 'cats'; did you mean 'cat'?"),
        (rule("{object: {label: cat, min_count: 0}}"), "true of every picture"),
        (rule("{object: {label: cat, min_share: 0.5, max_share: 0.4}}"), "nothing could ever fit"),
        (rule("{file: {media_types: [image/jpg]}}"), "no image is read of the type 'image/jpg'; did you mean 'image/jpeg'?"),
        (rule("{file: {models: [safegard]}}"), "there is no model or queue 'safegard'; did you mean 'safeguard-v1'?"),
        (rule("{file: {min_bytes: " + "9" * 5000 + "}}"), "cannot be read as a number"),
        (rule("{file: {min_bytes: " + "9" * 30 + "}}"), "rules.0.when.file.min_bytes: should be less than or equal to"),
        (rule("{not: " * 60 + "{unfiltered: true}" + "}" * 60), "more than 50 conditions lie inside one another"),
        (rule("{unfiltered: true}", "    severity: 11\n"), "p:6:15: rules.0.severity: should be less than or equal to 10"),
        (rule("{unfiltered: true}").replace("why", "no"), "p:4:13: rules.0.reason: should be text; put it in quotes"),
        (rule("{unfiltered: true}").replace("why", '"\\0"'), "p:4:13: rules.0.reason: has a control character"),
        (rule("{unfiltered: true}").replace("    reason: why\n", ""), "p:2:5: rules.0.reason: is missing"),
    ],
)  # fmt: skip
def test_a_mistake_has_its_place(source: str, expected: str) -> None:
    said = mistakes(source)
    assert any(expected in one for one in said), said
    assert all(len(one) < 400 for one in said)


def test_a_cycle_is_shown_where_it_begins() -> None:
    source = "rules: []\nconditions:\n  x: {use: b}\n  b: {any: [{use: c}, {unfiltered: true}]}\n  c: {not: {use: b}}\n"
    assert mistakes(source) == ["p:4:19: conditions.b.any.0.use: a condition cannot use itself: b → c → b"]


def test_all_mistakes_are_told_at_once_in_the_order_of_the_text() -> None:
    source = (
        "defalt: allow\n"
        "conditions:\n"
        "  a: {use: a}\n"
        "rules:\n"
        "  - {name: one, action: blok, reason: why, when: {use: b}}\n"
        "  - {name: one, action: block, when: {object: {label: cats, min_scor: 1}}}\n"
    )
    assert [line.partition(": ")[2].partition(":")[0] for line in mistakes(source)] == [
        "defalt", "conditions.a.use", "rules.0.action", "rules.0.when.use", "rules.1.reason", "rules.1.name",
        "rules.1.when.object.label", "rules.1.when.object.min_scor",
    ]  # fmt: skip


def test_very_many_mistakes_are_cut() -> None:
    assert len(mistakes("rules:\n" + "  - 7\n" * 5000)) == 100


def test_what_is_not_known_is_not_checked() -> None:
    source = rule(
        "{all: [{match: {banks: [any]}}, {object: {label: any}}, {file: {models: [any], media_types: [any/any]}}]}"
    )
    assert len(parse_policy(source).rules) == 1
    assert Known(banks={}).unchecked() == ["labels", "filters", "models", "media types"]


def test_a_large_policy_is_read_and_used() -> None:
    """Nearly as large as a text may be; a cycle over all its conditions is found too."""
    conditions = "".join(f"  c{n}: {{any: [{{match: {{banks: [scams]}}}}, {{use: c{n + 1}}}]}}\n" for n in range(20))
    rules = "".join(f"  - {{name: r{n}, action: block, reason: why, when: {{use: c{n % 20}}}}}\n" for n in range(9000))
    source = f"conditions:\n{conditions}  c20: {{unfiltered: true}}\nrules:\n{rules}"
    assert len(parse_policy(source, KNOWN).rules) == 9000
    said = mistakes(source.replace("c20: {unfiltered: true}", "c20: {use: c0}"))
    assert len(said) == 1 and "c0 → c1 → c2 → c3 → c4 → c5 → … → c17" in said[0]
