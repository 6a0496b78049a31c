"""The accuracy benchmark: measures against examples worked by hand, the split, edits that never fail."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks.accuracy.dataset import LEAST, Query, Stored, encoded, make_dataset, read_pictures
from benchmarks.accuracy.fastdup import Fastdup, read_features
from benchmarks.accuracy.metrics import Prediction, found_first, measure
from benchmarks.accuracy.report import evaluate, failures, plot, save
from benchmarks.accuracy.systems import build, service_score
from benchmarks.edits import EDITS, EVERYDAY
from configs.settings import Settings
from tests.service.pictures import photo


def test_measures_by_hand() -> None:
    # By score: right, wrong, right, right (a second answer to query 2 is wrong), of 4 queries with a match.
    predictions = [
        Prediction(0, 10, 0.9), Prediction(1, 99, 0.8), Prediction(2, 12, 0.7), Prediction(3, 13, 0.6),
        Prediction(2, 50, 0.5),
    ]  # fmt: skip
    found = measure(predictions, {0: 10, 1: 11, 2: 12, 3: 13})
    assert found.average_precision == pytest.approx((1 + 2 / 3 + 3 / 4) / 4)
    assert found.recall_at_1 == 0.75
    assert found.recall_p90 == found.recall_p99 == 0.25
    assert found_first(predictions, {1: 11, 7: 1}) == {1: False, 7: False}


def test_strangers_count_against_precision_and_not_for_recall() -> None:
    found = measure([Prediction(5, 10, 0.9), Prediction(0, 10, 0.8)], {0: 10})
    assert (found.average_precision, found.recall_at_1, found.recall_p90) == (0.5, 1.0, 0.0)


def test_ties_do_not_flatter() -> None:
    right_first = [Prediction(0, 1, 0.5), Prediction(9, 1, 0.5)]
    assert measure(right_first, {0: 1}).average_precision == measure(right_first[::-1], {0: 1}).average_precision == 0.5


def test_recall_at_a_precision_is_the_best_of_all_thresholds() -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        truth = {query: int(rng.integers(5)) for query in range(8)}
        pairs = [(query, stored) for query in range(11) for stored in range(5) if rng.random() < 0.6]
        scores = [
            float(rng.integers(5) + 3 * (truth.get(query) == stored)) for query, stored in pairs
        ]  # many are equal
        said = [Prediction(*pair, score) for pair, score in zip(pairs, scores, strict=True)]
        best = {0.9: 0.0, 0.99: 0.0}
        for threshold in set(scores):
            kept = [truth.get(one.query) == one.stored for one in said if one.score >= threshold]
            for least in best:
                if sum(kept) / len(kept) >= least:
                    best[least] = max(best[least], sum(kept) / len(truth))
        found = measure(said, truth)
        assert (found.recall_p90, found.recall_p99) == pytest.approx((best[0.9], best[0.99]))


def test_nothing_predicted_and_nothing_to_find() -> None:
    assert measure([], {0: 1}).average_precision == 0
    with pytest.raises(ValueError, match="no query has a match"):
        measure([Prediction(0, 1, 1.0)], {})


def noise(seed: int, size: tuple[int, int] = (48, 32)) -> Image.Image:
    values = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), np.uint8)
    return Image.fromarray(values)


def test_the_split_keeps_strangers_out_of_what_is_stored() -> None:
    pictures = [(f"{number}.png", noise(number)) for number in range(30)]
    data = make_dataset(pictures, [("more.png", noise(99))], seed=3, per_edit=3)
    assert (len(data.references), len(data.stored), len(data.absent)) == (18, 25, 6)
    stored = {one.data for one in data.stored}
    assert all(encoded(picture) in stored for picture in data.references)
    assert not any(encoded(picture) in stored for picture in data.absent)
    assert make_dataset(pictures, [], seed=3, per_edit=3).stored[0] == data.stored[0]
    assert make_dataset(pictures, [], seed=4, per_edit=3).stored != data.stored[:-1]
    with pytest.raises(ValueError, match="19 pictures are too few: 20"):
        make_dataset(pictures[:19], [], seed=3, per_edit=3)


def test_equal_pictures_are_stored_once() -> None:
    pictures = [(f"{number}.png", noise(number)) for number in range(LEAST)]
    data = make_dataset([*pictures, ("again.png", noise(0))], [("far.png", noise(1))], seed=3, per_edit=60)
    assert data.repeats == ["again.png", "far.png"] and len(data.stored) == LEAST * 8 // 10
    assert data.query_count == len(EDITS) * (LEAST * 6 // 10 + 20)
    with pytest.raises(ValueError, match=r"1 pictures are too few: 20 at least \(29 more equal others\)"):
        make_dataset([("same.png", noise(0))] * 30, [], seed=3, per_edit=3)


def test_broken_files_are_named_and_a_missing_folder_refused(tmp_path: Path) -> None:
    noise(1).save(tmp_path / "good.png")
    (tmp_path / "bad.jpg").write_bytes(b"no picture")
    (tmp_path / "notes.txt").write_text("not looked at")
    pictures, unreadable = read_pictures(tmp_path)
    assert [name for name, _ in pictures] == ["good.png"] and unreadable == ["bad.jpg"]
    with pytest.raises(ValueError, match="is not a folder"):
        read_pictures(tmp_path / "none")


@pytest.mark.parametrize("name", EDITS)
def test_every_edit_gives_the_same_for_the_same_seed_and_never_fails(name: str) -> None:
    others = [noise(5, (90, 60)), noise(6, (40, 80))]
    coffee = photo("coffee.png").resize((120, 80))
    first, second = (EDITS[name](coffee, np.random.default_rng(4), others) for _ in range(2))
    assert first.mode == "RGB" and first.tobytes() == second.tobytes()
    assert first.tobytes() != coffee.tobytes()
    odd = [noise(1, (1, 1)), noise(1, (16, 16)), noise(2, (3, 90)), noise(3, (1, 512)), noise(4, (512, 5))]
    for one in [*odd, Image.new("RGB", (64, 64), (9, 9, 9)), Image.new("RGB", (64, 64))]:
        edited = EDITS[name](one, np.random.default_rng(1), others)
        assert edited.mode == "RGB" and len(encoded(edited)) > 100


def test_the_everyday_edits() -> None:
    assert len(EVERYDAY) == 13 and "crop70" in EVERYDAY


def test_systems_by_name() -> None:
    stored = [type("S", (), {"name": str(n), "data": encoded(photo(n))})() for n in ("coffee.png", "rocket.jpg")]
    for name in ("pdq", "pdq8", "phash"):
        with build(name, Settings()) as system:
            system.add(stored)
            (answer,) = system.ask([type("Q", (), {"data": encoded(photo("rocket.jpg").resize((200, 150)))})()])
        assert answer[0][0] == 1 and answer[0][1] > (system.threshold or 0) > answer[1][1]
    with pytest.raises(ValueError, match="no system 'x'"):
        build("x", Settings())


def test_what_is_written(tmp_path: Path) -> None:
    stored = [Stored(f"{number}.jpg", encoded(noise(number))) for number in range(3)]
    queries = [
        Query("blur", 1, stored[1].data),
        Query("blur", 2, stored[2].data),
        Query("mirror", None, stored[0].data),
    ]
    result = evaluate("one", 0.5, queries, [[(1, 0.9), (0, 0.2)], [(0, 0.8)], [(2, 0.6)]])
    assert result.by_edit == {"blur": 0.5} and result.false_copies == 1.0
    save([result], queries, stored, "a title", tmp_path)
    measures = json.loads((tmp_path / "accuracy.json").read_text())["systems"]["one"]
    assert measures["recall_at_1"] == 0.5 and measures["average_precision"] == 0.5
    lines = [json.loads(line) for line in (tmp_path / "answers.jsonl").read_text().splitlines()]
    assert lines[1] == {"edit": "blur", "right": "2.jpg", "answers": {"one": [["0.jpg", 0.8]]}}
    assert lines[2]["right"] is None
    plot([result, result], tmp_path / "plot.png")
    assert failures(result, queries, stored, tmp_path / "failures.png") == 1
    assert all(np.asarray(Image.open(tmp_path / name)).std() > 1 for name in ("plot.png", "failures.png"))


def test_fastdup_elsewhere_or_not_at_all(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"fastdup is not installed in .*python"):
        Fastdup(tmp_path / "python", 10)
    values = np.random.default_rng(1).normal(size=(2, 576)).astype("<f4")
    values.tofile(tmp_path / "atrain_features.dat")
    (tmp_path / "atrain_features.dat.csv").write_text("index,filename\n0,/a/5.jpg\n1,/a/2.jpg\n")
    features = read_features(tmp_path)
    assert list(features) == ["5.jpg", "2.jpg"]
    assert features["2.jpg"] == pytest.approx(values[1] / np.linalg.norm(values[1]))


def test_relations_on_one_scale() -> None:
    matches = [{"kind": kind, "score": score} for kind, score in (("exact", 1.0), ("copy", 0.9), ("semantic", 1.0))]
    assert [service_score(one) for one in matches] == [3.0, 1.9, 1.0]
