"""Reading the audit: its head, which can be kept elsewhere as an anchor, and its entries in order. Below deployments."""

import re
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlmodel import col

from storage.audit_chain import FIRST_PREVIOUS, written_time
from storage.database import reading
from storage.errors import InvalidInput
from storage.tables import AuditEntry, columns_of

_LAST = text("SELECT sequence, hash FROM audit ORDER BY sequence DESC LIMIT 1")


@dataclass(frozen=True)
class Head:
    """The newest entry of a moment. Whoever kept it can prove later that nothing up to it was rewritten or cut off.

    Args:
        sequence: of the entry; 0 with 32 zero bytes is the head of an empty audit.
        hash: bytes[32].
    """

    sequence: int
    hash: bytes

    def __str__(self) -> str:
        return f"{self.sequence}:{self.hash.hex()}"

    @classmethod
    def parse(cls, written: str) -> "Head":
        """What ``str`` gave.

        Raises:
            InvalidInput: it is not of that form.
        """
        match = re.fullmatch(r"([0-9]{1,18}):([0-9a-fA-F]{64})", written.strip())
        if match is None:
            raise InvalidInput("a head is written SEQUENCE:HASH, with a hash of 64 hexadecimal digits", "head")
        return cls(int(match[1]), bytes.fromhex(match[2]))


EMPTY = Head(0, FIRST_PREVIOUS)


async def head(engine: AsyncEngine) -> Head:
    """The newest entry, ``EMPTY`` where there is none."""
    async with reading(engine) as connection:
        row = (await connection.execute(_LAST)).one_or_none()
    return Head(row.sequence, row.hash) if row else EMPTY


async def entries(
    engine: AsyncEngine, *, after: int = 0, limit: int, subject: str | None = None, action: str | None = None,
    actor: str | None = None,
) -> list[AuditEntry]:  # fmt: skip
    """Entries in the order in which they were written.

    Args:
        after: only those with a higher sequence.
        limit: at most so many.
        subject, action, actor: only those with exactly this.
    """
    statement = select(*columns_of(AuditEntry)).where(col(AuditEntry.sequence) > after)
    for column, wanted in (
        (col(AuditEntry.subject), subject), (col(AuditEntry.action), action), (col(AuditEntry.actor), actor)
    ):  # fmt: skip
        if wanted is not None:
            statement = statement.where(column == wanted)
    async with reading(engine) as connection:
        rows = await connection.execute(statement.order_by(col(AuditEntry.sequence)).limit(limit))
        return [AuditEntry(**row._mapping) for row in rows]


def as_sent(entry: AuditEntry) -> dict[str, Any]:
    """An entry as it is shown outside: what its hash covers, in the forms in which it covers them, and its hash."""
    shown = entry.model_dump()
    shown["at"] = written_time(entry.at)
    return shown | {"previous_hash": entry.previous_hash.hex(), "hash": entry.hash.hex()}
