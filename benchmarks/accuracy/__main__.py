"""Measures how well copies are found under every edit, by the running service and by others.

    python -m benchmarks.accuracy PHOTOS [--distractors FOLDER ...] [--seed 1] [--per-edit 20] [--systems pdq,…,service]

From PHOTOS and the seed it makes references, distractors, edited queries and queries without a match; prints µAP,
recall@1, recall at 90 % and 99 % precision and recall@1 by edit; writes accuracy.json, accuracy.png and failures.png
into --out. The system ``service`` brings up a service of its own in a folder that is removed afterwards.
"""

import argparse
import json
import sys
import time
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.progress import track

from benchmarks.accuracy.dataset import make_dataset, read_pictures
from benchmarks.accuracy.report import Result, evaluate, failures, plot, tables
from benchmarks.accuracy.systems import build
from configs.settings import Settings

DEFAULT_SYSTEMS = "phash,pdq,pdq8,descriptor,service"
CHUNK = 40


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
    options = parser.parse_args()
    if options.per_edit < 3:
        parser.error("--per-edit must be at least 3")
    console = Console(width=130)
    settings = Settings()
    try:
        systems = [build(name.strip(), settings) for name in options.systems.split(",")]
        pictures, unreadable = read_pictures(options.photos)
        more = []
        for folder in options.distractors:
            read, bad = read_pictures(folder)
            more += read
            unreadable += bad
        data = make_dataset(pictures, more, seed=options.seed, per_edit=options.per_edit)
    except ValueError as error:
        sys.exit(str(error))
    if unreadable:
        console.print(f"{len(unreadable)} files cannot be read and are left out: {', '.join(unreadable[:5])}")
    queries = list(track(data.queries(), "making queries", total=data.query_count, console=console))
    results: list[Result] = []
    for system in systems:
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
        results.append(evaluate(system.name, system.threshold, queries, answers))
        console.print(
            f"{system.name}: {1000 * stored_s / len(data.stored):.0f} ms a stored picture, "
            f"{1000 * asked_s / len(queries):.0f} ms a query"
        )
    with_match = sum(query.stored is not None for query in queries)
    title = (
        f"{len(data.references)} references and {len(data.stored) - len(data.references)} distractors stored; "
        f"{with_match} queries with a match, {len(queries) - with_match} without; seed {options.seed}"
    )
    for table in tables(results, title):
        console.print(table)
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "accuracy.json").write_text(
        json.dumps(
            {
                "title": title,
                "systems": {
                    one.system: asdict(one.measures) | {"by_edit": one.by_edit, "false_copies": one.false_copies}
                    for one in results
                },
            },
            indent=1,
        )
    )
    plot(results, options.out / "accuracy.png")
    missed = failures(results[-1], queries, data.stored, options.out / "failures.png")
    console.print(f"{missed} queries are not answered right by {results[-1].system}; see {options.out}/failures.png")


if __name__ == "__main__":
    main()
