"""One step of a look-back after the other: what to do next stands in its cursor. Knows nothing of Ray."""

import logging
import time
from dataclasses import replace
from typing import Any

from deployments.pipeline.lookback_hashes import HashSearch
from deployments.pipeline.lookback_search import MemberSearch, Skipped, Within
from deployments.pipeline.processor import Processor
from storage import lookback_steps, quarantine
from storage.lookback_claims import HeldLookBack
from storage.lookback_members import (
    BankTerms,
    Member,
    bank_terms,
    count_members,
    last_image,
    members_after,
    range_end,
)
from storage.lookback_steps import Found, Pace
from storage.lookback_tables import LookBackKind
from storage.lookback_watch import TooManyMatches
from storage.quarantine import Rule

_log = logging.getLogger(__name__)
SPAN = 10_000
"""Images that are searched in a step, so that uploads never wait long for one."""
_LEAST_SPAN = 1
"""Hits are vectors, of which a picture has several: only a single one has never as many as a search gives."""
_BATCH = 64
"""Hashes that are searched for together, and removed members whose images are judged together."""


class LookBackWorker:
    """Does the next step of a look-back. What a step finds is stored with the cursor's move, or not at all.

    Args:
        processor: looks, searches and compares as it does for uploads.
        span: images that are searched in a step.
    """

    def __init__(self, processor: Processor, *, span: int = SPAN) -> None:
        self._processor, self._engine = processor, processor.engine
        self._members, self._hashes = MemberSearch(processor), HashSearch(processor)
        self._span = span
        self._rule = Rule.of(processor.settings)
        self._versions: dict[str, int] | None = None

    def begin(self) -> None:
        """To be called after a claim: vectors that are searched from now on hold all that was written before it."""
        self._versions = None

    async def step(self, held: HeldLookBack) -> HeldLookBack | None:
        """Does one step and stores it.

        Returns:
            The look-back after it; None where that was the last.
        Raises:
            StaleClaim: the lease is lost; nothing was stored.
            Unavailable: a part of the platform does not answer.
        """
        began = time.monotonic()

        def pace() -> Pace:
            return Pace(self._processor.settings.lease_s, time.monotonic() - began)

        if "end" not in held.cursor:
            return await self._place(held, pace())
        if held.kind == LookBackKind.JUDGE:
            after = await lookback_steps.judge_page(self._engine, held, pace())
        elif "batch" not in held.cursor:
            after = await self._batch(held, pace())
        else:
            try:
                after = await self._work(held, pace)
            except TooManyMatches as error:
                await self._quarantine(held, error)
                return held  # the same step, without these members
        if after is None:
            await lookback_steps.finish(self._engine, held)
        return after

    async def _quarantine(self, held: HeldLookBack, error: TooManyMatches) -> None:
        for one in error.suspects:
            async with self._engine.begin() as connection:
                if await quarantine.put(connection, one):
                    _log.warning("look-back %d put member %d into quarantine: %s", held.id, one.member, one.reason)

    async def _place(self, held: HeldLookBack, pace: Pace) -> HeldLookBack:
        """The first place: images with later ids than those of now are decided with the change when they are finished."""
        cursor: dict[str, Any] = {"end": await last_image(self._engine), "after": 0}
        members = None
        if held.kind != LookBackKind.JUDGE:
            terms = await bank_terms(self._engine, held.bank_id or 0)
            cursor = {"end": cursor["end"], "member": (held.first_member or 1) - 1}
            if held.kind == LookBackKind.BANK and terms is not None and terms.gone:
                cursor["bank_gone"] = terms.gone  # its row goes when all of its members have been taken back
            members = await count_members(self._engine, held, cursor["member"])
        return await lookback_steps.begin_batch(self._engine, held, cursor, pace, members=members)

    async def _batch(self, held: HeldLookBack, pace: Pace) -> HeldLookBack | None:
        """A picture that is searched for alone, or hashes and removed members together; None after the last."""
        members = await members_after(self._engine, held, held.cursor["member"], most=_BATCH)
        if not members:
            return None
        alone = [_picture(one) for one in members]
        together = members[:1] if alone[0] else members[: alone.index(True) if True in alone else None]
        batch = {
            "through": together[-1].id,
            "phase": "search" if any(_searched(one) for one in together) else "touch",
            "after": 0,
            "span": self._span,
            "gone": {str(one.id): one.gone for one in together if one.gone},
            "searched": 0,
            "matched": {},
        }
        return await lookback_steps.begin_batch(self._engine, held, {**held.cursor, "batch": batch}, pace, members=None)

    async def _work(self, held: HeldLookBack, pace: Any) -> HeldLookBack:
        batch = held.cursor["batch"]
        members = await members_after(self._engine, held, held.cursor["member"], last=batch["through"])
        terms = await bank_terms(self._engine, held.bank_id or 0)
        if batch["phase"] == "touch" or terms is None:
            return await lookback_steps.touch(self._engine, held, pace(), self._rule, batch_members=len(members))
        reach = await range_end(self._engine, batch["after"], held.cursor["end"], batch["span"])
        wanted = [one for one in members if _searched(one)]
        if reach is None or not wanted:
            return await self._touched_next(held, pace())
        bound, images = reach
        try:
            found, more = await self._search(wanted, terms, (batch["after"], bound))
        except Skipped as why:
            return await self._touched_next(held, pace(), Found(skips=[str(why)]))
        seen = batch.get("searched", 0) + images
        if more and batch["span"] > _LEAST_SPAN:
            # What was found is stored already; the same range is searched again in smaller parts.
            moved = {**batch, "span": max(_LEAST_SPAN, batch["span"] // 8)}
        else:
            moved = {**batch, "after": bound, "span": min(self._span, 2 * batch["span"]), "searched": seen}
        return await self._store(held, {**held.cursor, "batch": moved}, pace(), replace(found, seen=seen))

    async def _store(self, held: HeldLookBack, cursor: dict[str, Any], pace: Pace, found: Found) -> HeldLookBack:
        return await lookback_steps.store_found(self._engine, held, cursor, pace, found, self._rule)

    async def _touched_next(self, held: HeldLookBack, pace: Pace, found: Found | None = None) -> HeldLookBack:
        batch = {**held.cursor["batch"], "phase": "touch", "after": 0}
        cursor = {**held.cursor, "batch": batch}
        return await self._store(held, cursor, pace, found or Found())

    async def _search(self, members: list[Member], terms: BankTerms, within: Within) -> tuple[Found, bool]:
        if self._versions is None:
            self._versions = await self._processor.index.add({}, [])  # writes nothing, says where the tables stand
        if members[0].image_id is not None:
            return await self._members.search(members[0], terms.relations, within, self._versions)
        return await self._hashes.search(members, terms.pdq_distance, within, self._versions)


def _picture(member: Member) -> bool:
    return member.image_id is not None and member.in_force


def _searched(member: Member) -> bool:
    """SHA-256 members are not searched for: the index of the table finds the same bytes."""
    return member.in_force and (member.image_id is not None or member.pdq is not None)
