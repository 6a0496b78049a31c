"""YAML as policies are written in it: plain values, and where in the text each of them stands.

Stricter than YAML: no anchors, aliases or tags, no key twice, so a text means what it seems to mean and cannot grow.
"""

from dataclasses import dataclass, field
from typing import Any

import yaml

from configs.policy_mistakes import Mistake, Path, PolicyError, dotted

MAX_BYTES = 1_000_000
MAX_DEPTH = 128
"""Mappings and lists inside one another; twice what conditions may nest (configs.policy_references)."""
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_PLAIN = {f"tag:yaml.org,2002:{kind}" for kind in ("bool", "int", "float", "null")}


@dataclass
class ReadText:
    """A text that was read.

    Args:
        values: mappings with text keys, lists and plain values.
        keys: path -> line and column of the key of a mapping's entry, from 1.
        places: path -> line and column of the value.
        mistakes: those that do not keep it from being read.
    """

    values: Any = None
    keys: dict[Path, tuple[int, int]] = field(default_factory=dict)
    places: dict[Path, tuple[int, int]] = field(default_factory=dict)
    mistakes: list[Mistake] = field(default_factory=list)

    def mistake(self, path: Path, message: str, *, key: bool = False) -> Mistake:
        """A mistake at a path, or at what holds it where there is nothing at the path."""
        shown = path
        if key and path in self.keys:
            return Mistake(*self.keys[path], dotted(shown), message)
        while path and path not in self.places:
            path = path[:-1]
        return Mistake(*self.places.get(path, (1, 1)), dotted(shown), message)


def _mark(mark: Any) -> tuple[int, int]:
    return (mark.line + 1, mark.column + 1) if mark is not None else (1, 1)


def _broken(error: yaml.YAMLError, source: str) -> Mistake:
    if isinstance(error, yaml.MarkedYAMLError):
        said = ", ".join(str(one) for one in (error.problem, error.context) if one)
        return Mistake(*_mark(error.problem_mark or error.context_mark), "", f"this is not YAML: {said}")
    number = getattr(error, "character", None)
    place = source.find(chr(number)) if isinstance(number, int) else -1
    before = source[: max(place, 0)]
    shown = f"the character U+{number:04X}" if isinstance(number, int) else "a character that no text may have"
    return Mistake(before.count("\n") + 1, len(before) - before.rfind("\n"), "", f"this is not YAML: {shown} is in it")


def _scalar(event: Any) -> Any:
    reader: Any = yaml.SafeLoader("")
    tag = reader.resolve(yaml.ScalarNode, event.value, event.implicit)
    return reader.construct_object(yaml.ScalarNode(tag, event.value)) if tag in _PLAIN else event.value


class _Builder:
    """Puts values together from events, without recursion."""

    def __init__(self, source: str) -> None:
        self.text = ReadText()
        self._events = yaml.parse(source, Loader=_LOADER)
        self._open: list[tuple[Any, Path]] = []
        self._key: list[tuple[str, tuple[int, int]] | None] = []

    def _report(self, event: Any, path: Path, message: str) -> None:
        self.text.mistakes.append(Mistake(*_mark(event.start_mark), dotted(path), message))

    def _next_path(self) -> Path:
        if not self._open:
            return ()
        holder, path = self._open[-1]
        if isinstance(holder, list):
            return (*path, len(holder))
        pending = self._key[-1]
        return (*path, pending[0]) if pending else path

    def _put(self, value: Any, event: Any) -> Path:
        path = self._next_path()
        if not self._open:
            self.text.values = value
        elif isinstance(self._open[-1][0], list):
            self._open[-1][0].append(value)
        else:
            pending = self._key[-1]
            assert pending is not None
            name, place = pending
            self._key[-1] = None
            if name in self._open[-1][0]:
                first = self.text.keys[path][0]
                self.text.mistakes.append(Mistake(*place, dotted(path), f"is there twice; first in line {first}"))
                return path
            self.text.keys[path] = place
            self._open[-1][0][name] = value
        self.text.places[path] = _mark(event.start_mark)
        return path

    def _checked(self, event: Any) -> None:
        if getattr(event, "anchor", None):
            raise PolicyError(
                [Mistake(*_mark(event.start_mark), dotted(self._next_path()),
                         "anchors (&) and aliases (*) are not read; give a condition a name under conditions, and use it")]
            )  # fmt: skip
        if getattr(event, "tag", None):
            self._report(event, self._next_path(), f"tags are not read: {event.tag}")

    def build(self) -> ReadText:
        documents = 0
        for event in self._events:
            if isinstance(event, yaml.DocumentStartEvent):
                documents += 1
                if documents > 1:
                    self._report(event, (), "a second document begins here; a policy is one")
                    return self.text
            self._checked(event)
            keyless = bool(self._open) and isinstance(self._open[-1][0], dict) and self._key[-1] is None
            if isinstance(event, yaml.CollectionStartEvent):
                if keyless:
                    raise PolicyError(
                        [Mistake(*_mark(event.start_mark), dotted(self._next_path()), "a key must be text")]
                    )
                if len(self._open) >= MAX_DEPTH:
                    raise PolicyError(
                        [Mistake(*_mark(event.start_mark), "", f"more than {MAX_DEPTH} levels lie inside one another")]
                    )
                made: Any = {} if isinstance(event, yaml.MappingStartEvent) else []
                self._open.append((made, self._put(made, event)))
                self._key.append(None)
            elif isinstance(event, yaml.CollectionEndEvent):
                self._open.pop()
                self._key.pop()
            elif isinstance(event, yaml.ScalarEvent):
                if keyless:
                    self._key[-1] = (event.value, _mark(event.start_mark))
                    continue
                try:
                    value = _scalar(event)
                except ValueError:
                    self._report(event, self._next_path(), f"{event.value[:40]!r} cannot be read as a number")
                    value = None
                self._put(value, event)
        return self.text


def read_yaml(source: str) -> ReadText:
    """The values of a text.

    Raises:
        PolicyError: it is no YAML, or too large or too deep, or one of what is not read (see above).
    """
    try:
        size = len(source.encode())
    except UnicodeEncodeError as error:
        line = source[: error.start].count("\n") + 1
        raise PolicyError([Mistake(line, 1, "", "a character that is no text is in it")]) from error
    if size > MAX_BYTES:
        raise PolicyError([Mistake(1, 1, "", f"it has {size} bytes; {MAX_BYTES} are the limit")])
    try:
        return _Builder(source).build()
    except yaml.YAMLError as error:
        raise PolicyError([_broken(error, source)]) from error
