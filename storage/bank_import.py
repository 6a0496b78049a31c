"""Importing lists of hashes into a bank, in chunks of one transaction each: repeat one that was broken off, and it finishes."""

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, BinaryIO

from sqlalchemy.ext.asyncio import AsyncEngine

from storage import bank_members, banks
from storage.bank_members import HashEntry
from storage.errors import InvalidInput
from storage.hash_lists import Bad, Found, Withdrawn, read_list

CHUNK = 5000
"""Hashes of one transaction, with one look-back and one audit entry."""
SHOWN = 100
"""Bad lines that are told of one by one."""


@dataclass
class Imported:
    """What an import did.

    Args:
        added, already_there: hashes that are new in the bank, and that it had (or that the list has twice).
        refused: lines that were left out for a mistake, the first of which are in ``errors``.
        withdrawn: lines that their author has taken back.
        look_backs: that were begun, one for each chunk with something new.
    """

    added: int = 0
    already_there: int = 0
    refused: int = 0
    withdrawn: int = 0
    errors: list[Bad] = field(default_factory=list)
    look_backs: list[int] = field(default_factory=list)


class BadList(InvalidInput):
    """A list with bad lines; nothing of it was imported.

    Args:
        found: what is wrong.
        good: lines that could be taken.
    """

    def __init__(self, found: Imported, good: int) -> None:
        first = found.errors[0]
        super().__init__(
            f"{found.refused} lines cannot be taken, {good} could; nothing was imported. The first: line {first.line}:"
            f" {first.message}"
        )
        errors = [{"field": f"line {one.line}", "message": one.message} for one in found.errors]
        self.members: dict[str, Any] = {"errors": errors}


async def import_list(
    engine: AsyncEngine, bank_id: int, file: BinaryIO, *, source: str, actor: str, keep_good: bool = False,
    progress: Callable[[Imported], None] = lambda _: None,
) -> Imported:  # fmt: skip
    """Reads a list twice, first to check all of it, then to add what is good.

    Args:
        file: can be read from its beginning again.
        source: kept with each member, for people.
        keep_good: import the good lines although there are bad ones.
        progress: called after each chunk.
    Raises:
        NotFound: there is no such bank.
        BadList: there are bad lines; nothing was imported.
        InvalidInput: no list of a known form, or nothing in it.
    """
    kind = (await banks.get(engine, bank_id)).bank.kind
    file.seek(0)
    checked, good = await asyncio.to_thread(_check, read_list(file, kind))
    if checked.refused and not keep_good:
        raise BadList(checked, good)
    if not good:
        raise InvalidInput("there is no hash in it that could be imported")
    file.seek(0)
    found = read_list(file, kind)
    while chunk := await asyncio.to_thread(_chunk, found):
        added = await bank_members.add_hashes(engine, bank_id, chunk, actor=actor, source=source)
        checked.added += added.added
        checked.already_there += added.already_there
        checked.look_backs += added.look_backs
        progress(checked)
    return checked


def _check(found: Iterator[Found]) -> tuple[Imported, int]:
    said, good = Imported(), 0
    for one in found:
        if isinstance(one, Bad):
            said.refused += 1
            if len(said.errors) < SHOWN:
                said.errors.append(one)
        elif isinstance(one, Withdrawn):
            said.withdrawn += 1
        else:
            good += 1
    return said, good


def _chunk(found: Iterator[Found]) -> list[HashEntry]:
    return list(islice((one for one in found if isinstance(one, HashEntry)), CHUNK))
