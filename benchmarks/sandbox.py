"""What decoding in a process that can be killed costs: processor time a picture, here and there, in one run.

    python -m benchmarks.sandbox [PHOTOS] [--pictures 60] [--repeat 3]

Without a folder of photos it makes pictures. ``probe`` is what an upload pays, ``decode`` what a retried picture and a
search pay; ``prepare`` is all that the pipeline does with a picture on a CPU before the networks, for comparison.
"""

import argparse
import io
import os
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import psutil
from PIL import Image
from rich.console import Console
from rich.table import Table

from configs.models import load_models
from configs.settings import Settings
from deployments.pipeline.look import prepare
from deployments.vision.decoding import decode, probe
from deployments.vision.factory import build_shapes
from deployments.vision.sandbox import Sandbox, sandbox_of


def _files(folder: Path | None, count: int) -> list[bytes]:
    if folder is not None:
        paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg", ".png", ".webp"))
        return [path.read_bytes() for path in paths[:count]]
    files = []
    for seed in range(count):
        coarse = np.random.default_rng(seed).integers(0, 256, (48, 64, 3), np.uint8)
        file = io.BytesIO()
        Image.fromarray(coarse).resize((1600, 1200), Image.Resampling.BICUBIC).save(file, "JPEG", quality=88)
        files.append(file.getvalue())
    return files


def _cpu_ms(call: Callable[[bytes], object], files: list[bytes], sandbox: Sandbox) -> float:
    """Processor time a picture of this process and of those of the sandbox, ms."""

    def used() -> float:
        there = (sum(psutil.Process(pid).cpu_times()[:2]) for pid in sandbox.pids)
        return time.process_time() + sum(there)

    call(files[0])
    begun = used()
    for data in files:
        call(data)
    return (used() - begun) * 1000 / len(files)


def main() -> None:
    """See the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", nargs="?", type=Path)
    parser.add_argument("--pictures", type=int, default=60)
    parser.add_argument("--repeat", type=int, default=3)
    options = parser.parse_args()
    settings = Settings(_env_file=None)
    registry = load_models(settings.models_file)
    model = registry[registry.default]
    shapes = build_shapes(registry)
    shape = shapes[model.shape.name] if model.shape else None
    files = _files(options.photos, options.pictures)
    probing = {
        "max_bytes": settings.max_upload_bytes, "max_pixels": settings.max_pixels, "max_frames": settings.max_frames,
    }  # fmt: skip
    decoding = {"max_pixels": settings.max_pixels, "long_side": settings.decode_long_side}
    sandbox = sandbox_of(settings)
    calls: dict[str, tuple[Callable[[bytes], object], Callable[[bytes], object]]] = {
        "probe": (lambda data: probe(data, **probing), lambda data: sandbox.probe(data, **probing)),
        "decode": (lambda data: decode(data, **decoding), lambda data: sandbox.decode(data, **decoding)),
        "prepare": (
            lambda data: prepare(data, model, shape, **decoding),
            lambda data: prepare(data, model, shape, **decoding, decode=sandbox.decode),
        ),
    }
    table = Table("work", "here, ms", "in the sandbox, ms", "ratio")
    for name, (here, there) in calls.items():
        pairs = [(_cpu_ms(here, files, sandbox), _cpu_ms(there, files, sandbox)) for _ in range(options.repeat)]
        plain, apart = (float(np.median(side)) for side in zip(*pairs, strict=True))
        table.add_row(name, f"{plain:.1f}", f"{apart:.1f}", f"{apart / plain:.2f}")
    console = Console()
    console.print(f"{len(files)} pictures of {sum(map(len, files)) / len(files) / 1024:.0f} KiB, {os.cpu_count()} CPUs")
    console.print(table)
    resident = [psutil.Process(pid).memory_info().rss / 2**20 for pid in sandbox.pids]
    console.print(f"memory of {len(resident)} decoders at rest: {', '.join(f'{one:.0f} MiB' for one in resident)}")
    sandbox.close()


if __name__ == "__main__":
    main()
