"""Calibration: thresholds for a wanted precision, measured on pictures of the user's own corpus. May use the benchmarks."""

import asyncio
import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from sqlalchemy.ext.asyncio import AsyncEngine

from benchmarks.edits import EDITS
from benchmarks.edits.types import Picture
from benchmarks.local import LocalCascade
from configs.models import ModelSpec, load_models
from configs.settings import default_home, load_settings
from deployments.pipeline.confidence import confidence
from deployments.pipeline.generations import live_spec
from deployments.pipeline.limits import networks_of
from deployments.pipeline.look import Look
from deployments.vision.decoding import decode
from storage import calibrations, images
from storage.database import create_engine, ping
from storage.errors import InvalidInput, SafeGuardError
from storage.objects import ObjectStore
from storage.tables import Calibration, Relation

LEAST = 40
"""Pictures that differ from each other: with fewer, one false match is a large share of all."""
SLOW = {"style_neural", "style_crop", "style_frame"}
"""Edits that may run a network of their own for a second each."""
_LONG_SIDE = 512
_STRANGER = 0.5
"""Of what is drawn, a picture that another resembles with this confidence is a copy in the corpus, not a false pair."""


@dataclass(frozen=True)
class Judged:
    """What the cascade said of one edited or unedited query.

    Args:
        right: number of the picture it was made from, None where that is not among the searched ones.
        answers: for each relation numbers and confidences.
    """

    right: int | None
    answers: dict[str, list[tuple[int, float]]]


def threshold_for(judged: Sequence[Judged], relation: str, precision: float) -> tuple[float, float, float]:
    """The lowest confidence at which the answers of all queries together have a precision.

    Args:
        judged: queries with and without a right answer.
        relation: whose confidences.
        precision: wanted, above 0 and at most 1.
    Returns:
        The threshold, the precision and the recall measured at it. The threshold lies half way to the best answer
        that it shuts out.
    Raises:
        InvalidInput: no threshold reaches it, or there is nothing to measure.
    """
    pairs = [(score, number == one.right) for one in judged for number, score in one.answers[relation]]
    wanted = sum(one.right is not None for one in judged)
    if not wanted or not any(right for _, right in pairs):
        raise InvalidInput("no edited picture found its original: there is nothing to calibrate with")
    pairs.sort(key=lambda pair: (-pair[0], pair[1]))
    scores = np.asarray([score for score, _ in pairs])
    hits = np.cumsum([right for _, right in pairs])
    precisions = hits / np.arange(1, len(pairs) + 1)
    last = np.append(scores[:-1] > scores[1:], True)  # a threshold cannot part equal scores
    enough = np.flatnonzero((precisions >= precision) & last)
    if not len(enough):
        best = float(precisions[last].max())
        raise InvalidInput(f"a precision of {precision} is not reached; the best is {best:.4f}: ask for less")
    place = int(enough[-1])
    below = float(scores[place + 1]) if place + 1 < len(scores) else 0.0
    threshold = (float(scores[place]) + below) / 2
    return threshold, float(precisions[place]), float(hits[place] / wanted)


def distinct(cascade: LocalCascade, looks: Sequence[Look]) -> list[int]:
    """Numbers of looks that no earlier one resembles, without blank ones; the cascade holds them afterwards."""
    kept: list[int] = []
    for number, look in enumerate(looks):
        if look.details is None or len(look.details.points) < 8:
            continue
        near = cascade.candidates(look)
        if any(confidence(one.scores, cascade.model.fusion) >= _STRANGER for one in near):
            continue
        cascade.add([(number, look)])
        kept.append(number)
    return kept


def judge(
    cascade: LocalCascade, pictures: Sequence[Picture], stored: Sequence[int], absent: Sequence[int], *, queries: int,
    seed: int, progress: Callable[[str], None],
) -> list[Judged]:  # fmt: skip
    """Asks for edited stored pictures, for edited absent ones, and for every stored picture among the others."""
    fusions = {Relation.COPY: cascade.model.copy_fusion, Relation.SEMANTIC: cascade.model.fusion}
    lenders = [pictures[number] for number in absent]
    names = [name for name in EDITS if name not in SLOW]
    rng = np.random.default_rng(seed)

    def ask(picture: Picture, right: int | None, exclude: int | None = None) -> None:
        buffer = io.BytesIO()
        picture.save(buffer, "JPEG", quality=90)
        (look,) = cascade.look([buffer.getvalue()])
        found = cascade.candidates(look, exclude=exclude) if isinstance(look, Look) else []
        answers = {
            str(relation): [(one.image_id, confidence(one.scores, fusion)) for one in found]
            for relation, fusion in fusions.items()
        }
        judged.append(Judged(right, answers))

    judged: list[Judged] = []
    for turn in range(queries):
        progress(f"edited pictures {turn + 1} of {queries}")
        edit = EDITS[names[turn % len(names)]]
        right = int(rng.choice(stored))
        ask(edit(pictures[right], rng, lenders), right)
        if turn % 3 == 0:
            ask(edit(pictures[int(rng.choice(absent))], rng, lenders), None)
    for turn, number in enumerate(stored):
        progress(f"nearest false pairs {turn + 1} of {len(stored)}")
        ask(pictures[number], None, exclude=number)
    return judged


