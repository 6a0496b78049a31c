"""fastdup beside the others. Its package pins old versions of others, so it runs under a Python of its own.

    python3.11 -m venv FOLDER && FOLDER/bin/pip install fastdup
    python -m benchmarks.accuracy PHOTOS --systems fastdup,… --fastdup-python FOLDER/bin/python

It is no dependency of this project: its licence forbids commercial use. Seen to run: fastdup 2.54.
"""

import csv
import os
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from benchmarks.accuracy.dataset import Query, Stored

_DIM = 576
_TIMEOUT_S = 1800
_CHECK = "import fastdup"
_EXTRACT = (
    "import sys, fastdup; sys.exit(fastdup.run(input_dir=sys.argv[1], work_dir=sys.argv[2], run_mode=1, num_threads=1))"
)


def read_features(folder: Path) -> dict[str, NDArray[np.float32]]:
    """What fastdup wrote, by the file names of the pictures; those that it could not read are not among them.

    Args:
        folder: its ``work_dir``: ``atrain_features.dat`` holds little-endian float32[n, 576], a CSV beside it the names.
    Returns:
        float32[576] of length 1.
    """
    values = np.fromfile(folder / "atrain_features.dat", "<f4").reshape(-1, _DIM)
    values /= np.maximum(np.linalg.norm(values, axis=1, keepdims=True), 1e-12)
    with (folder / "atrain_features.dat.csv").open(newline="") as file:
        names = [Path(row["filename"]).name for row in csv.DictReader(file)]
    return dict(zip(names, values, strict=True))


class Fastdup:
    """fastdup's features, compared by cosine as it does; a match from 0.9, the default ``threshold`` of ``fastdup.run``.

    Args:
        python: interpreter of an environment where fastdup is installed.
        kept: predictions kept of a query.
    Raises:
        ValueError: it is not installed there.
    """

    name, threshold = "fastdup", 0.9

    def __init__(self, python: Path, kept: int) -> None:
        self._python, self._kept = python, kept
        try:
            self._run(_CHECK)
        except (OSError, RuntimeError) as error:
            raise ValueError(
                f"fastdup is not installed in {python}: python3.11 -m venv FOLDER && FOLDER/bin/pip install fastdup, "
                "then --fastdup-python FOLDER/bin/python"
            ) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def add(self, stored: Sequence[Stored]) -> None:
        """See ``System.add``."""
        self._held = self._features([one.data for one in stored])

    def ask(self, queries: Sequence[Query]) -> list[list[tuple[int, float]]]:
        """See ``System.ask``."""
        scores = self._features([query.data for query in queries]) @ self._held.T
        near = np.argsort(-scores, axis=1, kind="stable")[:, : self._kept]
        return [[(int(one), float(row[one])) for one in best] for row, best in zip(scores, near, strict=True)]

    def _features(self, files: Sequence[bytes]) -> NDArray[np.float32]:
        """float32[n, 576], zeros where fastdup refuses a picture."""
        out = np.zeros((len(files), _DIM), np.float32)
        with tempfile.TemporaryDirectory(prefix="sg-fastdup-") as name:
            pictures, work = Path(name) / "pictures", Path(name) / "work"
            pictures.mkdir()
            for place, data in enumerate(files):
                (pictures / f"{place}.jpg").write_bytes(data)
            self._run(_EXTRACT, str(pictures), str(work))
            for picture, vector in read_features(work).items():
                out[int(Path(picture).stem)] = vector
        return out

    def _run(self, code: str, *arguments: str) -> None:
        """Runs code under the other Python, without the reports that fastdup sends to its makers."""
        with tempfile.TemporaryDirectory(prefix="sg-fastdup-home-") as home:
            done = subprocess.run(
                [str(self._python), "-c", code, *arguments], capture_output=True, text=True, timeout=_TIMEOUT_S,
                check=False, cwd=home, env=os.environ | {"SENTRY_OPT_OUT": "1", "HOME": home},
            )  # fmt: skip
        if done.returncode:
            said = (done.stderr or done.stdout).strip().splitlines()
            raise RuntimeError(f"fastdup ended with {done.returncode}: {said[-1] if said else 'it said nothing'}")
