"""Exporting the members of a bank as a list of hashes that ``storage.hash_lists`` reads. Below the deployments."""

import csv
import io
import json
from collections.abc import AsyncIterator, Callable, Sequence
from enum import StrEnum
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from configs.facts import BankKind
from storage import banks
from storage.database import reading
from storage.moderation_tables import Bank

_PAGE = 5000
_MEMBERS = text("""
SELECT member.id, member.pdq, coalesce(member.sha256, image.sha256) AS sha256, member.note, member.added_at
FROM bank_member member LEFT JOIN image ON image.id = member.image_id
WHERE member.bank_id = :bank AND member.id > :after AND member.removed_at IS NULL
      AND (member.image_id IS NULL OR :images)
ORDER BY member.id LIMIT :page
""")


class Form(StrEnum):
    """How an export is written: our own CSV, CSV as the ``threatexchange`` command prints it, or threat updates as JSON."""

    CSV = "csv"
    THREATEXCHANGE = "threatexchange"
    UPDATES = "updates"


MEDIA_TYPES = {Form.CSV: "text/csv", Form.THREATEXCHANGE: "text/csv", Form.UPDATES: "application/x-ndjson"}


async def export(engine: AsyncEngine, bank_id: int, form: Form, *, images: bool = False) -> AsyncIterator[bytes]:
    """The list in pieces, by member; members that are added meanwhile may be in it. A member with both hashes is one line
    of our own CSV, and two of the others.

    Args:
        images: members that are stored images too, by the SHA-256 of their file.
    Raises:
        NotFound: there is no such bank.
    """
    bank = (await banks.get(engine, bank_id)).bank
    writers = {Form.CSV: _own, Form.THREATEXCHANGE: _printed, Form.UPDATES: _updates}
    write: Callable[[Bank, Sequence[Any], bool], str] = writers[form]
    after, first = 0, True
    while True:
        values = {"bank": bank_id, "after": after, "images": images, "page": _PAGE}
        async with reading(engine) as connection:
            rows = (await connection.execute(_MEMBERS, values)).all()
        if first or rows:
            yield write(bank, rows, first).encode()
        if len(rows) < _PAGE:
            return
        after, first = rows[-1].id, False


def _csv(header: Sequence[str], lines: Sequence[Sequence[str]], first: bool) -> str:
    file = io.StringIO(newline="")
    csv.writer(file).writerows([header, *lines] if first else lines)
    return file.getvalue()


def _hashes(row: Any) -> list[tuple[str, str]]:
    return [(name, value.hex()) for name, value in (("pdq", row.pdq), ("sha256", row.sha256)) if value is not None]


def _own(bank: Bank, rows: Sequence[Any], first: bool) -> str:
    def line(row: Any) -> list[str]:
        held = dict(_hashes(row))
        return [held.get("pdq", ""), held.get("sha256", ""), row.note]

    return _csv(("pdq", "sha256", "note"), [line(row) for row in rows], first)


def _printed(bank: Bank, rows: Sequence[Any], first: bool) -> str:
    category = "POSITIVE_CLASS" if bank.kind == BankKind.UNACCEPTABLE else "NEGATIVE_CLASS"
    lines = [[bank.name, name, value, category, row.note] for row in rows for name, value in _hashes(row)]
    return _csv(("collab", "signal_type", "signal_str", "category", "tags"), lines, first)


def _updates(bank: Bank, rows: Sequence[Any], first: bool) -> str:
    status = "MALICIOUS" if bank.kind == BankKind.UNACCEPTABLE else "NON_MALICIOUS"
    said = [
        {
            "id": str(row.id), "type": f"HASH_{name.upper()}", "indicator": value, "status": status,
            "tags": [row.note] if row.note else [], "creation_time": int(row.added_at.timestamp()),
            "should_delete": False,
        }
        for row in rows
        for name, value in _hashes(row)
    ]  # fmt: skip
    return "".join(json.dumps(one, ensure_ascii=False) + "\n" for one in said)
