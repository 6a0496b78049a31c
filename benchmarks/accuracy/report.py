"""Tables, the plot by edit, the contact sheet of the worst failures and the files of all results."""

import json
from collections import defaultdict
from dataclasses import asdict, dataclass
from io import BytesIO
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from PIL import Image, ImageDraw
from rich.table import Table

from benchmarks.accuracy.dataset import Query, Stored
from benchmarks.accuracy.metrics import Measures, Prediction, found_first, measure
from benchmarks.accuracy.systems import Answer


@dataclass(frozen=True)
class Result:
    """What one system did.

    Args:
        by_edit: recall@1 of the queries with a match, by edit.
        false_copies: share of the queries without a match that got a copy at the system's threshold; None without one.
    """

    system: str
    measures: Measures
    by_edit: dict[str, float]
    false_copies: float | None
    answers: list[Answer]


def evaluate(system: str, threshold: float | None, queries: list[Query], answers: list[Answer]) -> Result:
    """Measures the answers of one system."""
    truth = {place: query.stored for place, query in enumerate(queries) if query.stored is not None}
    predictions = [Prediction(place, *pair) for place, answer in enumerate(answers) for pair in answer]
    hits: defaultdict[str, list[bool]] = defaultdict(list)
    for place, right in found_first(predictions, truth).items():
        hits[queries[place].edit].append(right)
    strangers = [answers[place] for place, query in enumerate(queries) if query.stored is None]
    wrong = None
    if threshold is not None and strangers:
        wrong = sum(any(score >= threshold for _, score in answer) for answer in strangers) / len(strangers)
    by_edit = {edit: sum(one) / len(one) for edit, one in hits.items()}
    return Result(system, measure(predictions, truth), by_edit, wrong, answers)


def tables(results: list[Result], title: str) -> list[Table]:
    """The measures of all systems, and recall@1 by edit."""
    summary = Table("system", title=title)
    for column in ("µAP", "recall@1", "recall at P90", "at P99", "strangers called copies"):
        summary.add_column(column, justify="right")
    for one in results:
        found = one.measures
        values = (found.average_precision, found.recall_at_1, found.recall_p90, found.recall_p99)
        wrong = "–" if one.false_copies is None else f"{one.false_copies:.4f}"
        summary.add_row(one.system, *(f"{value:.3f}" for value in values), wrong)
    edits = Table("edit", title="recall@1 by edit")
    for one in results:
        edits.add_column(one.system, justify="right")
    for edit in results[0].by_edit:
        edits.add_row(edit, *(f"{one.by_edit[edit]:.2f}" for one in results))
    return [summary, edits]


def save(results: list[Result], queries: list[Query], stored: list[Stored], title: str, folder: Path) -> None:
    """Writes accuracy.json, the measures of all systems, and answers.jsonl, a line for each query with what they answered."""
    systems = {
        one.system: asdict(one.measures) | {"by_edit": one.by_edit, "false_copies": one.false_copies} for one in results
    }
    (folder / "accuracy.json").write_text(json.dumps({"title": title, "systems": systems}, indent=1))
    with (folder / "answers.jsonl").open("w") as file:
        for place, query in enumerate(queries):
            right = None if query.stored is None else stored[query.stored].name
            answers = {
                one.system: [[stored[number].name, round(score, 6)] for number, score in one.answers[place]]
                for one in results
            }
            file.write(json.dumps({"edit": query.edit, "right": right, "answers": answers}) + "\n")


def plot(results: list[Result], path: Path) -> None:
    """Recall@1 by edit, a dot for each system and a diamond for the last; the edits that it finds hardest at the top."""
    edits = sorted(results[-1].by_edit, key=lambda edit: -results[-1].by_edit[edit])
    height = (0.13 + 0.045 * len(results)) * len(edits)
    figure, axes = plt.subplots(figsize=(9, height + 1.5))
    for place, one in enumerate(results):
        last = place == len(results) - 1
        lift = 0.6 * (place / max(1, len(results) - 1) - 0.5)  # else equal ones would hide each other
        axes.plot(
            [one.by_edit[edit] for edit in edits], [row + lift for row in range(len(edits))], "D" if last else ".",
            label=one.system, markersize=5 if last else 7, zorder=3,
        )  # fmt: skip
    axes.set_yticks(range(len(edits)), edits)
    axes.set_xlim(-0.02, 1.02)
    axes.set_ylim(-0.7, len(edits) - 0.3)
    axes.set_xlabel("recall@1")
    axes.grid(True, axis="x", alpha=0.3)
    for row in range(0, len(edits), 2):
        axes.axhspan(row - 0.5, row + 0.5, color="#f2f2f2", zorder=0)
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.5 / height), ncols=2, fontsize=8, frameon=False)
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    plt.close(figure)


def failures(result: Result, queries: list[Query], stored: list[Stored], path: Path, most: int = 40) -> int:
    """A contact sheet of queries whose best answer is wrong or missing, the surest mistakes first.

    Returns:
        How many there are in all.
    """
    wrong = []
    for place, (query, answer) in enumerate(zip(queries, result.answers, strict=True)):
        best = answer[0] if answer else None
        if query.stored is not None and (best is None or best[0] != query.stored):
            wrong.append((-(best[1] if best else 0.0), place))
    wrong.sort()
    side, columns = 130, 3
    sheet = Image.new(
        "RGB", (columns * (3 * side + 12), max(1, -(-min(most, len(wrong)) // columns)) * (side + 16)), "white"
    )
    draw = ImageDraw.Draw(sheet)

    def put(data: bytes, x: int, y: int) -> None:
        tile = Image.open(BytesIO(data)).convert("RGB")
        tile.thumbnail((side, side))
        sheet.paste(tile, (x, y + 14))

    for slot, (_, place) in enumerate(wrong[:most]):
        x, y = slot % columns * (3 * side + 12), slot // columns * (side + 16)
        query, answer = queries[place], result.answers[place]
        said = f"{answer[0][1]:.2f}" if answer else "nothing found"
        draw.text((x, y), f"{query.edit} | right | answered ({said})", fill="black")
        put(query.data, x, y)
        if query.stored is not None:
            put(stored[query.stored].data, x + side, y)
        if answer:
            put(stored[answer[0][0]].data, x + 2 * side, y)
    sheet.save(path)
    return len(wrong)
