"""Does the service grow and shrink with its load, and does it keep its pace when far more is asked than it can do?

    python -m benchmarks.scaling PHOTOS [--locust .venv-load/bin/locust] [--profile quiet:45:2:2,ramp:60:2:10,…]
    python -m benchmarks.scaling PHOTOS --past-capacity [--times 8] [--rounds 2] [--seconds 45]

Brings the service up in a folder of its own (removed afterwards) and stores pictures. The first form lets the users of the
load test follow a profile, records every second, and writes autoscaling.csv and autoscaling.png; exit code 1 if an
acknowledged upload is not PROCESSED in the end, a request failed, or replicas did not go up in the burst and down after it.
The second one fills a queue of ``--queue-limit`` images, and asks for as much as that takes and for eight times as much, in
turns; exit code 1 if under nine tenths of what is done at capacity (images processed and searches answered, means of the
phases) is done past it, memory is larger then by more than ``--growth``, somebody is refused without Retry-After, or an
acknowledged upload is lost. Run it alone.
"""

import argparse
import sys
from pathlib import Path

from rich.console import Console

from benchmarks.load.pictures import store, write
from benchmarks.scaling import pressure, profiled
from benchmarks.servers import installation
from graphs.service import up

OUT = Path(__file__).parents[2] / "docs" / "plots"


def main() -> None:
    """Runs one of the two and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path)
    parser.add_argument("--pictures", type=int, default=80, help="stored before; as many others are drawn from too")
    parser.add_argument("--locust", type=Path, default=Path(".venv-load/bin/locust"))
    parser.add_argument("--profile", help="stages as name:seconds:users:users, the users at its beginning and its end")
    parser.add_argument("--out", type=Path, default=OUT, help="folder of the picture and the CSV")
    parser.add_argument("--past-capacity", action="store_true")
    parser.add_argument("--times", type=int, default=8, help="past capacity: times as many clients")
    rounds = {"type": int, "choices": range(1, 10), "metavar": "N", "default": 2}
    parser.add_argument("--rounds", **rounds, help="past capacity: phases past it, and one more at it")
    parser.add_argument("--seconds", type=float, default=45.0, help="past capacity: that each phase is measured")
    parser.add_argument(
        "--warm-s", type=float, default=45.0, help="past capacity: before the first phase; half before others"
    )
    parser.add_argument("--queue-limit", type=int, default=200, help="past capacity: images that may wait")
    parser.add_argument("--growth", type=float, default=0.05, help="past capacity: share by which memory may be larger")
    options = parser.parse_args()
    console = Console(width=150, highlight=False)
    with installation() as home:
        if options.past_capacity:
            (home / "settings.env").write_text(f"SAFEGUARD_QUEUE_LIMIT='{options.queue_limit}'\n")
        running = up(home, say=lambda _: None)
        files = write(home / "pictures", options.photos, 2 * options.pictures)
        store(running, files[: options.pictures])
        if options.past_capacity:
            found = pressure.run(running, files, options, console)
        else:
            found = profiled.run(running, options, console)
    for line in found:
        console.print(line)
    console.print("as it should be" if not found else f"{len(found)} troubles")
    sys.exit(bool(found))


if __name__ == "__main__":
    main()
