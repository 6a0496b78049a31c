"""Banks of one installation, for the command line. May import all below."""

import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from sqlalchemy.ext.asyncio import AsyncEngine

from graphs.opening import opened
from storage import bank_members, banks, quarantine
from storage.bank_export import Form, export
from storage.bank_import import Imported, import_list
from storage.bank_members import Added, HashEntry
from storage.banks import BankState, NewBank
from storage.errors import InvalidInput, NotFound
from storage.moderation_tables import BankMember

ACTOR = "command line"


async def named(engine: AsyncEngine, bank: str) -> BankState:
    """The bank of that name, or of that number where none is named so.

    Raises:
        NotFound: there is none.
    """
    try:
        return await banks.by_name(engine, bank)
    except NotFound:
        if not (bank.isascii() and bank.isdigit() and len(bank) <= 18):
            raise
    return await banks.get(engine, int(bank))


async def every(home: Path | None) -> list[BankState]:
    """All banks."""
    async with opened(home) as (_, engine):
        found: list[BankState] = []
        while page := await banks.listing(engine, after=found[-1].id if found else 0):
            found += page
        return found


async def show(home: Path | None, bank: str) -> BankState:
    """One bank."""
    async with opened(home) as (_, engine):
        return await named(engine, bank)


async def create(home: Path | None, new: NewBank) -> BankState:
    """See ``storage.banks.create``."""
    async with opened(home) as (_, engine):
        return await banks.create(engine, new, actor=ACTOR)


async def change(home: Path | None, bank: str, changes: dict[str, Any]) -> tuple[BankState, int | None]:
    """See ``storage.banks.change``."""
    async with opened(home) as (_, engine):
        return await banks.change(engine, (await named(engine, bank)).id, changes, actor=ACTOR)


async def remove(home: Path | None, bank_id: int) -> int:
    """See ``storage.banks.remove``."""
    async with opened(home) as (_, engine):
        return await banks.remove(engine, bank_id, actor=ACTOR)


async def add_images(
    home: Path | None, bank: str, images: Sequence[int], note: str | None, told: Callable[[int, int | None], None]
) -> None:
    """Adds images one after the other.

    Args:
        told: called with each image and its look-back, None where it was a member.
    Raises:
        NotFound, Conflict: an image that cannot be a member; those before it are members.
    """
    async with opened(home) as (_, engine):
        bank_id = (await named(engine, bank)).id
        for image in images:
            _, look_back = await bank_members.add_image(engine, bank_id, image, note=note, actor=ACTOR)
            told(image, look_back)


async def add_hash(home: Path | None, bank: str, entry: HashEntry) -> Added:
    """See ``storage.bank_members.add_hashes``."""
    async with opened(home) as (_, engine):
        return await bank_members.add_hashes(engine, (await named(engine, bank)).id, [entry], actor=ACTOR)


async def forget(home: Path | None, bank: str, *, image: int | None, member: int | None) -> int:
    """Takes an image or a member out; returns the look-back."""
    async with opened(home) as (_, engine):
        bank_id = (await named(engine, bank)).id
        if image is not None:
            return await bank_members.remove_image(engine, bank_id, image, actor=ACTOR)
        assert member is not None
        return await bank_members.remove(engine, bank_id, member, actor=ACTOR)


async def release(home: Path | None, bank: str, member: int) -> int:
    """Releases a member from quarantine; returns the look-back."""
    async with opened(home) as (_, engine):
        return (await quarantine.release(engine, (await named(engine, bank)).id, member, actor=ACTOR))[1]


async def members(home: Path | None, bank: str, *, after: int, limit: int, quarantined: bool) -> list[BankMember]:
    """See ``storage.bank_members.listing``."""
    async with opened(home) as (_, engine):
        bank_id = (await named(engine, bank)).id
        return await bank_members.listing(engine, bank_id, after=after, limit=limit, quarantined=quarantined)


@contextmanager
def list_file(file: str) -> Iterator[BinaryIO]:
    """A list of hashes that can be read twice.

    Args:
        file: its path; ``-`` is the standard input, of which a copy is made.
    Raises:
        InvalidInput: it cannot be read.
    """
    with ExitStack() as stack:
        try:
            found: BinaryIO = stack.enter_context(open(file, "rb")) if file != "-" else sys.stdin.buffer
            if not found.seekable():
                copy = stack.enter_context(tempfile.TemporaryFile())
                shutil.copyfileobj(found, copy)
                copy.seek(0)
                found = copy
        except OSError as error:
            raise InvalidInput(f"{file} cannot be read: {error.strerror}") from error
        yield found


async def take_in(
    home: Path | None, bank: str, file: BinaryIO, *, source: str, keep_good: bool, progress: Callable[[Imported], None]
) -> Imported:  # fmt: skip
    """See ``storage.bank_import.import_list``."""
    async with opened(home) as (_, engine):
        bank_id = (await named(engine, bank)).id
        return await import_list(
            engine, bank_id, file, source=source, actor=ACTOR, keep_good=keep_good, progress=progress
        )


async def write_out(home: Path | None, bank: str, form: Form, *, images: bool, output: BinaryIO) -> None:
    """Exports a bank."""
    async with opened(home) as (_, engine):
        async for piece in export(engine, (await named(engine, bank)).id, form, images=images):
            output.write(piece)
