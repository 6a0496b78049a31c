"""What the service holds and opens while nobody asks it for anything: memory by kind of process, and every listening port.

    python -m benchmarks.rest [PHOTOS] [--pictures 200]

Brings the service up in a folder of its own (removed afterwards), waits until it is quiet, and prints both; with photos, the
memory once more after they were processed and it was quiet again for 80 seconds. All processes are counted, those too that Ray
names otherwise. The exit code is 1 if a port can be reached from outside that asks nobody for a secret.
"""

import argparse
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.client import Client
from benchmarks.memory import Memory, memory, total, wait_until_quiet
from benchmarks.servers import installation
from graphs.doctor import processes
from graphs.doctor_ports import Listening, listening
from graphs.service import Running, up

_CALM_S = 80.0
"""By then idle decoders have ended (a minute after their last work), and allocators have given back what they held."""


def memory_table(columns: dict[str, dict[str, Memory]]) -> Table:
    """A row for each kind of process, by the last column.

    Args:
        columns: what each kind held, by the name of the moment.
    """
    table = Table(title="memory, MiB: proportional set size (resident set sizes added up)")
    table.add_column("process")
    for moment in columns:
        table.add_column("processes", justify="right")
        table.add_column(moment, justify="right")
    last = list(columns.values())[-1]
    kinds = sorted({kind for found in columns.values() for kind in found}, key=lambda kind: -_of(last, kind).pss_mib)
    for kind in kinds:
        table.add_row(kind, *_cells([_of(found, kind) for found in columns.values()]))
    table.add_section()
    table.add_row("all", *_cells([total(found.values()) for found in columns.values()]))
    return table


def _of(found: dict[str, Memory], kind: str) -> Memory:
    return found.get(kind, Memory())


def _cells(row: list[Memory]) -> list[str]:
    return [text for held in row for text in (str(held.count), f"{held.pss_mib:.0f} ({held.rss_mib:.0f})")]


def protection(one: Listening) -> str | None:
    """What keeps strangers from a port; None where nothing does."""
    if one.local:
        return "loopback" + (f", {one.guard}" if one.guard else "")
    return one.guard


def ports_table(found: list[Listening]) -> Table:
    """Each port with what protects it."""
    table = Table(title="listening ports")
    for column in ("address", "program", "what", "protected by"):
        table.add_column(column)
    for one in found:
        what = "" if one.text == one.guard else one.text
        table.add_row(f"{one.address}:{one.port}", one.program, what or one.name, protection(one) or "NOTHING")
    return table


def process_photos(running: Running, photos: Path, count: int) -> None:
    """Uploads some photos by eight clients, each with bytes of its own, and waits until all are processed."""
    files = sorted(photos.glob("*.jpg"))
    with Client(running.url, running.key) as client, ThreadPoolExecutor(8) as pool:
        data = (files[n % len(files)].read_bytes() + n.to_bytes(4, "big") for n in range(count))
        ids = list(pool.map(lambda one: client.upload(f"{one[0]}.jpg", one[1]), enumerate(data)))
        client.wait(ids, timeout_s=1200)


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path, nargs="?")
    parser.add_argument("--pictures", type=int, default=200)
    options = parser.parse_args()
    console = Console(width=180)
    with installation() as home:
        running = up(home, say=lambda _: None)
        used = wait_until_quiet(running.settings)
        console.print(f"at rest: {used:.2f} cores in use")
        columns = {"at rest": memory(running.settings)}
        if options.photos:
            process_photos(running, options.photos, options.pictures)
            time.sleep(_CALM_S)
            wait_until_quiet(running.settings)
            columns[f"after {options.pictures} pictures"] = memory(running.settings)
        console.print(memory_table(columns))
        found = listening(home, processes(running.settings))
        console.print(ports_table(found))
        unguarded = [one for one in found if protection(one) is None]
        local = sum(one.local for one in found)
        console.print(
            f"{len(found)} ports: {local} on loopback, {len(found) - local - len(unguarded)} protected otherwise"
        )
        for one in unguarded:
            console.print(f"open to the network, and asks nobody for a secret: {one.address}:{one.port} ({one.text})")
    sys.exit(1 if unguarded or not found else 0)


if __name__ == "__main__":
    main()
