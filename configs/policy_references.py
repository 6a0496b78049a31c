"""What the parts of a policy say of one another and of the world: names, `use`, banks, labels. Works on plain values.

Tolerant: what does not have the form of a policy is passed over, so that all mistakes of a text are told at once.
"""

import graphlib
from collections.abc import Mapping, Set
from dataclasses import dataclass, field
from typing import Any

from configs.policy_mistakes import Path, unknown

MAX_NESTING = 50
"""Conditions inside one another, those that are used included."""
_MAX_CYCLES = 20
_LEAVES = ("match", "unsafe", "object", "file")


@dataclass(frozen=True)
class Known:
    """What a policy may name; None of anything: not checked.

    Args:
        banks: name -> kind (``configs.facts.BankKind``).
        labels: of people and objects, that a detector can find.
        filters: name@version.
        models: names that an image can be uploaded with.
        media_types: that are read.
    """

    banks: Mapping[str, str] | None = None
    labels: Set[str] | None = None
    filters: Set[str] | None = None
    models: Set[str] | None = None
    media_types: Set[str] | None = None

    def unchecked(self) -> list[str]:
        """What is not checked, in words."""
        return [name.replace("_", " ") for name, value in vars(self).items() if value is None]


@dataclass
class _Part:
    """A rule's or a named condition's place in the nesting."""

    depth: int = 0
    uses: list[tuple[Path, str, int]] = field(default_factory=list)


@dataclass
class Examined:
    """What was found.

    Args:
        mistakes: path -> what is wrong there.
        kinds: path -> what stands there: policy, rule, condition, match, unsafe, object or file.
        banks: path and name of each bank that is named.
    """

    mistakes: list[tuple[Path, str]] = field(default_factory=list)
    kinds: dict[Path, str] = field(default_factory=dict)
    banks: list[tuple[Path, str]] = field(default_factory=list)


def examine(values: Any, known: Known | None = None) -> Examined:
    """Looks through the plain values of a policy, keys as in the text."""
    walk = _Walk(known or Known())
    if isinstance(values, dict):
        walk.policy(values)
    return walk.found


def _texts(value: Any) -> list[tuple[int, str]]:
    return (
        [(number, one) for number, one in enumerate(value) if isinstance(one, str)] if isinstance(value, list) else []
    )


class _Walk:
    def __init__(self, known: Known) -> None:
        self.found = Examined()
        self._known = known

    def policy(self, values: dict[str, Any]) -> None:
        self.found.kinds[()] = "policy"
        named: dict[str, _Part] = {}
        conditions = values.get("conditions")
        for name, condition in conditions.items() if isinstance(conditions, dict) else ():
            named[name] = self._part(condition, ("conditions", name))
        parts = list(named.values())
        first: dict[str, int] = {}
        rules = values.get("rules")
        for number, rule in enumerate(rules if isinstance(rules, list) else ()):
            path: Path = ("rules", number)
            if not isinstance(rule, dict):
                continue
            self.found.kinds[path] = "rule"
            name = rule.get("name")
            if isinstance(name, str) and first.setdefault(name, number) != number:
                self._mistake((*path, "name"), f"{name!r} is the name of rule {first[name]} too")
            parts.append(self._part(rule.get("when"), (*path, "when")))
        for part in parts:
            for path, name, _ in part.uses:
                if name not in named:
                    self._mistake(path, unknown("there is no condition", name, named))
        self._nesting(named, parts)

    def _mistake(self, path: Path, message: str) -> None:
        self.found.mistakes.append((path, message))

    def _part(self, condition: Any, path: Path) -> _Part:
        part = _Part()
        self._condition(condition, path, 1, part)
        return part

    def _condition(self, value: Any, path: Path, depth: int, part: _Part) -> None:
        if not isinstance(value, dict):
            return
        self.found.kinds[path] = "condition"
        part.depth = max(part.depth, depth)
        if depth > MAX_NESTING:
            self._mistake(path, f"more than {MAX_NESTING} conditions lie inside one another")
            return
        for key in ("all", "any"):
            inner = value.get(key)
            for number, one in enumerate(inner if isinstance(inner, list) else ()):
                self._condition(one, (*path, key, number), depth + 1, part)
        self._condition(value.get("not"), (*path, "not"), depth + 1, part)
        if isinstance(value.get("use"), str):
            part.uses.append(((*path, "use"), value["use"], depth))
        for kind in _LEAVES:
            if isinstance(value.get(kind), dict):
                self.found.kinds[(*path, kind)] = kind
                self._leaf(kind, value[kind], (*path, kind))

    def _leaf(self, kind: str, value: dict[str, Any], path: Path) -> None:
        known = self._known
        if kind == "match":
            wanted = value.get("kind", "unacceptable")
            for number, name in _texts(value.get("banks")):
                place = (*path, "banks", number)
                self.found.banks.append((place, name))
                if known.banks is None:
                    continue
                if name not in known.banks:
                    self._mistake(place, unknown("there is no bank", name, known.banks))
                elif known.banks[name] != wanted:
                    self._mistake(
                        place,
                        f"the bank {name!r} is of the kind {known.banks[name]}, the condition is of {wanted}: nothing"
                        " could ever fit",
                    )
        elif kind == "unsafe":
            self._one("there is no filter", value.get("filter"), known.filters, (*path, "filter"))
        elif kind == "object":
            self._one("no detector finds", value.get("label"), known.labels, (*path, "label"))
        else:
            for number, name in _texts(value.get("media_types")):
                self._one("no image is read of the type", name, known.media_types, (*path, "media_types", number))
            for number, name in _texts(value.get("models")):
                self._one("there is no model or queue", name, known.models, (*path, "models", number))

    def _one(self, what: str, value: Any, known: Set[str] | None, path: Path) -> None:
        if known is not None and isinstance(value, str) and value not in known:
            self._mistake(path, unknown(what, value, known))

    def _nesting(self, named: dict[str, _Part], parts: list[_Part]) -> None:
        edges = {name: {used for _, used, _ in part.uses if used in named} for name, part in named.items()}
        while True:
            try:
                order = list(graphlib.TopologicalSorter(edges).static_order())
                break
            except graphlib.CycleError as error:
                # Each is used by the one after it.
                cycle = list(reversed(error.args[1]))
                start = min(range(len(cycle) - 1), key=lambda at: list(named).index(cycle[at]))
                cycle = [*cycle[start:-1], *cycle[:start], cycle[start]]
                place = next(path for path, used, _ in named[cycle[0]].uses if used == cycle[1])
                shown = cycle if len(cycle) <= 12 else [*cycle[:6], "…", *cycle[-5:]]
                self._mistake(place, f"a condition cannot use itself: {' → '.join(shown)}")
                edges[cycle[0]].discard(cycle[1])
                if len(self.found.mistakes) > _MAX_CYCLES:
                    return
        heights: dict[str, int] = {}

        def height(part: _Part) -> int:
            inner = [depth + heights[used] for _, used, depth in part.uses if used in heights]
            return max([part.depth, *inner])

        for name in order:
            heights[name] = height(named[name])
        for part in parts:
            for path, used, depth in part.uses:
                # Told where it begins, not again of all that use it.
                if max(depth, heights.get(used, 0)) <= MAX_NESTING < depth + heights.get(used, 0):
                    self._mistake(path, f"more than {MAX_NESTING} conditions lie inside one another, with what is used")
