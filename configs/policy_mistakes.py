"""What is wrong with a policy's text, and where. Imports nothing of ours."""

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

Path = tuple[str | int, ...]
"""Keys and list positions that lead to a value: ("rules", 0, "when")."""
MAX_SHOWN = 100
_LISTED = 12
_COMPARED = 2_000


@dataclass(frozen=True, order=True)
class Mistake:
    """One mistake.

    Args:
        line, column: from 1.
        path: as people write it: ``rules.0.when``; empty: of the whole text.
        message: what is wrong and, where it can be known, what was meant.
    """

    line: int
    column: int
    path: str
    message: str

    @property
    def placed(self) -> str:
        """The message behind its line and column, for those who see the path elsewhere."""
        return f"line {self.line}, column {self.column}: {self.message}"

    def __str__(self) -> str:
        return f"line {self.line}, column {self.column}: {f'{self.path}: ' if self.path else ''}{self.message}"


class PolicyError(ValueError):
    """A text is no policy; ``mistakes`` has all that was found, in the order of the text.

    Args:
        mistakes: at least one.
    """

    def __init__(self, mistakes: Iterable[Mistake]) -> None:
        self.mistakes: Sequence[Mistake] = sorted(set(mistakes))[:MAX_SHOWN]
        super().__init__("; ".join(map(str, self.mistakes[:5])) + (" …" if len(self.mistakes) > 5 else ""))

    def lines(self, name: str) -> list[str]:
        """Each mistake as compilers print it: ``name:line:column: path: message``."""
        return [
            f"{name}:{one.line}:{one.column}: {f'{one.path}: ' if one.path else ''}{one.message}"
            for one in self.mistakes
        ]


def dotted(path: Path) -> str:
    """A path as people write it."""
    return ".".join(str(part) for part in path)


def unknown(what: str, word: str, known: Iterable[str]) -> str:
    """Says that a word is not known, and which one may have been meant.

    Args:
        what: "there is no bank", "unknown key", …
        known: the words that are.
    """
    words = sorted(known)
    folded = {one.casefold(): one for one in words}
    near = [folded[word.casefold()]] if word.casefold() in folded else []
    if not near and len(words) <= _COMPARED:
        near = difflib.get_close_matches(word, words, 1, 0.6)
    if near:
        return f"{what} {word!r}; did you mean {near[0]!r}?"
    listed = ", ".join(words[:_LISTED]) + (", …" if len(words) > _LISTED else "")
    return f"{what} {word!r}; there {'is' if len(words) == 1 else 'are'} {listed or 'none'}"
