"""The audit: an append-only log in which each entry carries a hash over the entry before. Below deployments.

An entry is written in the transaction of what it tells of, so there is neither without the other. Writers take turns:
the first ``record`` of a transaction takes a lock that is held until its end. So write down as the LAST thing before the
commit. Whoever locks a row or calls a network after it makes all other writers wait, and may end in a deadlock.
The transaction must be READ COMMITTED, which is PostgreSQL's default; any other fails with a duplicate key.
"""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from storage.audit_chain import FIRST_PREVIOUS, canonical, entry_hash

_LOCK = text("SELECT pg_advisory_xact_lock(:key)")
_LOCK_KEY = 0x5AFEA0D1
# A statement of its own: one that waits for the lock would not see what was committed meanwhile.
_TAIL = text("""
SELECT clock_timestamp() AS at, last.sequence, last.hash
FROM (SELECT) AS always LEFT JOIN (SELECT sequence, hash FROM audit ORDER BY sequence DESC LIMIT 1) AS last ON true
""")
_APPEND = text("""
INSERT INTO audit (sequence, at, actor, action, subject, detail, previous_hash, hash)
VALUES (:sequence, :at, :actor, :action, :subject, CAST(:detail AS jsonb), :previous_hash, :hash)
""")


async def record(connection: AsyncConnection, actor: str, action: str, subject: str, detail: dict[str, Any]) -> None:
    """Appends one entry as part of the caller's transaction; the last thing before its commit (see above).

    Args:
        actor: who: the name of a key, or of a command.
        action: what was done, as thing.verb: ``image.delete``.
        subject: to what: ``image/7``.
        detail: JSON; nothing secret. NaN and infinity are refused.
    Raises:
        InvalidInput: a text or number that cannot be kept; nothing was written.
    """
    await record_many(connection, actor, [(action, subject, detail)])


async def record_many(
    connection: AsyncConnection, actor: str, entries: Sequence[tuple[str, str, dict[str, Any]]]
) -> None:
    """Appends some entries in their order, at the price of one lock; otherwise as ``record``.

    Args:
        entries: action, subject and detail of each; at most a few thousand, since their hashes are made on the event loop.
    """
    if not entries:
        return
    details = [canonical(detail) for _, _, detail in entries]  # what is refused is refused before anybody waits
    await connection.execute(_LOCK, {"key": _LOCK_KEY})
    tail = (await connection.execute(_TAIL)).one()
    sequence, previous = tail.sequence or 0, tail.hash or FIRST_PREVIOUS
    rows = []
    for (action, subject, detail), text_of_detail in zip(entries, details, strict=True):
        sequence += 1
        digest = entry_hash(previous, sequence, tail.at, actor, action, subject, detail)
        rows.append(
            {
                "sequence": sequence, "at": tail.at, "actor": actor, "action": action, "subject": subject,
                "detail": text_of_detail, "previous_hash": previous, "hash": digest,
            }
        )  # fmt: skip
        previous = digest
    await connection.execute(_APPEND, rows)
