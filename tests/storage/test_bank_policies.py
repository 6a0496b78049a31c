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
