"""Speed of the running service beside a plain loop with the same decoding and networks on the same cores, in one run.

    python -m benchmarks.speed PHOTOS [--pictures 500] [--clients 16]

Brings the service up in a folder of its own (removed afterwards). Prints images per second from upload to PROCESSED,
/search and GET /image latencies, what became of all uploads, and the memory of every process. Each pair that is compared
is measured in turns: loop, service, loop, service.
"""

import argparse
import asyncio
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.client import Client
from benchmarks.memory import Memory, memory, total
from configs.models import load_models
from configs.settings import Settings
from deployments.pipeline.look import look
from deployments.pipeline.networks import LocalNetworks
from deployments.vision.shape import ShapeDescriptor
from graphs.service import Running, down, up

BATCH = 16


def plain_loop(pictures: list[bytes]) -> float:
    """Pictures a second of one process: decode in threads, three networks with a thread for each core, batches of 16."""
    settings = Settings(model_threads=os.cpu_count() or 1)
    model = load_models(settings.models_file)[load_models(settings.models_file).default]
    networks = LocalNetworks(model, settings)
    shape = ShapeDescriptor(model.shape) if model.shape else None

    async def run() -> float:
        await look(networks, model, shape, pictures[:BATCH], max_pixels=10**8, long_side=1024)  # warm
        begun = time.perf_counter()
        for start in range(0, len(pictures), BATCH):
            await look(networks, model, shape, pictures[start : start + BATCH], max_pixels=10**8, long_side=1024)
        return len(pictures) / (time.perf_counter() - begun)

    return asyncio.run(run())


def through_service(running: Running, pictures: list[bytes], clients: int, turn: int) -> tuple[float, int, int]:
    """Uploads with ``clients`` at a time; pictures a second until the last is PROCESSED, accepted, and PROCESSED."""
    with Client(running.url, running.key) as client, ThreadPoolExecutor(clients) as pool:
        begun = time.perf_counter()
        ids = list(
            pool.map(
                lambda n: client.upload(f"{turn}-{n}.jpg", pictures[n], key=f"speed-{turn}-{n}"), range(len(pictures))
            )
        )
        ended = client.wait(ids, timeout_s=1200)
        seconds = time.perf_counter() - begun
    return len(pictures) / seconds, len(set(ids)), sum(status == "PROCESSED" for status in ended.values())


def quantiles(call: Callable[[int], object], times: int) -> tuple[float, float]:
    """p50 and p95 in milliseconds of ``times`` calls, one after another."""
    taken = []
    for turn in range(times):
        begun = time.perf_counter()
        call(turn)
        taken.append(time.perf_counter() - begun)
    return float(np.quantile(taken, 0.5) * 1000), float(np.quantile(taken, 0.95) * 1000)


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path)
    parser.add_argument("--pictures", type=int, default=500, help="in each of the two turns")
    parser.add_argument("--clients", type=int, default=16)
    options = parser.parse_args()
    files = sorted(options.photos.glob("*.jpg"))
    data = [files[n % len(files)].read_bytes() + n.to_bytes(4, "big") for n in range(2 * options.pictures)]
    home = Path(tempfile.mkdtemp(prefix="sg-speed-"))
    home.chmod(0o755)
    console = Console(width=100)
    try:
        running = up(home, say=lambda _: None)
        through_service(running, data[:32], 8, 9)  # warm
        rest = memory(running.settings)
        rates: list[tuple[float, float]] = []
        accepted = processed = 0
        busy = rest
        for turn in range(2):
            part = data[turn * options.pictures : (turn + 1) * options.pictures]
            down_rate = plain_loop(part)
            with ThreadPoolExecutor(1) as pool:
                job = pool.submit(through_service, running, part, options.clients, turn)
                time.sleep(max(2.0, options.pictures / down_rate / 2))
                busy = memory(running.settings)
                rate, took, done = job.result()
            accepted, processed = accepted + took, processed + done
            rates.append((down_rate, rate))
        table = Table(
            title=f"upload → PROCESSED, {options.pictures} pictures by {options.clients} clients, {os.cpu_count()} cores"
        )
        for column in ("turn", "plain loop, pictures/s", "service, pictures/s", "ratio"):
            table.add_column(column, justify="right")
        for turn, (loop, service) in enumerate(rates):
            table.add_row(str(turn + 1), f"{loop:.1f}", f"{service:.1f}", f"{service / loop:.2f}")
        console.print(table)
        console.print(f"uploads accepted {accepted}, PROCESSED {processed}, lost {accepted - processed}")
        one = 1000 / np.mean([loop for loop, _ in rates])
        with Client(running.url, running.key) as client:
            search = quantiles(lambda n: client.search("query.jpg", data[n]), 100)
            ids = [row["id"] for row in client.get("/image/all", status="PROCESSED", limit=200)]
            get = quantiles(lambda n: client.get(f"/image/{ids[n % len(ids)]}"), 500)
        single = single_picture(data)
        console.print(f"plain loop: {one:.1f} ms a picture in batches of {BATCH}, {single:.1f} ms one at a time (p50)")
        console.print(
            f"/search: p50 {search[0]:.1f} ms, p95 {search[1]:.1f} ms; ÷ loop one at a time {search[0] / single:.2f}"
        )
        console.print(f"GET /image/{{id}}: p50 {get[0]:.1f} ms, p95 {get[1]:.1f} ms")
        table = Table(title="memory, MiB (proportional set size)")
        for column in ("process", "at rest", "under load"):
            table.add_column(column, justify="left" if column == "process" else "right")
        for kind in sorted(busy, key=lambda kind: -busy[kind].pss_mib):
            table.add_row(kind, f"{rest.get(kind, Memory()).pss_mib:.0f}", f"{busy[kind].pss_mib:.0f}")
        table.add_row("all", f"{total(rest.values()).pss_mib:.0f}", f"{total(busy.values()).pss_mib:.0f}")
        console.print(table)
    finally:
        down(home)
        shutil.rmtree(home, ignore_errors=True)


def single_picture(pictures: list[bytes]) -> float:
    """p50 in milliseconds of the plain loop for one picture at a time."""
    settings = Settings(model_threads=os.cpu_count() or 1)
    registry = load_models(settings.models_file)
    model = registry[registry.default]
    networks = LocalNetworks(model, settings)
    shape = ShapeDescriptor(model.shape) if model.shape else None

    def call(turn: int) -> None:
        asyncio.run(look(networks, model, shape, [pictures[turn]], max_pixels=10**8, long_side=1024))

    quantiles(call, 5)
    return quantiles(call, 100)[0]


if __name__ == "__main__":
    main()
