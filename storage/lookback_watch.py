"""Quarantine within a look-back: a member that matches too many past images is stopped before their verdicts change.

Counted are images that match a member now and did not when they were last decided, each file once, by its first image; not
those that are the same byte for byte, nor those that a person has decided. What a released member matches a person has
looked at: it is not counted. Below the deployments.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from storage.errors import SafeGuardError
from storage.facts import facts_of
from storage.lookback_claims import HeldLookBack
from storage.quarantine import Rule, Suspect

_WATCHED = text("""
SELECT id FROM bank_member WHERE bank_id = :bank AND id > :first AND id <= :last AND released_at IS NULL
       AND id = ANY(CAST(:ids AS bigint[]))
""")
_BEFORE = text("""
SELECT held.image_id, held.human_id IS NOT NULL AS human,
       jsonb_path_query_array(decision.facts, '$.matches[*].member') AS members
FROM moderation held LEFT JOIN decision ON decision.id = held.decision_id
WHERE held.image_id = ANY(CAST(:ids AS bigint[]))
""")
_FIRST = text("""
SELECT id FROM image WHERE id = ANY(CAST(:ids AS bigint[])) AND NOT EXISTS (
    SELECT FROM image earlier
    WHERE earlier.sha256 = image.sha256 AND earlier.id < image.id AND earlier.uploaded_at IS NOT NULL)
""")


class TooManyMatches(SafeGuardError):
    """Members of a look-back match so many past images that they are to be put into quarantine; nothing was stored."""

    def __init__(self, suspects: Sequence[Suspect]) -> None:
        super().__init__(f"{len(suspects)} members match too many past images")
        self.suspects = suspects


async def watched(
    connection: AsyncConnection, held: HeldLookBack, batch: Mapping[str, Any], image_ids: Sequence[int], rule: Rule,
    seen: int,
) -> dict[str, int]:  # fmt: skip
    """Counts what the members of a batch match anew among images that are about to be judged.

    Args:
        held: as it was before the step: ``cursor["member"]`` is the last member before the batch.
        batch: of the cursor.
        image_ids: a step's; their links and findings are stored.
        seen: images that have been searched, with those of this step.
    Returns:
        Member id -> images matched so far, for the cursor.
    Raises:
        TooManyMatches: the rule calls for quarantine.
    """
    counts = dict(batch.get("matched", {}))
    if not rule.floor:
        return counts
    for member, more in (await _anew(connection, held, batch["through"], image_ids)).items():
        counts[str(member)] = counts.get(str(member), 0) + more
    suspects = [
        Suspect(int(member), held.bank_id or 0, f"it matched {matched} of {seen} past images that a look-back searched")
        for member, matched in counts.items()
        if rule.is_sudden(matched, seen, 0, 0.0)
    ]
    if suspects:
        raise TooManyMatches(suspects)
    return counts


async def _anew(
    connection: AsyncConnection, held: HeldLookBack, last: int, image_ids: Sequence[int]
) -> dict[int, int]:  # fmt: skip
    near = {
        image_id: {match.member for match in facts.matches if match.relation != "exact"}
        for image_id, facts in (await facts_of(connection, image_ids)).items()
    }
    members = sorted({member for one in near.values() for member in one})
    arguments = {"bank": held.bank_id, "first": held.cursor["member"], "last": last, "ids": members}
    wanted = set((await connection.execute(_WATCHED, arguments)).scalars()) if members else set()
    if not wanted:
        return {}
    before = {row.image_id: row for row in (await connection.execute(_BEFORE, {"ids": sorted(near)})).all()}
    first = set((await connection.execute(_FIRST, {"ids": sorted(near)})).scalars())
    counts: dict[int, int] = {}
    for image_id in first:
        row = before.get(image_id)
        if row is None or not row.human:
            for member in near.get(image_id, set()) & wanted - set(row.members or [] if row else []):
                counts[member] = counts.get(member, 0) + 1
    return counts
