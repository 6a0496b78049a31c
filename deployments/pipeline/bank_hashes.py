"""The PDQ members of all banks in memory, and pictures compared with them. Knows nothing of Ray."""

import asyncio
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from sqlalchemy.ext.asyncio import AsyncEngine

from deployments.similarity.hash_index import HashIndex
from storage import bank_hashes
from storage.bank_changes import Compared, hashes_version

_log = logging.getLogger(__name__)
_COUNT_EVERY_S = 60.0
"""Seconds between two looks at how many members have gone: that reads all of them."""


class Hashed(Protocol):
    """A picture with its PDQ hashes, such as a ``Look``."""

    @property
    def pdq(self) -> NDArray[np.uint8]:
        """uint8[8, 32], one hash for each orientation."""

    @property
    def pdq_quality(self) -> int:
        """0 to 100."""


@dataclass(frozen=True)
class HeldHashes:
    """The members as they stood at a version.

    Args:
        version: see ``storage.bank_changes``.
        index: their hashes, each with its bank's distance.
        banks: int64[n], the bank of each.
        distances: of each bank by id, in bits.
    """

    version: int = -1
    index: HashIndex = field(default_factory=HashIndex.empty)
    banks: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    distances: dict[int, int] = field(default_factory=dict)


class BankHashes:
    """Reads what was added since it last looked, whenever the version has changed.

    Members that are gone are kept until they are many: ``storage.finishing`` leaves findings of them out.

    Args:
        engine: where banks are kept.
        count_every_s: seconds between two looks at how many members have gone.
    """

    def __init__(self, engine: AsyncEngine, *, count_every_s: float = _COUNT_EVERY_S) -> None:
        self._engine, self._count_every_s = engine, count_every_s
        self._held = HeldHashes()
        self._counted_at = time.monotonic()
        self._lock = asyncio.Lock()

    async def current(self) -> HeldHashes:
        """The members as they stand now, or changed since."""
        async with self._lock:
            # The version first: what is read after it is as new, or newer, and then whoever stores is told.
            version = await hashes_version(self._engine)
            if version != self._held.version:
                self._held = await self._read(version)
            return self._held

    async def _read(self, version: int) -> HeldHashes:
        held, began = self._held, time.monotonic()
        if began - self._counted_at > self._count_every_s:
            self._counted_at = began
            if len(held.index) > await bank_hashes.count(self._engine) * 1.02 + 100:
                held = HeldHashes()
        after = int(held.index.ids[-1]) if len(held.index) else 0
        parts = [part async for part in bank_hashes.pages(self._engine, after=after)]
        distances = await bank_hashes.distances(self._engine)  # after the members, so that their banks are there
        made = await asyncio.to_thread(_with, held, version, parts, distances)
        added = sum(len(part.ids) for part in parts)
        if added > 1000:
            _log.info("%d PDQ members of banks were read in %.1f s", added, time.monotonic() - began)
        return made

    async def near(self, looks: Sequence[tuple[int, Hashed]], *, min_quality: int) -> Compared:
        """Members near each of some pictures.

        Args:
            looks: pictures by id with what was seen in each.
            min_quality: pictures of a lower PDQ quality are near none: they have too little structure.
        Returns:
            The version of the members, and for each picture that is near one member id -> distance in bits.
        """
        held = await self.current()
        if not len(held.index):
            return held.version, {}

        def compare() -> dict[int, dict[int, int]]:
            found = {one: held.index.search(seen.pdq) for one, seen in looks if seen.pdq_quality >= min_quality}
            return {one: members for one, members in found.items() if members}

        return held.version, await asyncio.to_thread(compare)


def _with(
    held: HeldHashes, version: int, parts: Sequence[bank_hashes.MemberHashes], distances: dict[int, int]
) -> HeldHashes:
    """What was held with what was added, at the banks' present distances. Blocking."""
    index = held.index
    changed = {bank for bank, bits in distances.items() if held.distances.get(bank) != bits}
    if changed and np.isin(held.banks, list(changed)).any():
        index = index.with_limits(_limits(held.banks, held.distances | distances))
    if not parts:
        return HeldHashes(version, index, held.banks, distances)
    banks = np.concatenate([part.banks for part in parts])
    index = index.extended(
        np.concatenate([part.hashes for part in parts]),
        np.concatenate([part.ids for part in parts]),
        _limits(banks, distances),
    )
    return HeldHashes(version, index, np.concatenate([held.banks, banks]), distances)


def _limits(banks: NDArray[np.int64], distances: dict[int, int]) -> NDArray[np.int16]:
    known, places = np.unique(banks, return_inverse=True)
    return np.asarray([distances.get(int(bank), -1) for bank in known], np.int16)[places]  # -1: the bank is gone
