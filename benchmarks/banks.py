"""What banks cost: comparing a picture with their hashes and images, against all else that is done with it; an import.

    python -m benchmarks.banks PHOTOS [--hashes 1000 100000 1000000] [--images 1000 10000] [--import 100000]

CPU milliseconds of one thread a picture, in this process; hashes and vectors are random, the pictures are those of PHOTOS.
In how many banks the members are changes nothing: a bank gives its hashes their distance. The import goes into embedded
servers in a folder of their own (removed afterwards).
"""

import argparse
import asyncio
import io
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.accuracy.dataset import encoded, read_pictures
from benchmarks.bulk_writes import REGIONS
from benchmarks.local import LocalCascade
from benchmarks.servers import own_servers
from configs.models import ModelSpec, load_models
from configs.settings import Settings
from deployments.pipeline.bank_hashes import BankHashes
from deployments.pipeline.look import Look
from deployments.pipeline.matching import candidates_query
from deployments.similarity.hash_index import HashIndex
from deployments.similarity.index import Ask, ExactIndex, Ids
from deployments.similarity.replicas import spaces_of_model
from storage import banks
from storage.bank_import import import_list
from storage.bank_rules import PDQ_DISTANCE
from storage.banks import NewBank
from storage.database import create_engine
from storage.vector_rows import VectorRows

STORED = 10_000
"""Pictures; their tables are searched in memory (the setting ``exact_search_rows``)."""


def milliseconds(work: Callable[[int], object], times: int) -> float:
    """CPU milliseconds of one call; the first one is not counted."""
    work(0)
    began = time.process_time()
    for number in range(times):
        work(number)
    return 1000 * (time.process_time() - began) / times


def with_hashes(looks: Sequence[Look], count: int) -> tuple[float, float]:
    """Seconds to make the index of so many hashes, CPU milliseconds to compare a picture with them."""
    hashes = np.random.default_rng(count).integers(0, 256, (count, 32), np.uint8)
    limits = np.full(count, PDQ_DISTANCE, np.int16)
    began = time.process_time()
    index = HashIndex(hashes, np.arange(count), limits)
    made = time.process_time() - began
    return made, milliseconds(lambda number: index.search(looks[number % len(looks)].pdq), max(20, len(looks)))


def made_up(model: ModelSpec, count: int) -> dict[str, ExactIndex]:
    """The vectors of so many images, in each table."""
    rng = np.random.default_rng(count)
    indexes = {}
    for space in spaces_of_model(model):
        each = next(rows for kind, rows in REGIONS.items() if space.name.startswith(kind))
        total = count * each
        if space.binary:
            vectors = rng.integers(0, 256, (total, space.dim), np.uint8)
        else:
            vectors = rng.standard_normal((total, space.dim), np.float32)
            vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        boxes = np.tile(np.asarray([[0, 0, 1, 1]], np.float32), (total, 1))
        regions = np.tile(np.arange(each, dtype=np.int16), count)
        indexes[space.name] = ExactIndex(space)
        indexes[space.name].extend(VectorRows(np.repeat(np.arange(count), each), regions, boxes, vectors))
    return indexes


def search_ms(model: ModelSpec, looks: Sequence[Look], indexes: dict[str, ExactIndex], members: Ids | None) -> float:
    """CPU milliseconds to search a picture, and the images that are members besides."""
    queries = [candidates_query(model, look, exclude=None) for look in looks]

    def search(number: int) -> None:
        query = queries[number % len(queries)]
        for name, vectors in query.vectors.items():
            indexes[name].search_many([Ask(vectors, query.k, query.min_scores[name], images=members)])

    return milliseconds(search, max(20, len(queries)))


async def imported(settings: Settings, count: int) -> dict[str, float]:
    """Seconds of an import of so many hashes, of the first reading of them, and of that after one more."""
    engine = create_engine(settings, pool_size=4)
    hashes = np.random.default_rng(9).integers(0, 256, (count + 1, 32), np.uint8)
    lines = [one.tobytes().hex() for one in hashes]
    seconds: dict[str, float] = {}

    async def clocked(name: str, some: Sequence[str] | None = None) -> None:
        began = time.perf_counter()
        if some is None:
            await held.current()
        else:
            file = io.BytesIO(("pdq,note\n" + "".join(f"{one},made up\n" for one in some)).encode())
            await import_list(engine, bank, file, source="benchmark", actor="benchmark")
        seconds[name] = time.perf_counter() - began

    bank = (await banks.create(engine, NewBank("benchmark", "unacceptable"), actor="benchmark")).id
    held = BankHashes(engine)
    await clocked("import", lines[:count])
    await clocked("read all")
    await clocked("import one more", lines[count:])
    await clocked("read that")
    assert len((await held.current()).index) == count + 1
    await engine.dispose()
    return seconds


def with_servers(count: int) -> dict[str, float]:
    """Starts servers, measures an import, removes them."""
    with own_servers() as settings:
        return asyncio.run(imported(settings, count))


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path)
    parser.add_argument("--hashes", type=int, nargs="*", default=[1000, 100_000, 1_000_000])
    parser.add_argument("--images", type=int, nargs="*", default=[1000, 10_000])
    parser.add_argument("--import", dest="imported", type=int, default=100_000, help="hashes; 0: none")
    options = parser.parse_args()
    cv2.setNumThreads(1)
    settings = Settings(model_threads=1)
    registry = load_models(settings.models_file)
    model = registry[registry.default]
    cascade = LocalCascade(model, settings, judge=True)
    files = [encoded(picture) for _, picture in read_pictures(options.photos)[0]]
    looks = [one for one in cascade.look(files) if isinstance(one, Look)]
    cascade.add(list(enumerate(looks)))

    def processed(number: int) -> None:
        (look,) = cascade.look([files[number % len(files)]])
        assert isinstance(look, Look)
        cascade.candidates(look)

    plain = milliseconds(processed, len(files))
    console = Console(width=110, highlight=False)
    console.print(f"a picture looked at, searched and verified among {len(looks)}: {plain:.1f} ms of CPU")
    table = Table("members", "made in s", "ms a picture", "share of processing")
    for count in options.hashes:
        made, cost = with_hashes(looks, count)
        table.add_row(f"{count:,} PDQ hashes", f"{made:.2f}", f"{cost:.2f}", f"{cost / plain:.2%}")
    stored = made_up(model, STORED)
    alone = search_ms(model, looks, stored, None)
    for count in options.images:
        members = np.arange(0, STORED, max(1, STORED // count))
        cost = search_ms(model, looks, stored, members) - alone
        table.add_row(
            f"{len(members):,} images of {STORED:,}, held in memory", "", f"{cost:.2f}", f"{cost / plain:.2%}"
        )
    del stored
    for count in options.images:
        cost = search_ms(model, looks, made_up(model, count), None)
        table.add_row(f"{count:,} images, where tables are on S3", "", f"{cost:.2f}", f"{cost / plain:.2%}")
    console.print(table)
    if options.imported:
        seconds = with_servers(options.imported)
        rate = options.imported / seconds["import"]
        said = ", ".join(f"{name} {taken:.2f} s" for name, taken in seconds.items())
        console.print(f"{options.imported:,} hashes: {said} ({rate:.0f} hashes/s imported)")


if __name__ == "__main__":
    main()
