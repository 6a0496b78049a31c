"""References, distractors and queries from any folders of pictures and a seed."""

import hashlib
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from benchmarks.edits import EDITS
from benchmarks.edits.types import Picture

SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp"}
LEAST = 20
_LONG_SIDE = 512


@dataclass(frozen=True)
class Stored:
    """A picture that is searched in: a reference has queries, a distractor has none."""

    name: str
    data: bytes


@dataclass(frozen=True)
class Query:
    """An edited picture.

    Args:
        edit: its name in ``EDITS``.
        stored: number of the reference it was made from; None where its original is not stored.
        data: the file.
    """

    edit: str
    stored: int | None
    data: bytes


def encoded(picture: Picture) -> bytes:
    """The picture as a JPEG file of quality 90."""
    buffer = io.BytesIO()
    picture.convert("RGB").save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def read_pictures(folder: Path) -> tuple[list[tuple[str, Picture]], list[str]]:
    """The pictures of a folder in RGB with a long side of at most 512, by name, and the names of unreadable files.

    Raises:
        ValueError: the folder is missing.
    """
    if not folder.is_dir():
        raise ValueError(f"{folder} is not a folder")
    pictures, unreadable = [], []
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() not in SUFFIXES:
            continue
        try:
            with Image.open(path) as image:
                picture = image.convert("RGB")
        except (OSError, UnidentifiedImageError, ValueError, Image.DecompressionBombError):
            unreadable.append(path.name)
            continue
        picture.thumbnail((_LONG_SIDE, _LONG_SIDE))
        pictures.append((path.name, picture))
    return pictures, unreadable


@dataclass(frozen=True)
class Dataset:
    """Six of ten pictures are references, two of ten distractors, two of ten are not stored.

    Those that are not stored lend the backgrounds and styles of edits, and their own edits are the queries without a
    match: what an edit brings into a picture is never itself a stored picture.

    Args:
        repeats: names of pictures that equal an earlier one and are left out: a query must have one right answer.
    """

    stored: list[Stored]
    references: list[Picture]
    absent: list[Picture]
    seed: int
    per_edit: int
    repeats: list[str]

    @property
    def query_count(self) -> int:
        """Queries that ``queries`` makes."""
        return len(EDITS) * (min(self.per_edit, len(self.references)) + self.per_edit // 3)

    def queries(self) -> Iterator[Query]:
        """For each edit ``per_edit`` queries of references, and a third as many of pictures that are not stored."""
        for place, (name, edit) in enumerate(EDITS.items()):
            rng = np.random.default_rng([self.seed, place])
            count = min(self.per_edit, len(self.references))
            for number in rng.choice(len(self.references), count, replace=False):
                yield Query(name, int(number), encoded(edit(self.references[int(number)], rng, self.absent)))
            for number in rng.choice(len(self.absent), self.per_edit // 3):
                others = [one for other, one in enumerate(self.absent) if other != number]
                yield Query(name, None, encoded(edit(self.absent[int(number)], rng, others)))


def distinct(pictures: Sequence[tuple[str, Picture]], seen: set[bytes]) -> tuple[list[tuple[str, Picture]], list[str]]:
    """The first of each set of equal pictures, and the names of the others.

    Args:
        seen: digests of pictures that came before; grows.
    """
    kept, repeats = [], []
    for name, picture in pictures:
        key = hashlib.sha256(repr(picture.size).encode() + picture.tobytes()).digest()
        if key in seen:
            repeats.append(name)
        else:
            seen.add(key)
            kept.append((name, picture))
    return kept, repeats


def make_dataset(
    pictures: Sequence[tuple[str, Picture]], distractors: Sequence[tuple[str, Picture]], *, seed: int, per_edit: int
) -> Dataset:
    """Splits pictures by a seed.

    Args:
        pictures: names and pictures that references are drawn from.
        distractors: more pictures that are stored.
    Raises:
        ValueError: too few pictures that differ from each other.
    """
    seen: set[bytes] = set()
    pictures, repeats = distinct(pictures, seen)
    distractors, more_repeats = distinct(distractors, seen)
    if len(pictures) < LEAST:
        equal = f" ({len(repeats)} more equal others)" if repeats else ""
        raise ValueError(f"{len(pictures)} pictures are too few: {LEAST} at least{equal}")
    order = np.random.default_rng(seed).permutation(len(pictures))
    first, second = len(order) * 6 // 10, len(order) * 8 // 10
    stored = [pictures[int(number)] for number in order[:second]]
    return Dataset(
        [Stored(name, encoded(picture)) for name, picture in [*stored, *distractors]],
        [picture for _, picture in stored[:first]],
        [pictures[int(number)][1] for number in order[second:]],
        seed,
        per_edit,
        repeats + more_repeats,
    )
