"""The audit of one installation, for the command line. May import storage."""

from collections.abc import AsyncIterator
from pathlib import Path

from graphs.opening import opened
from storage import audit_log
from storage.audit_check import Checked, verify
from storage.audit_log import Head
from storage.errors import InvalidInput
from storage.tables import AuditEntry

_PAGE = 1000


async def check(home: Path | None, known: str | None) -> Checked:
    """See ``storage.audit_check.verify``.

    Args:
        known: a head as ``Head`` writes it.
    Raises:
        InvalidInput: it is not of that form.
    """
    anchor = Head.parse(known) if known is not None else None
    async with opened(home) as (_, engine):
        return await verify(engine, known=anchor)


async def newest(home: Path | None) -> Head:
    """See ``storage.audit_log.head``."""
    async with opened(home) as (_, engine):
        return await audit_log.head(engine)


async def each(
    home: Path | None, *, after: int, limit: int | None, subject: str | None, action: str | None, actor: str | None
) -> AsyncIterator[AuditEntry]:
    """See ``storage.audit_log.entries``; read a page at a time.

    Args:
        limit: at most so many; None is all.
    Raises:
        InvalidInput: a filter holds U+0000.
    """
    if any("\0" in one for one in (subject, action, actor) if one is not None):
        raise InvalidInput("U+0000 is in no entry")
    async with opened(home) as (_, engine):
        while limit is None or limit > 0:
            wanted = _PAGE if limit is None else min(limit, _PAGE)
            page = await audit_log.entries(
                engine, after=after, limit=wanted, subject=subject, action=action, actor=actor
            )  # fmt: skip
            for entry in page:
                yield entry
            if len(page) < wanted:
                return
            after = page[-1].sequence
            limit = None if limit is None else limit - len(page)
