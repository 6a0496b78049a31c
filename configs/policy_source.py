"""Policies as text: YAML in, a checked ``Policy`` out, or all mistakes with their places. Reads no file."""

import json
import re
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ValidationError

from configs.policies import (
    Condition,
    FileCondition,
    MatchCondition,
    ObjectCondition,
    Policy,
    Rule,
    UnsafeCondition,
)
from configs.policy_mistakes import Mistake, Path, PolicyError, unknown
from configs.policy_references import Known, examine
from configs.policy_yaml import ReadText, read_yaml

_MODELS: Mapping[str, type[BaseModel]] = {
    "policy": Policy, "rule": Rule, "condition": Condition, "match": MatchCondition, "unsafe": UnsafeCondition,
    "object": ObjectCondition, "file": FileCondition,
}  # fmt: skip
_WORDS = {
    "string_type": "should be text; put it in quotes where YAML reads it as something else",
    "missing": "is missing",
    "model_type": "should have keys and values",
    "model_attributes_type": "should have keys and values",
    "dict_type": "should have keys and values",
    "list_type": "should be a list",
    "bool_type": "should be true or false",
}


def parse_policy(source: str, known: Known | None = None) -> Policy:
    """The policy of a YAML text.

    Args:
        source: 1 MB at most.
        known: what it may name; without, names are not compared with anything.
    Raises:
        PolicyError: it is not one; it has all mistakes with line, column and path.
    """
    text = read_yaml(source)
    if not isinstance(text.values, dict):
        said = "the policy is empty" if text.values is None else "a policy has keys such as version and rules"
        raise PolicyError([*text.mistakes, text.mistake((), said)])
    mistakes = list(text.mistakes)
    if "rules" not in text.values:
        mistakes.append(text.mistake(("rules",), "is missing; `rules: []` is a policy without any"))
    examined = examine(text.values, known)
    mistakes += [text.mistake(path, message) for path, message in examined.mistakes]
    policy = None
    try:
        policy = Policy.model_validate_json(json.dumps(text.values), strict=True)
    except ValidationError as error:
        # What is said of the policy as a whole is what ``examine`` has found, without places.
        errors = error.errors(include_url=False)
        mistakes += [_placed(text, examined.kinds, one) for one in errors if one["loc"]]
        if not mistakes:
            mistakes = [text.mistake((), str(errors[0]["msg"]))]
    if mistakes or policy is None:
        raise PolicyError(mistakes)
    return policy


def _placed(text: ReadText, kinds: Mapping[Path, str], error: Any) -> Mistake:
    path: Path = tuple(part for part in error["loc"] if part != "[key]")
    about_key = error["type"] == "extra_forbidden" or "[key]" in error["loc"]
    return text.mistake(path, _wording(kinds, path, error), key=about_key)


def _wording(kinds: Mapping[Path, str], path: Path, error: Any) -> str:
    given, kind = error.get("input"), error["type"]
    if kind == "extra_forbidden":
        model = _MODELS.get(kinds.get(path[:-1], ""))
        names = [field.alias or name for name, field in model.model_fields.items()] if model else []
        return unknown("unknown key", str(path[-1]), names)
    if kind in ("enum", "literal_error") and isinstance(given, str):
        return unknown("unknown value", given, re.findall(r"'([^']*)'", error["ctx"]["expected"]))
    if kind in _WORDS:
        return _WORDS[kind]
    said = re.sub(r"^(Value error, |Input |[A-Z][a-z]+ (?=should))", "", str(error["msg"]))
    if not isinstance(given, str | int | float):
        return said
    shown = json.dumps(given) if isinstance(given, bool) else repr(given)
    return f"{said}; it is {shown if len(shown) <= 60 else f'{shown[:60]}…'}"
