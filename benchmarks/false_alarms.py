"""How often pictures that are no copies are called copies, at the shipped thresholds.

    python -m benchmarks.false_alarms FOLDER [FOLDER ...] [--out false_alarms.png]

Every picture of the folders is asked for among all the others. Prints the pictures with a false copy per 1,000, for the
cascade, PDQ (31 bits) and pHash (10 bits), and how the content filter judges these harmless pictures; the pairs that the
cascade calls copies are drawn on a sheet, for a person to see whether they are.
"""

import argparse
import io
from collections import Counter
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw
from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks.accuracy.dataset import Query as Asked
from benchmarks.accuracy.dataset import Stored, encoded, read_pictures
from benchmarks.accuracy.systems import Pdq, PHash
from benchmarks.local import LocalCascade
from configs.facts import Facts
from configs.models import load_models
from configs.policies import Verdict
from configs.policy_source import parse_policy
from configs.settings import Settings
from deployments.pipeline.look import Look
from deployments.pipeline.matching import decide
from deployments.vision.factory import build_filter
from deployments.vision.interfaces import prepare_square
from storage.policy_changes import SHIPPED


def _sheet(pairs: list[tuple[int, int, float, str]], files: list[bytes], path: Path) -> None:
    side = 150
    sheet = Image.new("RGB", (2 * (2 * side + 20), max(1, -(-len(pairs) // 2)) * (side + 18)), "white")
    draw = ImageDraw.Draw(sheet)
    for slot, (first, second, score, method) in enumerate(pairs):
        x, y = slot % 2 * (2 * side + 20), slot // 2 * (side + 18)
        draw.text((x, y), f"{score:.3f} {method}", fill="black")
        for place, number in enumerate((first, second)):
            tile = Image.open(io.BytesIO(files[number]))
            tile.thumbnail((side, side))
            sheet.paste(tile, (x + place * side, y + 14))
    sheet.save(path)


def main() -> None:
    """Measures, prints and draws."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", type=Path, nargs="+")
    parser.add_argument("--out", type=Path, default=Path("false_alarms.png"))
    options = parser.parse_args()
    settings = Settings()
    registry = load_models(settings.models_file)
    model = registry[registry.default]
    cascade = LocalCascade(model, settings)
    pictures = [one for folder in options.folders for one in read_pictures(folder)[0]]
    files = [encoded(picture) for _, picture in pictures]
    looks: list[Look] = []
    for start in track(range(0, len(files), 8), "pictures"):
        looks += [one for one in cascade.look(files[start : start + 8]) if isinstance(one, Look)]
    cascade.add(list(enumerate(looks)))
    pairs, alarmed = [], {"copy": set[int](), "copy or semantic": set[int]()}
    for number, look in enumerate(track(looks, "asking")):
        for link in decide(model, look, cascade.candidates(look, exclude=number), [], versions={}):
            alarmed["copy or semantic"].add(number)
            if link.relation == "copy":
                alarmed["copy"].add(number)
                if number < link.image_id:
                    pairs.append((number, link.image_id, link.score, link.method))
    table = Table(
        "method", "pictures with a false match", "per 1,000", title=f"{len(files)} pictures that are no copies"
    )

    def row(name: str, count: int) -> None:
        table.add_row(name, str(count), f"{1000 * count / len(files):.1f}")

    for name, those in alarmed.items():
        row(f"cascade, {name}", len(those))
    stored, asked = [Stored("", data) for data in files], [Asked("", None, data) for data in files]
    for system in (Pdq(orientations=True), Pdq(orientations=False), PHash()):
        system.add(stored)
        answers = system.ask(asked)
        wrong = sum(
            any(score >= (system.threshold or 1) and other != number for other, score in answer)
            for number, answer in enumerate(answers)
        )
        row(f"{system.name} at its usual threshold", wrong)
    console = Console(width=110)
    console.print(table)
    _sheet(sorted(pairs, key=lambda pair: -pair[2])[:40], files, options.out)
    console.print(f"{len(pairs)} pairs called copies are on {options.out}")
    if model.content_filter is not None:
        judge = build_filter(model.content_filter, settings)
        frames = [prepare_square(np.asarray(picture), model.content_filter.input_size) for _, picture in pictures]
        scores = np.concatenate(
            [judge.forward(np.stack(frames[start : start + 16])) for start in range(0, len(frames), 16)]
        )
        policy = parse_policy(SHIPPED.read_text())
        said = Counter(
            policy.judge(Facts(0, model.name, "image/jpeg", 0, 0, 0, {str(model.filter_name): float(score)})).verdict
            for score in scores
        )
        console.print(
            f"{model.filter_name}: median {np.median(scores):.4f}; by configs/policies.yaml {said[Verdict.REVIEW]} for review, "
            f"{said[Verdict.BLOCK]} to be blocked"
        )


if __name__ == "__main__":
    main()
