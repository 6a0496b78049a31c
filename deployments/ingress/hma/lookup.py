"""Which members of banks a hash is near: hashes held here, and stored images through the readers. Knows no route."""

import asyncio
from collections.abc import Callable, Set
from dataclasses import dataclass

import numpy as np
from sqlalchemy.ext.asyncio import AsyncEngine

from configs.facts import BankKind
from deployments.ingress.context import Platform
from deployments.ingress.hma.signals import PDQ
from deployments.pipeline.bank_hashes import BankHashes
from storage import image_members, member_matches
from storage.member_matches import ShownMember
from storage.tables import Relation

MOST = 1000
"""The nearest members that are shown."""
_PAGE = 5000
"""Members read from the database at a time."""
_MOST_IMAGES = 100_000
"""Stored images that are looked at, wanted or not: a limit for what one lookup may cost."""


@dataclass(frozen=True)
class Near:
    """A member within its bank's distance, in bits."""

    member: ShownMember
    distance: int


@dataclass(frozen=True)
class Matcher:
    """What a lookup uses.

    Args:
        hashes: the PDQ members of banks.
        platform: finds those that are stored images.
    """

    engine: AsyncEngine
    hashes: BankHashes
    platform: Platform

    async def near(
        self, signal_type: str, signal: bytes, banks: Set[str] | None, counts: Callable[[ShownMember], bool]
    ) -> list[Near]:
        """The ``MOST`` nearest of the members that a hash is near and that are wanted, the nearest first.

        Args:
            signal: 32 bytes.
            banks: only of these; None is all but those of allowed pictures: who asks takes every match for a bad one.
            counts: which members are wanted besides.
        """
        relation = Relation.COPY if signal_type == PDQ else Relation.EXACT

        def wanted(one: Near) -> bool:
            member = one.member
            ours = member.bank in banks if banks is not None else member.kind != BankKind.ALLOWED
            within = relation == Relation.EXACT or one.distance <= member.pdq_distance
            return ours and within and relation in member.relations and counts(member)

        if signal_type == PDQ:
            parts = await asyncio.gather(self._near_hashes(signal, wanted), self._near_images(signal, wanted))
            found = [one for part in parts for one in part]
        else:
            same = [Near(one, 0) for one in await member_matches.by_bytes(self.engine, signal)]
            found = [one for one in same if wanted(one)]
        return sorted(found, key=lambda one: (one.distance, one.member.id))[:MOST]

    async def _near_hashes(self, signal: bytes, wanted: Callable[[Near], bool]) -> list[Near]:
        held = await self.hashes.current()
        near = await asyncio.to_thread(held.index.search, np.frombuffer(signal, np.uint8)[None])
        ids = sorted(near, key=lambda one: (near[one], one))
        found: list[Near] = []
        while ids and len(found) < MOST:
            some, ids = ids[:_PAGE], ids[_PAGE:]
            members = [Near(one, near[one.id]) for one in await member_matches.by_ids(self.engine, some)]
            found += [one for one in members if wanted(one)]
        return found

    async def _near_images(self, signal: bytes, wanted: Callable[[Near], bool]) -> list[Near]:
        newest, k = await image_members.newest(self.engine), MOST
        while newest:
            near = await self.platform.near_members(signal, newest, k)
            members = await member_matches.by_images(self.engine, list(near))
            shown = [Near(one, near[one.image_id]) for one in members if one.image_id is not None]
            found = [one for one in shown if wanted(one)]
            if len(near) < k or len(found) >= MOST or k >= _MOST_IMAGES:
                return found
            k *= 10  # the nearest are of other banks: further ones may be wanted
        return []
