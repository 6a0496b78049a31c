"""Measures how well copies are found under every edit, by the running service and by others.

    python -m benchmarks.accuracy PHOTOS [--distractors FOLDER ...] [--seed 1] [--per-edit 20] [--systems pdq,…,service]

From PHOTOS and the seed it makes references, distractors, edited queries and queries without a match; prints µAP,
recall@1, recall at 90 % and 99 % precision and recall@1 by edit; writes accuracy.json, answers.jsonl, accuracy.png and
failures.png into --out. The system ``service`` brings up a service of its own in a folder that is removed afterwards.
"""

import argparse
import sys
import time
from pathlib import Path

from rich.console import Console
from rich.progress import track

from benchmarks.accuracy.dataset import Dataset, Query, make_dataset, read_pictures
from benchmarks.accuracy.report import Result, evaluate, failures, plot, save, tables
from benchmarks.accuracy.systems import System, build
from configs.settings import Settings
from storage.errors import SafeGuardError

DEFAULT_SYSTEMS = "phash,pdq,pdq8,descriptor,service"
CHUNK = 40
NAMED = 20


def listed(names: list[str]) -> str:
    """Names of files, not more than fit."""
    rest = len(names) - NAMED
    return ", ".join(names[:NAMED]) + (f" and {rest} more" if rest > 0 else "")


def measured(system: System, data: Dataset, queries: list[Query], console: Console) -> Result:
    """Stores, asks, and prints the times."""
    with system:
        began = time.monotonic()
        with console.status(f"{system.name}: taking {len(data.stored)} pictures in"):
            system.add(data.stored)
        stored_s = time.monotonic() - began
        began = time.monotonic()
        answers = []
        for start in track(range(0, len(queries), CHUNK), system.name, console=console):
            answers += system.ask(queries[start : start + CHUNK])
        asked_s = time.monotonic() - began
    console.print(
        f"{system.name}: {1000 * stored_s / len(data.stored):.0f} ms a stored picture, "
        f"{1000 * asked_s / len(queries):.0f} ms a query"
    )
    return evaluate(system.name, system.threshold, queries, answers)


def main() -> None:
    """Reads the options, measures, prints and writes."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.accuracy", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("photos", type=Path)
    parser.add_argument("--distractors", type=Path, nargs="*", default=[], help="folders of more stored pictures")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--per-edit", type=int, default=20, help="queries of each edit")
    parser.add_argument("--systems", default=DEFAULT_SYSTEMS, help="the last one is the one whose failures are shown")
    parser.add_argument("--out", type=Path, default=Path("accuracy"))
    parser.add_argument("--fastdup-python", type=Path, help="interpreter of an environment that has fastdup")
    options = parser.parse_args()
    if options.per_edit < 3:
        parser.error("--per-edit must be at least 3")
    console = Console(width=130)
    settings = Settings()
    names = [name.strip() for name in options.systems.split(",")]
    try:
        for name in names:  # what is missing is said now, not after an hour
            build(name, settings, fastdup_python=options.fastdup_python)
        pictures, unreadable = read_pictures(options.photos)
        more = []
        for folder in options.distractors:
            read, bad = read_pictures(folder)
            more += read
            unreadable += bad
        if unreadable:
            console.print(f"{len(unreadable)} files cannot be read and are left out: {listed(unreadable)}")
        data = make_dataset(pictures, more, seed=options.seed, per_edit=options.per_edit)
    except (ValueError, SafeGuardError) as error:
        sys.exit(str(error))
    if data.repeats:
        console.print(f"{len(data.repeats)} pictures equal another and are left out: {listed(data.repeats)}")
    queries = list(track(data.queries(), "making queries", total=data.query_count, console=console))
    # Built one after another, so that the networks of one are gone when the next comes.
    results = []
    for name in names:
        try:
            system = build(name, settings, fastdup_python=options.fastdup_python)
            results.append(measured(system, data, queries, console))
        except SafeGuardError as error:  # a service that does not come up
            sys.exit(f"{name}: {error}")
        del system
    with_match = sum(query.stored is not None for query in queries)
    title = (
        f"{len(data.references)} references and {len(data.stored) - len(data.references)} distractors stored; "
        f"{with_match} queries with a match, {len(queries) - with_match} without; seed {options.seed}"
    )
    for table in tables(results, title):
        console.print(table)
    options.out.mkdir(parents=True, exist_ok=True)
    save(results, queries, data.stored, title, options.out)
    plot(results, options.out / "accuracy.png")
    missed = failures(results[-1], queries, data.stored, options.out / "failures.png")
    console.print(f"{missed} queries are not answered right by {results[-1].system}; see {options.out}/failures.png")


if __name__ == "__main__":
    main()
