"""Mutated real pictures on the way of an upload: each ends as a picture or as an error of ours, in time, with flat memory.

    python -m benchmarks.fuzz_uploads [PHOTOS] [--pictures 10000] [--seed 1] [--keep FOLDER]

Each picture is checked as an upload is (in a process that can be killed), and where it passes decoded and hashed as the
pipeline does at its first attempt, in this process. Exit code 1 on any other exception, on a picture that takes longer
than its limit, and on memory that grows.
"""

import argparse
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import psutil
from PIL import Image
from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks.mutations import files_of, mutated
from configs.settings import Settings
from deployments.vision.decoding import decode
from deployments.vision.pdq import pdq_hashes
from deployments.vision.sandbox import Sandbox, sandbox_of
from storage.errors import TooLarge, UnsupportedImage

MIB = 2**20
_GROWTH_MIB = 64
_WARM = 0.2
"""Share of the pictures after which memory must stay as it is."""


@dataclass
class Fuzzed:
    """What came of all pictures."""

    ends: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    slowest_s: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    unexpected: list[str] = field(default_factory=list)
    late: list[str] = field(default_factory=list)
    killed: int = 0
    memory_mib: list[float] = field(default_factory=list)

    @property
    def growth_mib(self) -> float:
        """Memory of this process and its decoders at the end over that after warming up."""
        return self.memory_mib[-1] - self.memory_mib[int(_WARM * (len(self.memory_mib) - 1))]


def sources(folder: Path | None, count: int = 6) -> dict[str, bytes]:
    """Real pictures in every format, or where there is no folder made ones."""
    if folder is None:
        coarse = np.random.default_rng(3).integers(0, 256, (12, 16, 3), np.uint8)
        return files_of(Image.fromarray(coarse).resize((256, 192), Image.Resampling.BICUBIC))
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg", ".png", ".webp"))
    chosen = paths[:: max(1, len(paths) // count)][:count]
    return {f"{name} {place}": data for place, path in enumerate(chosen)
            for name, data in files_of(Image.open(path)).items()}  # fmt: skip


def fuzz(files: dict[str, bytes], numbers: Iterable[int], seed: int, settings: Settings, keep: Path | None) -> Fuzzed:
    """Sends mutated pictures through the checks of an upload and the pipeline's decoder."""
    sandbox, fuzzed = sandbox_of(settings), Fuzzed()
    limit_s = 3 * settings.decode_cpu_s
    for number in numbers:
        name, kind, data = mutated(files, seed, number)
        begun = time.monotonic()
        try:
            end = _end_of(data, sandbox, settings)
        except Exception as error:
            end = "unexpected"
            fuzzed.unexpected.append(f"{number} ({name}, {kind}): {type(error).__name__}: {error}")
            if keep is not None:
                keep.mkdir(parents=True, exist_ok=True)
                (keep / f"{seed}-{number}").write_bytes(data)
        took = time.monotonic() - begun
        fuzzed.ends[kind][end] += 1
        fuzzed.slowest_s[kind] = max(fuzzed.slowest_s[kind], took)
        if took > limit_s:
            fuzzed.late.append(f"{number} ({name}, {kind}): {took:.1f} s")
        if number % 50 == 0:
            fuzzed.memory_mib.append(_memory(sandbox))
    fuzzed.killed = sandbox.killed
    fuzzed.memory_mib.append(_memory(sandbox))
    sandbox.close()
    return fuzzed


def _end_of(data: bytes, sandbox: Sandbox, settings: Settings) -> str:
    try:
        sandbox.probe(
            data, max_bytes=settings.max_upload_bytes, max_pixels=settings.max_pixels, max_frames=settings.max_frames
        )
    except (TooLarge, UnsupportedImage) as error:
        return type(error).__name__
    try:
        pixels = decode(data, max_pixels=settings.max_pixels, long_side=settings.decode_long_side).pixels
    except (TooLarge, UnsupportedImage):
        return "FAILED"  # the upload was taken; processing says why
    pdq_hashes(pixels)
    return "picture"


def _memory(sandbox: Sandbox) -> float:
    resident = psutil.Process().memory_info().rss + sum(psutil.Process(pid).memory_info().rss for pid in sandbox.pids)
    return float(resident / MIB)


def main() -> int:
    """See the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", nargs="?", type=Path)
    parser.add_argument("--pictures", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--keep", type=Path, help="folder for pictures that end in an unexpected error")
    options = parser.parse_args()
    console, settings = Console(), Settings(_env_file=None)
    files = sources(options.photos)
    numbers = track(range(options.pictures), "mutated pictures", console=console, disable=not sys.stdout.isatty())
    fuzzed = fuzz(files, numbers, options.seed, settings, options.keep)
    table = Table("mutation", "picture", "FAILED", "UnsupportedImage", "TooLarge", "unexpected", "slowest, s")
    for kind, ends in sorted(fuzzed.ends.items()):
        shown = [str(ends[end]) for end in ("picture", "FAILED", "UnsupportedImage", "TooLarge", "unexpected")]
        table.add_row(kind, *shown, f"{fuzzed.slowest_s[kind]:.2f}")
    console.print(f"{options.pictures} mutations of {len(files)} files, seed {options.seed}")
    console.print(table)
    memory = fuzzed.memory_mib
    console.print(
        f"decoders ended by a picture: {fuzzed.killed}; memory {memory[int(_WARM * (len(memory) - 1))]:.0f} MiB after"
        f" {_WARM:.0%}, {memory[-1]:.0f} MiB at the end, {max(memory):.0f} MiB at most"
    )
    for line in [*fuzzed.unexpected, *fuzzed.late][:20]:
        console.print(line, markup=False)
    return int(bool(fuzzed.unexpected or fuzzed.late or fuzzed.growth_mib > _GROWTH_MIB))


if __name__ == "__main__":
    sys.exit(main())
