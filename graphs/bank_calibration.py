"""Thresholds of one bank for a wanted precision: edited copies of its own pictures against strangers of the corpus."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.edits import EDITS
from benchmarks.edits.types import Picture
from benchmarks.local import LocalCascade
from configs.models import ModelSpec
from configs.settings import Settings
from deployments.pipeline.generations import live_spec
from deployments.pipeline.look import Look
from deployments.vision.decoding import decode
from deployments.vision.pdq import hamming, pdq_hashes
from graphs.banks import ACTOR, named
from graphs.calibration import LEAST, SLOW, Judged, distinct, judge, threshold_for
from graphs.opening import chosen_model, opened
from storage import bank_samples, banks
from storage.bank_rules import PDQ_DISTANCE
from storage.banks import BankState
from storage.errors import InvalidInput
from storage.objects import ObjectStore
from storage.tables import Relation

LEAST_STRANGERS = 10
"""Pictures of the corpus that resemble no member: without any there are no false matches to count."""
_LONG_SIDE = 512
_PDQ_BITS = 256


@dataclass(frozen=True)
class Measured:
    """Thresholds of a bank, and what was measured at them.

    Args:
        copy_score: least score of a copy.
        precision, recall: of copies, at it.
        pdq_distance: bits; never above what the authors of PDQ recommend, however few strangers were near.
        pdq_precision, pdq_recall: at it; precision is 1 where nothing was near at all.
        members, strangers: pictures that were of use.
        queries: edited and unedited pictures that were asked for.
    """

    copy_score: float
    precision: float
    recall: float
    pdq_distance: int
    pdq_precision: float
    pdq_recall: float
    members: int
    strangers: int
    queries: int


def measure(
    cascade: LocalCascade, members: Sequence[bytes], strangers: Sequence[bytes], *, precision: float, queries: int,
    seed: int, progress: Callable[[str], None],
) -> Measured:  # fmt: skip
    """Measures on files, without a database.

    Args:
        precision: wanted of matches with the bank, above 0.5.
        queries: edited pictures that are asked for.
    Raises:
        InvalidInput: too few pictures of use, or a precision that is not reached.
    """
    if not 0.5 <= precision <= 1.0:
        raise InvalidInput(f"the precision must be between 0.5 and 1, not {precision}")
    if len(members) < LEAST:
        raise InvalidInput(f"the bank has {len(members)} pictures that can be read: at least {LEAST} are needed")
    looks, pictures, own = [], [], 0
    files = [*members, *strangers]
    for start in range(0, len(files), 8):
        progress(f"pictures {start} of {len(files)}")
        for number, look in enumerate(cascade.look(files[start : start + 8]), start):
            if isinstance(look, Look):
                looks.append(look)
                pictures.append(Image.fromarray(decode(files[number], max_pixels=10**9, long_side=_LONG_SIDE).pixels))
                own += number < len(members)
    kept = distinct(cascade, looks)
    stored, absent = [one for one in kept if one < own], [one for one in kept if one >= own]
    if len(stored) < LEAST or len(absent) < LEAST_STRANGERS:
        raise InvalidInput(
            f"{len(stored)} of {len(members)} pictures of the bank and {len(absent)} of {len(strangers)} others can be"
            f" read, are not blank and differ from each other: at least {LEAST} and {LEAST_STRANGERS} are needed"
        )
    fresh = LocalCascade(cascade.model, cascade.settings)
    fresh.add([(number, looks[number]) for number in stored])
    judged = judge(fresh, pictures, stored, absent, queries=queries, seed=seed, progress=progress)
    score, reached, recall = threshold_for(judged, Relation.COPY, precision)
    distance, pdq_reached, pdq_recall = _pdq(pictures, looks, stored, absent, precision, queries, seed)
    return Measured(
        score, reached, recall, distance, pdq_reached, pdq_recall, len(stored), len(absent), len(judged)
    )  # fmt: skip


def _pdq(
    pictures: Sequence[Picture], looks: Sequence[Look], stored: Sequence[int], absent: Sequence[int], precision: float,
    queries: int, seed: int,
) -> tuple[int, float, float]:  # fmt: skip
    """The distance up to the recommended one at which hashes of the members have the precision, that and the recall."""
    hashes = np.stack([looks[number].pdq[0] for number in stored])
    rng = np.random.default_rng(seed)
    names = [name for name in EDITS if name not in SLOW]
    lenders = [pictures[number] for number in absent]
    judged = []

    def ask(picture: Picture, right: int | None) -> None:
        found, _ = pdq_hashes(np.asarray(picture.convert("RGB"), np.uint8))
        distances = hamming(found[:, None], hashes[None]).min(axis=0)
        near = [
            (number, 1.0 - int(bits) / _PDQ_BITS)
            for number, bits in zip(stored, distances, strict=True)
            if bits <= PDQ_DISTANCE
        ]
        judged.append(Judged(right, {"pdq": near}))

    for turn in range(queries):
        right = int(rng.choice(stored))
        ask(EDITS[names[turn % len(names)]](pictures[right], rng, lenders), right)
    for number in absent:
        ask(pictures[number], None)
    score, reached, recall = threshold_for(judged, "pdq", precision)
    # Nothing false was near: the threshold by which it would be shut out says nothing, the recommended one stands.
    return min(PDQ_DISTANCE, int((1.0 - score) * _PDQ_BITS)), reached, recall


async def _drawn(objects: ObjectStore, rows: Sequence[tuple[int, str]]) -> list[bytes]:
    files: list[bytes] = []
    for start in range(0, len(rows), 16):
        some = await asyncio.gather(
            *(objects.get(path) for _, path in rows[start : start + 16]), return_exceptions=True
        )
        files += [one for one in some if isinstance(one, bytes)]
    return files


def calibrate(
    home: Path | None, bank: str, model_name: str | None, *, precision: float, pictures: int, queries: int, seed: int,
    keep: bool, progress: Callable[[str], None],
) -> tuple[Measured, int | None]:  # fmt: skip
    """Measures a bank and, where wanted, sets its ``copy_score`` and ``pdq_distance``.

    Args:
        bank: name or id.
        pictures: of members, and of strangers, at most.
        keep: set what was measured.
    Returns:
        What was measured, and the look-back that applies it to past images, None where there is none.
    Raises:
        NotFound: there is no such bank.
        InvalidInput: an unknown model, too few pictures, or a precision that is not reached.
        Unavailable: the database or the object store does not answer.
    """

    async def draw() -> tuple[Settings, ModelSpec, BankState, list[bytes], list[bytes]]:
        async with opened(home) as (settings, engine):
            registry, name = chosen_model(settings, model_name)
            state, model = await named(engine, bank), await live_spec(engine, registry, name)
            inside = await bank_samples.member_pictures(engine, state.id, name, pictures)
            if len(inside) < LEAST:
                raise InvalidInput(
                    f"bank {state.bank.name!r} has {len(inside)} members that are images of {name}: at least {LEAST}"
                    " are needed to calibrate; until then the thresholds of the model hold"
                )
            outside = await bank_samples.strangers(engine, name, pictures)
            objects = ObjectStore(settings)
            try:
                return settings, model, state, await _drawn(objects, inside), await _drawn(objects, outside)
            finally:
                objects.close()

    async def change(state: BankState, found: Measured) -> int | None:
        async with opened(home) as (_, engine):
            wanted = {"copy_score": round(found.copy_score, 4), "pdq_distance": found.pdq_distance}
            return (await banks.change(engine, state.id, wanted, actor=ACTOR))[1]

    settings, model, state, members, others = asyncio.run(draw())
    cascade = LocalCascade(model, settings)
    found = measure(
        cascade, members, others, precision=precision, queries=queries, seed=seed, progress=progress
    )  # fmt: skip
    return found, asyncio.run(change(state, found)) if keep else None
