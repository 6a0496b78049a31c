"""What another policy would have decided on past images; nothing is changed. Below the deployments."""

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from configs.facts import Facts
from configs.policies import Policy
from storage.facts import facts_of

_PAGE = 500
_EXAMPLES = 5
"""Shown of each change: verdict before, verdict after, and the rule."""
_ALL_EXAMPLES = 100
# Ids are given out at the upload: a page that is older as a whole has only older ones behind it.
_NEXT = text("""
SELECT image.id, image.created_at, held.verdict, held.rule, held.human_id IS NOT NULL AS human
FROM image LEFT JOIN moderation held ON held.image_id = image.id
WHERE image.status = 'PROCESSED' AND image.uploaded_at IS NOT NULL AND image.id < :before
ORDER BY image.id DESC LIMIT :limit
""")


@dataclass(frozen=True)
class Example:
    """An image on which the verdict would be another one.

    Args:
        before: the verdict that holds; None: none yet.
        before_rule: that it rests on; None: none.
        verdict, rule, reason: what the policy says.
    """

    image_id: int
    before: str | None
    before_rule: str | None
    verdict: str
    rule: str | None
    reason: str


@dataclass
class Trial:
    """Counts of a trial.

    Args:
        images: that were judged.
        human: further ones that a person has decided on; no policy changes them.
        verdicts: (verdict that holds, verdict of the policy) -> images.
        decided: rule -> images on which it would decide; None: those on which no rule is true.
        fired: rule -> images of which it is true.
        examples: images that would change, newest first; some of each kind of change.
    """

    images: int = 0
    human: int = 0
    verdicts: Counter[tuple[str | None, str]] = field(default_factory=Counter)
    decided: Counter[str | None] = field(default_factory=Counter)
    fired: Counter[str] = field(default_factory=Counter)
    examples: list[Example] = field(default_factory=list)

    @property
    def changed(self) -> int:
        """Images whose verdict would be another one."""
        return sum(count for (before, after), count in self.verdicts.items() if before != after)


async def trial(
    engine: AsyncEngine,
    policy: Policy,
    *,
    last: int,
    since: datetime | None = None,
    seen: Callable[[Trial], Any] = lambda _: None,
) -> Trial:
    """Judges what is stored of past images now, newest first, in pages.

    Args:
        last: images at most; those that a person has decided on count.
        since: uploaded then or later.
        seen: is told how far it is after each page.
    """
    found, before, left = Trial(), 2**63 - 1, last
    shown: Counter[tuple[str | None, str, str | None]] = Counter()
    while left > 0:
        async with engine.connect() as connection:
            page = (await connection.execute(_NEXT, {"before": before, "limit": min(left, _PAGE)})).all()
            rows = [row for row in page if since is None or row.created_at >= since]
            facts = await facts_of(connection, [row.id for row in rows if not row.human])
        if not rows:
            return found
        left, before = left - len(page), page[-1].id
        await asyncio.to_thread(_judge, policy, rows, facts, found, shown)
        seen(found)
    return found


def _judge(policy: Policy, rows: Sequence[Any], facts: dict[int, Facts], found: Trial, shown: Counter[Any]) -> None:
    for row in rows:
        if row.human:
            found.human += 1
        elif row.id in facts:
            said = policy.judge(facts[row.id])
            found.images += 1
            found.verdicts[row.verdict, said.verdict.value] += 1
            found.decided[said.rule] += 1
            found.fired.update(said.fired)
            kind = (row.verdict, said.verdict.value, said.rule)
            if row.verdict != said.verdict and shown[kind] < _EXAMPLES and len(found.examples) < _ALL_EXAMPLES:
                shown[kind] += 1
                found.examples.append(
                    Example(row.id, row.verdict, row.rule, said.verdict.value, said.rule, said.reason)
                )
