"""Which rules of a policy name a bank: such a bank can be neither removed nor renamed. Pure; imports policies only."""

from configs.policies import Condition, Policy


def _names(condition: Condition, policy: Policy, known: dict[str, set[str]]) -> set[str]:
    inner = [*(condition.all_of or ()), *(condition.any_of or ())]
    if condition.negated is not None:
        inner.append(condition.negated)
    own = set(condition.match.banks or ()) if condition.match is not None else set()
    if condition.use is not None:
        if condition.use not in known:  # each is looked through once, however often it is used
            known[condition.use] = _names(policy.conditions[condition.use], policy, known)
        own |= known[condition.use]
    return own.union(*(_names(one, policy, known) for one in inner))


def rules_naming(policy: Policy, bank: str) -> list[str]:
    """Names of the rules that name a bank, in their own conditions or in named ones that they use, in order."""
    known: dict[str, set[str]] = {}
    return [rule.name for rule in policy.rules if bank in _names(rule.when, policy, known)]
