"""Fault drills: everything that can go wrong goes wrong under load, and afterwards all that was acknowledged is there.

    python -m benchmarks.drills PHOTOS [--pictures 16] [--clients 8] [--seed 1] [--drill NAME …]

Two installations in folders of their own (removed afterwards) take the same uploads, photos and edited copies of them; one
picture of each drill is in a bank. In the first nothing happens; in the second one drill after another disturbs a batch of
uploads. After each drill: every acknowledged upload is PROCESSED exactly once or FAILED with a reason; links and verdicts
are those of the undisturbed run; every event came to the webhook; the audit's chain holds; `safeguard check` finds no
object, row or vector that is missing, double or too many. PostgreSQL, S3 and the Ray head are brought back by `up`, the rest
comes back by itself. What is drawn (which process, when) is told by the seed. Exit code 1 on any trouble.
"""

import argparse
import sys
import time
from pathlib import Path

from rich.console import Console

from benchmarks.drills.callbacks import CALLBACKS
from benchmarks.drills.clocks import CLOCKS
from benchmarks.drills.connections import DROPS
from benchmarks.drills.full_disks import FULL_DISKS
from benchmarks.drills.kills import KILLS
from benchmarks.drills.load import batches
from benchmarks.drills.network_cuts import NETWORK_CUTS
from benchmarks.drills.pauses import PAUSES
from benchmarks.drills.replays import REPLAYS
from benchmarks.drills.runner import Runner, show
from benchmarks.drills.writers import WRITERS

DRILLS = {
    drill.name: drill
    for drill in (*KILLS, *PAUSES, *FULL_DISKS, *CLOCKS, *CALLBACKS, *REPLAYS, *WRITERS, *DROPS, *NETWORK_CUTS)
}


def main() -> None:
    """Runs the drills that are named, or all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path)
    parser.add_argument("--pictures", type=int, default=16, help="of each drill")
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--drill", action="append", choices=DRILLS, metavar="NAME", help=", ".join(DRILLS))
    options = parser.parse_args()
    console, begun = Console(width=140, highlight=False), time.monotonic()
    chosen = []
    for name in options.drill or DRILLS:
        lacking = DRILLS[name].lacks()
        if lacking is None:
            chosen.append(DRILLS[name])
        elif options.drill:
            parser.error(f"{name}: {lacking}")
        else:
            console.print(f"{name} is left out: {lacking}")
    data = batches(options.photos, [drill.batches * options.pictures for drill in chosen])
    results = Runner(options.photos, list(zip(chosen, data, strict=True)), options.clients, options.seed, console).run()
    troubles = show(results, console)
    console.print(f"{len(chosen)} drills in {(time.monotonic() - begun) / 60:.1f} minutes")
    sys.exit(bool(troubles))


if __name__ == "__main__":
    main()
