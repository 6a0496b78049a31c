"""Policies as text: YAML in, a checked ``Policy`` out. Imports the rules only."""

import yaml

from configs.policies import Policy


def parse_policy(source: str) -> Policy:
    """The policy of a YAML text.

    Raises:
        ValueError: it is not one.
    """
    return Policy.model_validate(yaml.safe_load(source))