def measure(
    cascade: LocalCascade, files: Sequence[bytes], *, precision: float, semantic_precision: float, queries: int,
    seed: int, progress: Callable[[str], None],
) -> tuple[list[Calibration], int]:  # fmt: skip
    """Calibrates on files, without a database.

    Returns:
        One calibration for each relation, not saved yet (their mode is for the caller), and how many files were of use.
    Raises:
        InvalidInput: too few files that can be read and differ, or a precision that is not reached.
    """
    for name, value in (("precision", precision), ("semantic precision", semantic_precision)):
        if not 0.5 <= value <= 1.0:
            raise InvalidInput(f"the {name} must be between 0.5 and 1, not {value}")
    if semantic_precision > precision:
        raise InvalidInput(f"the semantic precision, {semantic_precision}, is above that of copies, {precision}")
    looks, pictures = [], []
    for turn, (data, look) in enumerate(zip(files, _looks(cascade, files), strict=True)):
        progress(f"drawn pictures {turn + 1} of {len(files)}")
        if isinstance(look, Look):
            looks.append(look)
            pictures.append(Image.fromarray(decode(data, max_pixels=10**9, long_side=_LONG_SIDE).pixels))
    kept = distinct(cascade, looks)
    if len(kept) < LEAST:
        raise InvalidInput(
            f"of {len(files)} pictures {len(looks)} could be read and {len(kept)} differ from each other and are not "
            f"blank: at least {LEAST} are needed to calibrate"
        )
    share = len(kept) * 8 // 10
    fresh = LocalCascade(cascade.model, cascade.settings)
    fresh.add([(number, looks[number]) for number in kept[:share]])
    judged = judge(fresh, pictures, kept[:share], kept[share:], queries=queries, seed=seed, progress=progress)
    model = cascade.model
    rows = []
    for relation, wanted in ((Relation.COPY, precision), (Relation.SEMANTIC, semantic_precision)):
        threshold, reached, recall = threshold_for(judged, relation, wanted)
        rows.append(
            Calibration(
                model_name=model.name,
                networks=networks_of(model),
                relation=relation,
                mode=calibrations.ACTIVE,
                threshold=threshold,
                wanted_precision=wanted,
                precision=reached,
                recall=recall,
                pictures=len(kept),
                queries=len(judged),
            )
        )
    return rows, len(kept)


def _looks(cascade: LocalCascade, files: Sequence[bytes]) -> Iterator[Look | SafeGuardError]:
    for start in range(0, len(files), 8):
        yield from cascade.look(files[start : start + 8])


async def _drawn(engine: AsyncEngine, objects: ObjectStore, model: ModelSpec, count: int) -> list[bytes]:
    rows = await images.sample(engine, model.name, count)
    found = await asyncio.gather(*(objects.get(key) for _, key in rows), return_exceptions=True)
    return [data for data in found if isinstance(data, bytes)]


def calibrate(
    home: Path | None, model_name: str | None, *, mode: str, precision: float, semantic_precision: float, pictures: int,
    queries: int, seed: int, progress: Callable[[str], None],
) -> list[Calibration]:  # fmt: skip
    """Draws pictures from the corpus, measures the live descriptor, and keeps the thresholds with what they hold for.

    Args:
        mode: ``active`` decides from now on, ``shadow`` is only counted and logged.
        precision, semantic_precision: wanted, of copies and of semantic matches.
        pictures: drawn at most.
        queries: edited pictures that are asked for.
    Raises:
        InvalidInput: an unknown model, too few pictures, or a precision that is not reached.
        Unavailable: the database or the object store does not answer.
    """
    settings = load_settings(home or default_home())
    registry = load_models(settings.models_file)
    name = model_name or registry.default
    if name not in registry:
        raise InvalidInput(f"no model {name}; known are {', '.join(registry.known())}")
    objects = ObjectStore(settings)

    async def draw() -> tuple[ModelSpec, list[bytes]]:
        engine = create_engine(settings, pool_size=1)
        try:
            await ping(engine)
            model = await live_spec(engine, registry, name)
            return model, await _drawn(engine, objects, model, pictures)
        finally:
            await engine.dispose()

    async def keep(rows: Sequence[Calibration]) -> None:
        engine = create_engine(settings, pool_size=1)
        try:
            await calibrations.save(engine, rows)
        finally:
            await engine.dispose()

    try:
        model, files = asyncio.run(draw())
    finally:
        objects.close()
    rows, _ = measure(
        LocalCascade(model, settings), files, precision=precision, semantic_precision=semantic_precision,
        queries=queries, seed=seed, progress=progress,
    )  # fmt: skip
    for row in rows:
        row.mode = mode
    asyncio.run(keep(rows))
    return rows


def switch(home: Path | None, model_name: str | None, *, promote: bool) -> str:
    """Makes shadow thresholds the active ones, or goes back to those of models.yaml; says what was done.

    Raises:
        NotFound: there is no shadow calibration to promote.
    """
    settings = load_settings(home or default_home())
    name = model_name or load_models(settings.models_file).default

    async def act() -> str:
        engine = create_engine(settings, pool_size=1)
        try:
            await ping(engine)
            if promote:
                await calibrations.promote(engine, name)
                return f"the shadow thresholds of {name} are active now"
            return f"{await calibrations.reset(engine, name)} calibrations of {name} are past; models.yaml decides"
        finally:
            await engine.dispose()

    return asyncio.run(act())
