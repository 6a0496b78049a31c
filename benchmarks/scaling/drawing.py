"""The run as a picture: load, replicas, age of the queue, p95 of searches and memory over one time axis."""

from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

from benchmarks.scaling.series import WINDOW_S, Second, deployments, scaled


def draw(rows: Sequence[Second], file: Path, title: str) -> None:
    """Writes a PNG; the stages are shaded in turns."""
    seconds = [one.second for one in rows]
    figure, axes = plt.subplots(5, sharex=True, figsize=(11, 12), layout="constrained")
    load, replicas, age, latency, memory = axes
    load.plot(seconds, [one.offered for one in rows], color="0.5", label="offered")
    load.plot(seconds, _mean([one.answered for one in rows]), color="C0", label="answered (mean of 5 s)")
    if any(one.failed for one in rows):
        load.plot(seconds, _mean([one.failed for one in rows]), color="C3", label="failed (mean of 5 s)")
    load.set_ylabel("requests/s")
    constant = []
    for name in deployments(rows):
        counts = [one.replicas.get(name, 0) for one in rows]
        if name in scaled(rows):
            replicas.step(seconds, counts, where="post", linewidth=2, label=name)
        else:
            constant.append(f"{name} {max(counts)}")
    replicas.set_ylabel("replicas")
    replicas.yaxis.get_major_locator().set_params(integer=True)
    replicas.set_title(f"always the same: {', '.join(constant)}", fontsize=8, loc="right")
    age.plot(seconds, [one.oldest_s for one in rows], color="C1", label="age of the oldest waiting image, s")
    age.set_ylabel("seconds")
    beside = age.twinx()
    beside.plot(seconds, [one.waiting for one in rows], color="C4", linewidth=1, label="waiting images (right)")
    beside.set_ylim(bottom=0)
    latency.plot(
        seconds, [one.search_p95_ms / 1000 for one in rows], color="C2", label=f"p95 of searches, {WINDOW_S} s"
    )
    latency.set_ylabel("seconds")
    memory.plot(seconds, [one.mib / 1024 for one in rows], color="C5", label="memory of the stack (PSS)")
    memory.set_ylabel("GiB")
    memory.set_xlabel("seconds")
    for axis in axes:
        axis.set_xlim(0, seconds[-1])
        axis.set_ylim(bottom=0)
        axis.grid(alpha=0.3)
        for number, (name, group) in enumerate(groupby(rows, key=lambda one: one.stage)):
            members = list(group)
            if number % 2:
                axis.axvspan(members[0].second, members[-1].second + 1, color="0.93", zorder=0)
            if axis is load:
                middle = (members[0].second + members[-1].second) / 2
                axis.text(middle, 1.02, name, ha="center", fontsize=9, transform=axis.get_xaxis_transform())
        lines = [*axis.get_lines(), *(beside.get_lines() if axis is age else [])]
        axis.legend(lines, [str(line.get_label()) for line in lines], loc="upper left", fontsize=8)
    replicas.set_ylim(top=1 + max((one.replicas.get(name, 0) for one in rows for name in scaled(rows)), default=1))
    figure.suptitle(title, fontsize=11)
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, dpi=90)
    plt.close(figure)


def _mean(values: Sequence[float], width: int = 5) -> list[float]:
    return [sum(values[max(0, place - width + 1) : place + 1]) / min(width, place + 1) for place in range(len(values))]
