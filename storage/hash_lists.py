"""Lists of hashes as files: what is exchanged between platforms, read line by line in bounded memory. Below the deployments.

The form is seen from the first line:
- ``pdq,sha256,note`` in any order, one of the first two at least, also with ``quality`` (our own export);
- ``hash,type`` and more of ``note``, ``tags``, ``quality``;
- ``collab,signal_type,signal_str,category,tags``, which ``threatexchange dataset -P --csv`` prints;
- without a header ``hash``, or ``hash,id,time,tags``: files of PDQ hashes that Hasher-Matcher-Actioner comes with;
- JSON objects, one a line: ThreatExchange's threat updates (``type``, ``indicator``, ``tags``), or pages of them in ``data``.
"""

import csv
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

from configs.facts import BankKind
from storage import bank_rules as rules
from storage.bank_members import HashEntry
from storage.errors import InvalidInput

LEAST_QUALITY = 50
"""Of PDQ, 0 to 100: below it a picture has too little structure to be told from others (ThreatExchange, pdq/README.md)."""
_LINE_BYTES = 2**20
_HEX = re.compile(r"[0-9a-f]{64}")
_HEXISH = re.compile(r"(?:pdq )?[0-9a-f]{8,}", re.IGNORECASE)
_TYPES = {"pdq": "pdq", "hash_pdq": "pdq", "sha256": "sha256", "hash_sha256": "sha256"}
_HARMLESS = {"NEGATIVE_CLASS", "FALSE_POSITIVE", "NON_MALICIOUS"}
_HARMFUL = {"POSITIVE_CLASS", "TRUE_POSITIVE", "MALICIOUS"}
_OWN = {"pdq", "sha256", "note", "quality"}
_TYPED = {"hash", "type", "note", "tags", "quality"}
_PRINTED = {"collab", "signal_type", "signal_str", "category", "tags"}
Cells = dict[str, str]


@dataclass(frozen=True)
class Bad:
    """A line that cannot be taken, and why."""

    line: int
    message: str


@dataclass(frozen=True)
class Withdrawn:
    """A line that its author has taken back; it is no mistake, and is left out."""

    line: int


Found = HashEntry | Bad | Withdrawn


def read_list(file: BinaryIO, kind: str) -> Iterator[Found]:
    """What each line of a list is, in order; a file that is no list at all is an error.

    Args:
        file: at its beginning; read as it is asked for.
        kind: of the bank that it is for: a line that says the opposite is bad.
    Raises:
        InvalidInput: no known form, or a line of over 1 MiB.
    """
    lines = _Lines(file)
    first = lines.peek()
    if first.startswith("["):
        raise InvalidInput("line 1: a JSON array is not read; give one object a line")
    yield from (_updates(lines, kind) if first.startswith("{") else _table(lines, kind))


