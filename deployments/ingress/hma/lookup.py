"""Which members of banks a hash is near: hashes held here, and stored images through the readers. Knows no route."""

import asyncio
from collections.abc import Set
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
"""The nearest members of a kind that are shown."""


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

    async def near(self, signal_type: str, signal: bytes, banks: Set[str] | None) -> list[Near]:
        """Members that a hash is near, the nearest first.

        Args:
            signal: 32 bytes.
            banks: only of these; None is all but those of allowed pictures: who asks takes every match for a bad one.
        """
        if signal_type == PDQ:
            found, relation = await self._near_pdq(signal), Relation.COPY
        else:
            found = [Near(one, 0) for one in await member_matches.by_bytes(self.engine, signal)]
            relation = Relation.EXACT
        wanted = [
            one
            for one in found
            if relation in one.member.relations
            and (one.member.bank in banks if banks is not None else one.member.kind != BankKind.ALLOWED)
        ]
        return sorted(wanted, key=lambda one: (one.distance, one.member.id))

    async def _near_pdq(self, signal: bytes) -> list[Near]:
        query = np.frombuffer(signal, np.uint8)[None]
        held, newest = await asyncio.gather(self.hashes.current(), image_members.newest(self.engine))
        hashes = _nearest(await asyncio.to_thread(held.index.search, query))
        images = _nearest(await self.platform.near_members(signal, newest) if newest else {})
        members = await member_matches.by_ids(self.engine, list(hashes))
        stored = await member_matches.by_images(self.engine, list(images))
        found = [Near(one, hashes[one.id]) for one in members]
        found += [Near(one, images[one.image_id]) for one in stored if one.image_id is not None]
        return [one for one in found if one.distance <= one.member.pdq_distance]


def _nearest(found: dict[int, int]) -> dict[int, int]:
    return dict(sorted(found.items(), key=lambda one: (one[1], one[0]))[:MOST])
