"""Which rules name a bank, however deep."""

from configs.policy_source import parse_policy
from storage.bank_policies import rules_naming

POLICY = """
conditions:
  shared: {not: {match: {banks: ["Банк 'а'"]}}}
rules:
  - {name: direct, action: block, reason: r, when: {match: {banks: [b, c]}}}
  - {name: deep, action: block, reason: r, when: {all: [{any: [{use: shared}]}, {match: {}}]}}
  - {name: none, action: block, reason: r, when: {match: {}}}
"""


def test_rules_that_name_a_bank() -> None:
    policy = parse_policy(POLICY)
    assert rules_naming(policy, "b") == ["direct"]
    assert rules_naming(policy, "Банк 'а'") == ["deep"]
    assert rules_naming(policy, "B") == []


def test_a_condition_that_is_used_often_is_looked_through_once() -> None:
    """By brute force 4^20 conditions."""
    tower = "".join(f"  c{n}: {{all: [{', '.join([f'{{use: c{n + 1}}}'] * 4)}]}}\n" for n in range(20))
    rule = "rules: [{name: high, action: block, reason: r, when: {use: c0}}]"
    policy = parse_policy(f"conditions:\n{tower}  c20: {{match: {{banks: [b]}}}}\n{rule}")
    assert rules_naming(policy, "b") == ["high"]