class _Lines:
    """Lines of text with their number; blank ones at the beginning are left out."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._held: str | None = None
        self.number = 0

    def peek(self) -> str:
        while (line := self._read()) and not line.strip():
            pass
        self._held, self.number = line, self.number - 1 if line else self.number
        return line.lstrip()

    def _read(self) -> str:
        line = self._file.readline(_LINE_BYTES + 1)
        if len(line) > _LINE_BYTES:
            raise InvalidInput(f"line {self.number + 1} has over {_LINE_BYTES} bytes: this is no list of hashes")
        if line:
            self.number += 1
        text = line.decode(errors="surrogateescape")
        return text.removeprefix("\ufeff") if self.number == 1 else text

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        if self._held is not None:
            line, self._held = self._held, None
            self.number += bool(line)
        else:
            line = self._read()
        if not line:
            raise StopIteration
        return line


def _table(lines: _Lines, kind: str) -> Iterator[Found]:
    reader = csv.reader(lines, strict=True)
    names: list[str] | None = None
    take: Callable[[Cells, str], HashEntry] = _own
    start = 0
    while True:
        start = lines.number + 1
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            until = f" (as far as line {lines.number})" if lines.number > start else ""
            yield Bad(start, f"not CSV: {error}{until}")
            continue
        if not any(cell.strip() for cell in row):
            continue
        if names is None and not _HEXISH.fullmatch(row[0].strip()):
            names, take = _header(row)
            continue
        try:
            if names is None:
                yield _bare(row)
            elif len(row) != len(names):
                raise InvalidInput(f"{len(row)} columns, where the header has {len(names)}")
            else:
                yield take(dict(zip(names, row, strict=True)), kind)
        except InvalidInput as error:
            yield Bad(start, str(error))


def _header(row: list[str]) -> tuple[list[str], Callable[[Cells, str], HashEntry]]:
    names = [cell.strip().lower() for cell in row]
    forms: tuple[tuple[set[str], set[str], Callable[[Cells, str], HashEntry]], ...] = (
        ({"signal_type", "signal_str"}, _PRINTED, _printed),
        ({"hash", "type"}, _TYPED, _typed),
        ({"pdq"}, _OWN, _own),
        ({"sha256"}, _OWN, _own),
    )
    for needed, known, take in forms:
        if needed <= set(names):
            unknown = [name for name in names if name not in known]
            if unknown or len(set(names)) < len(names):
                wrong = f"unknown columns {', '.join(map(repr, unknown))}" if unknown else "a column twice"
                raise InvalidInput(f"line 1: {wrong}; known are {', '.join(sorted(known))}")
            return names, take
    raise InvalidInput(
        f"line 1: {_short(','.join(row))} is neither a hash nor a header; a list begins with pdq,sha256,note or with"
        " hash,type or with collab,signal_type,signal_str,category,tags, or has a PDQ hash or a JSON object in each line"
    )


def _own(cells: Cells, kind: str) -> HashEntry:
    pdq, sha256 = (hash_of(name, cells[name]) if cells.get(name, "").strip() else None for name in ("pdq", "sha256"))
    if pdq is None and sha256 is None:
        raise InvalidInput("neither pdq nor sha256 is given")
    _sure(cells.get("quality", ""))
    return HashEntry(pdq, sha256, _note(cells.get("note", "")))


def _typed(cells: Cells, kind: str) -> HashEntry:
    _sure(cells.get("quality", ""))
    return _of_type(cells["type"], cells["hash"], cells.get("note") or cells.get("tags") or "")


def _printed(cells: Cells, kind: str) -> HashEntry:
    _agrees(cells.get("category", ""), kind)
    return _of_type(cells["signal_type"], cells["signal_str"], cells.get("tags", ""))


def _bare(row: list[str]) -> HashEntry:
    return HashEntry(hash_of("pdq", row[0].strip().removeprefix("pdq ")), None, _note(row[3] if len(row) == 4 else ""))


def _updates(lines: _Lines, kind: str) -> Iterator[Found]:
    for text in lines:
        if not text.strip():
            continue
        number = lines.number
        try:
            said = json.loads(text)
        except (ValueError, RecursionError):
            yield Bad(number, f"not JSON: {_short(text)}")
            continue
        page = said["data"] if isinstance(said, dict) and "data" in said and "indicator" not in said else [said]
        if not isinstance(page, list):
            yield Bad(number, "neither a threat update nor a page of them in data")
            continue
        for one in page:
            try:
                yield _update(one, number, kind)
            except InvalidInput as error:
                yield Bad(number, str(error))


def _update(said: Any, number: int, kind: str) -> HashEntry | Withdrawn:
    if not isinstance(said, dict):
        raise InvalidInput("not a JSON object")
    for name in ("type", "indicator"):
        if not isinstance(said.get(name), str):
            raise InvalidInput(f"{name} is missing or no text")
    if said.get("should_delete") or said.get("is_expired"):
        return Withdrawn(number)
    _agrees(str(said.get("status", "")), kind)
    tags = said.get("tags") or []
    if isinstance(tags, dict):
        tags = tags.get("data") or []
    texts = [one.get("text") if isinstance(one, dict) else one for one in tags] if isinstance(tags, list) else []
    return _of_type(said["type"], said["indicator"], " ".join(one for one in texts if isinstance(one, str)))


def _of_type(name: str, value: str, note: str) -> HashEntry:
    kept = _TYPES.get(name.strip().lower())
    if kept is None:
        raise InvalidInput(f"hashes of type {_short(name)} are not kept; pdq and sha256 are")
    digest = hash_of(kept, value)
    return HashEntry(digest if kept == "pdq" else None, digest if kept == "sha256" else None, _note(note))


def hash_of(name: str, value: str) -> bytes:
    """The 32 bytes of a hash in hexadecimal.

    Args:
        name: pdq or sha256, for the message.
    Raises:
        InvalidInput: not 64 hexadecimal digits.
    """
    digits = value.strip().lower()
    if not _HEX.fullmatch(digits):
        if len(digits) != 64:
            raise InvalidInput(f"{name} has {len(digits)} digits instead of 64", name)
        raise InvalidInput(f"{name} {_short(value)} is not hexadecimal", name)
    return bytes.fromhex(digits)


def _note(value: str) -> str:
    if any("\udc80" <= one <= "\udcff" for one in value):
        raise InvalidInput("the note is not UTF-8")
    return rules.printable(value, "note", rules.NOTE_LENGTH)


def _sure(quality: str) -> None:
    given = quality.strip()
    if given:
        if not (given.isascii() and given.isdigit() and int(given[:4]) <= 100):
            raise InvalidInput(f"quality {_short(given)} is no whole number from 0 to 100")
        if int(given) < LEAST_QUALITY:
            raise InvalidInput(f"quality {given} is below {LEAST_QUALITY}: such a hash matches unrelated pictures")


def _agrees(category: str, kind: str) -> None:
    against = _HARMLESS if kind == BankKind.UNACCEPTABLE else _HARMFUL
    if category.strip().upper() in against:
        raise InvalidInput(f"{category.strip()} contradicts a bank of {kind} pictures")


def _short(value: str) -> str:
    """At most 40 characters, with all that is not printable escaped."""
    text = value.strip()
    return repr(text if len(text) <= 40 else text[:40] + "…")
