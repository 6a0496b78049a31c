"""Measures what the thresholds of models.yaml let through and miss.

    python -m benchmarks.thresholds PHOTOS [LOOKALIKES] [--model safeguard-v1] [--seed 1]

Every photo gets one copy under each edit. For each threshold it prints how many copies are found by the descriptor of
the whole picture, and how many *pictures* have a false match among all other pictures (PHOTOS and LOOKALIKES): whole
against whole, and any region against anything. The last lines show PDQ and all methods together at the thresholds set.
"""

import argparse
import asyncio
import io
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks.edits import EVERYDAY
from benchmarks.local import LocalNetworks
from configs.models import ModelSpec, load_models
from configs.settings import Settings
from deployments.pipeline.look import Look, look
from deployments.vision.pdq import hamming

BATCH = 16


def see(networks: LocalNetworks, model: ModelSpec, pictures: list[bytes], what: str) -> list[Look]:
    """Looks at files as the pipeline does."""
    looks: list[Look] = []
    for start in track(range(0, len(pictures), BATCH), what):
        batch = pictures[start : start + BATCH]
        found = asyncio.run(look(networks, model, batch, max_pixels=10**8, long_side=1024))
        looks += [item for item in found if isinstance(item, Look)]
    return looks


def encoded(picture: Image.Image) -> bytes:
    """The picture as a JPEG file of quality 90."""
    buffer = io.BytesIO()
    picture.convert("RGB").save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def best_pairs(queries: list[Look], stored: list[Look]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """float32[q, s] scores: whole against whole, and the best of all other pairs of regions (-1 where there is none)."""
    owner = np.repeat(np.arange(len(stored)), [len(one.vectors) for one in stored])
    vectors = np.concatenate([one.vectors for one in stored])
    first = np.flatnonzero(np.diff(owner, prepend=-1))
    whole = np.empty((len(queries), len(stored)), np.float32)
    parts = np.full((len(queries), len(stored)), -1, np.float32)
    for place, query in enumerate(queries):
        scores = query.vectors @ vectors.T
        whole[place] = scores[0, first]
        scores[0, first] = -1
        parts[place] = np.maximum.reduceat(scores.max(axis=0), first)
    return whole, parts


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path)
    parser.add_argument("lookalikes", type=Path, nargs="?")
    parser.add_argument("--model", default="safeguard-v1")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    settings = Settings()
    model = load_models(settings.models_file)[options.model]
    networks = LocalNetworks(model, settings)
    files = sorted(path for path in options.photos.iterdir() if path.suffix.lower() in (".jpg", ".jpeg", ".png"))
    photos = [Image.open(path).convert("RGB") for path in files]
    others = sorted(options.lookalikes.iterdir()) if options.lookalikes else []
    stored = see(networks, model, [path.read_bytes() for path in [*files, *others]], "stored pictures")
    rng = np.random.default_rng(options.seed)
    names = list(EVERYDAY)
    queries = see(
        networks, model, [encoded(EVERYDAY[name](photo, rng, photos)) for photo in photos for name in names], "edits"
    )
    whole, parts = best_pairs(queries, stored)
    truth = np.repeat(np.arange(len(photos)), len(names))
    hit_whole, hit_part = whole[np.arange(len(truth)), truth], parts[np.arange(len(truth)), truth]
    false_whole, false_part = best_pairs(stored, stored)
    np.fill_diagonal(false_whole, -1)
    np.fill_diagonal(false_part, -1)

    console = Console(width=110)
    table = Table(title=f"{model.descriptor_name}: {len(photos)} photos × {len(names)} edits, {len(stored)} stored")
    for column in ("threshold", "copies found, whole", "… or region", "pictures with a false match, whole", "region"):
        table.add_column(column, justify="right")
    for threshold in np.arange(0.70, 1.0, 0.025):
        table.add_row(
            f"{threshold:.3f}",
            f"{np.mean(hit_whole >= threshold):.3f}",
            f"{np.mean(np.maximum(hit_whole, hit_part) >= threshold):.3f}",
            f"{np.mean(false_whole.max(axis=1) >= threshold):.4f}",
            f"{np.mean(false_part.max(axis=1) >= threshold):.4f}",
        )
    console.print(table)

    limits = model.thresholds
    upright = np.stack([one.pdq[0] for one in stored])
    distances = np.stack([hamming(one.pdq[:, None], upright[None]).min(axis=0) for one in queries])
    quality = np.asarray([one.pdq_quality for one in queries])
    by_pdq = (distances[np.arange(len(truth)), truth] <= limits.pdq_distance) & (quality >= limits.pdq_min_quality)
    by_whole, by_part = hit_whole >= limits.copy_score, hit_part >= limits.region_copy_score
    among = np.stack([hamming(one.pdq[:, None], upright[None]).min(axis=0) for one in stored])
    np.fill_diagonal(among, 256)
    false_pdq = (among.min(axis=1) <= limits.pdq_distance) & (
        np.asarray([one.pdq_quality for one in stored]) >= limits.pdq_min_quality
    )
    false_any = (
        (false_whole.max(axis=1) >= limits.copy_score)
        | (false_part.max(axis=1) >= limits.region_copy_score)
        | false_pdq
    )
    table = Table(title=f"copies found at the thresholds of {model.name}")
    for column in ("edit", "PDQ", "descriptor, whole", "descriptor, region", "all"):
        table.add_column(column, justify="left" if column == "edit" else "right")
    places = np.tile(np.arange(len(names)), len(photos))
    for name, chosen in [*((n, places == i) for i, n in enumerate(names)), ("all edits", places >= 0)]:
        found = [by_pdq, by_whole, by_part, by_pdq | by_whole | by_part]
        table.add_row(name, *(f"{np.mean(one[chosen]):.3f}" for one in found))
    table.add_row(
        "pictures with a false match",
        *(f"{np.mean(one):.4f}" for one in (
            false_pdq, false_whole.max(axis=1) >= limits.copy_score,
            false_part.max(axis=1) >= limits.region_copy_score, false_any,
        )),
    )  # fmt: skip
    console.print(table)

    unsafe = np.asarray([one.unsafe for one in stored if one.unsafe is not None])
    console.print(
        f"{model.filter_name} on {len(unsafe)} harmless pictures: median {np.median(unsafe):.4f}, for review "
        f"(from {limits.unsafe_review}) {np.sum(unsafe >= limits.unsafe_review)}, to be blocked "
        f"(from {limits.unsafe_block}) {np.sum(unsafe >= limits.unsafe_block)}"
    )


if __name__ == "__main__":
    main()
