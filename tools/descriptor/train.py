"""Trains the copy descriptor: contrastive learning over two edited views of each picture, on CPU cores or a GPU.

    python -m tools.descriptor.train SOURCE [SOURCE ...] --out FOLDER [--minutes 60] [--pairs 96] [--side 160] [--device cpu]

Sources are folders or tar files of pictures. FOLDER holds the decoded pictures, ``state.pt`` (every few minutes; the
same command goes on from there) and, at the end, ``descriptor.pt``: the moving average of the weights. The learning rate
falls along a cosine over the minutes of training, counted across interruptions.
"""

import argparse
import copy
import math
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tools.descriptor.loss import contrastive
from tools.descriptor.network import Descriptor, FeatureRestyle, normalised
from tools.descriptor.paint import painted
from tools.descriptor.pictures import Pictures, gather
from tools.descriptor.restyle import Picture
from tools.descriptor.views import strong, weak

HELD_BACK = 256
"""Files whose pictures are never trained on: the validation."""
SAVE_S = 240.0
DECAY = 0.998
"""Of the moving average of the weights, a step."""


def make_views(
    pictures: Pictures,
    numbers: NDArray[np.int64],
    side: int,
    rng: np.random.Generator,
    renditions: dict[int, list[Picture]] | None = None,
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Stored and edited views of some pictures: two uint8[n, side, side, 3].

    Of a picture that has painted renditions, half of the edited views start from one of them.
    """
    first, second = [], []
    for number in numbers:
        others = [pictures[int(other)] for other in rng.integers(0, len(pictures), 3)]
        first.append(weak(pictures[int(number)], rng, side))
        painted_ones = (renditions or {}).get(int(number), [])
        if painted_ones and rng.random() < 0.5:
            source = painted_ones[int(rng.integers(len(painted_ones)))]
        else:
            source = pictures[int(number)]
        second.append(strong(source, rng, others, side))
    return np.stack(first), np.stack(second)


class PairBatches(torch.utils.data.IterableDataset[Tensor]):
    """Endless batches uint8[2n, side, side, 3]: n stored views, then n edited views of the same pictures.

    A third of a batch is drawn at random, each of these with two of its neighbours: pictures of the same topic, the
    negatives that matter. No two pictures of a batch come from one file.
    """

    def __init__(
        self, folder: Path, numbers: NDArray[np.int64], neighbours: NDArray[np.int64], pairs: int, side: int
    ) -> None:
        self._folder, self._numbers, self._neighbours = folder, numbers, neighbours
        self._pairs, self._side = pairs, side

    def _draw(self, groups: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.int64]:
        chosen: dict[int, int] = {}
        while len(chosen) < self._pairs:
            seed = int(rng.choice(self._numbers))
            for number in (seed, *rng.choice(self._neighbours[seed], 2, replace=False)):
                if number >= 0:
                    chosen.setdefault(int(groups[number]), int(number))
        return np.asarray(list(chosen.values())[: self._pairs])

    def __iter__(self) -> Iterator[Tensor]:
        cv2.setNumThreads(1)
        pictures, rng = Pictures(self._folder / "pictures"), np.random.default_rng()
        renditions = painted(self._folder)
        while True:
            drawn = self._draw(pictures.groups, rng)
            yield torch.from_numpy(np.concatenate(make_views(pictures, drawn, self._side, rng, renditions)))


@torch.no_grad()
def pooled_features(network: Descriptor, frames: NDArray[np.uint8], device: str) -> Tensor:
    """float[n, 1280] on the CPU."""
    with torch.autocast(device, torch.bfloat16):
        features = network.start(normalised(torch.from_numpy(frames).to(device)))
        return network.pooled(features).float().cpu()


def find_neighbours(
    network: Descriptor, pictures: Pictures, numbers: NDArray[np.int64], store: Path, device: str
) -> NDArray[np.int64]:
    """int[pictures, 16]: for each picture its nearest others by the untrained network, -1 where there are none.

    Pictures that look the same to it (above .93) are left out: they may be the same.
    """
    kept = store / "neighbours.npy"
    if not kept.exists():
        rng = np.random.default_rng(0)
        vectors = []
        for start in range(0, len(numbers), 64):
            frames = np.stack([weak(pictures[int(one)], rng, 160) for one in numbers[start : start + 64]])
            vectors.append(pooled_features(network, frames, device))
        all_vectors = torch.cat(vectors)
        all_vectors = torch.nn.functional.normalize(all_vectors - all_vectors.mean(0))
        table = np.full((len(pictures), 16), -1, np.int64)
        groups = torch.from_numpy(pictures.groups[numbers])
        for start in range(0, len(numbers), 512):
            scores = all_vectors[start : start + 512] @ all_vectors.T
            scores[(groups[start : start + 512, None] == groups[None]) | (scores > 0.93)] = -1
            table[numbers[start : start + 512]] = numbers[scores.topk(16).indices.numpy()]
        np.save(kept, table)
    return np.asarray(np.load(kept))


@torch.no_grad()
def validate(network: Descriptor, first: NDArray[np.uint8], second: NDArray[np.uint8], device: str) -> float:
    """Share of edited views whose nearest stored view is that of their own picture."""
    network.eval()
    vectors = []
    for frames in (first, second):
        parts = []
        for start in range(0, len(frames), 64):
            with torch.autocast(device, torch.bfloat16):
                parts.append(network(normalised(torch.from_numpy(frames[start : start + 64]).to(device))).float())
        vectors.append(torch.cat(parts))
    network.train()
    copies = len(second) // len(first)
    truth = torch.arange(len(first), device=vectors[0].device).repeat_interleave(copies)
    return float(((vectors[1] @ vectors[0].T).argmax(1) == truth).float().mean())


def learning_rates(network: Descriptor, rate: float) -> list[dict[str, Any]]:
    """Parameter groups: early blocks learn at a third of the rate, the head at three times."""
    early = len(network.back) - 8
    blocks = [list(block.parameters()) for block in network.back]
    return [
        {"params": [one for block in blocks[:early] for one in block], "base": rate / 3},
        {"params": [one for block in blocks[early:] for one in block] + list(network.last.parameters()), "base": rate},
        {"params": list(network.head.parameters()), "base": rate * 3},
    ]


def train(options: argparse.Namespace) -> None:
    """The whole run; see the module's docstring."""
    out: Path = options.out
    out.mkdir(parents=True, exist_ok=True)
    store = out / "pictures"
    device: str = options.device
    if options.threads:
        torch.set_num_threads(options.threads)
    cv2.setNumThreads(1)
    pictures = gather(options.sources, store)
    rng = np.random.default_rng(7)
    files = rng.permutation(int(pictures.groups.max()) + 1)
    if len(files) < 4 * HELD_BACK:
        raise SystemExit(f"{len(files)} pictures are too few to train on: {4 * HELD_BACK} at least")
    held = np.isin(pictures.groups, files[:HELD_BACK])
    numbers = np.flatnonzero(~held)
    network = Descriptor(options.dim, options.frozen).to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    neighbours = find_neighbours(network, pictures, numbers, store, device)
    _, checked = np.unique(pictures.groups[held], return_index=True)
    checked = np.flatnonzero(held)[checked]
    stored_views = np.stack([weak(pictures[int(one)], rng, options.side) for one in checked])
    edited_views = np.concatenate(
        [make_views(pictures, np.repeat(one, 4), options.side, rng)[1] for one in checked[:, None]]
    )

    state: dict[str, Any] = {"elapsed": 0.0, "step": 0}
    saved = out / "state.pt"
    if saved.exists():
        state = torch.load(saved, map_location=device, weights_only=True)
        network.load_state_dict(state["network"])
    else:
        print("whitening the head", flush=True)
        both = [make_views(pictures, rng.choice(numbers, 64, replace=False), options.side, rng) for _ in range(40)]
        network.whiten(*(
            torch.cat([pooled_features(network, pair[i], device) for pair in both]) for i in range(2)
        ))  # fmt: skip
    average = copy.deepcopy(network)
    if "average" in state:
        average.load_state_dict(state["average"])
    optimiser = torch.optim.AdamW(learning_rates(network, options.rate), lr=0.0, weight_decay=1e-4)
    if "optimiser" in state:
        optimiser.load_state_dict(state["optimiser"])
    print(
        f"validation at step {state['step']}: {validate(network, stored_views, edited_views, device):.4f}", flush=True
    )

    batches = iter(torch.utils.data.DataLoader(
        PairBatches(out, numbers, neighbours, options.pairs, options.side), batch_size=None,
        num_workers=options.workers, prefetch_factor=4,
    ))  # fmt: skip
    network.train()
    step, elapsed = int(state["step"]), float(state["elapsed"])
    began = saved_at = time.monotonic()
    before = elapsed
    recent: list[tuple[float, float]] = []

    def save() -> None:
        whole = {
            "network": network.state_dict(), "average": average.state_dict(), "optimiser": optimiser.state_dict(),
            "elapsed": elapsed, "step": step,
        }  # fmt: skip
        torch.save(whole, out / "state.new")
        os.replace(out / "state.new", saved)

    while elapsed < options.minutes * 60:
        share = elapsed / (options.minutes * 60)
        factor = min(1.0, (step + 1) / 20) * (0.03 + 0.97 * 0.5 * (1 + math.cos(math.pi * share)))
        for group in optimiser.param_groups:
            group["lr"] = group["base"] * factor
        frames = next(batches).to(device)
        chosen = torch.rand(2 * options.pairs, device=device) < 0.2
        chosen[: options.pairs] = False
        with torch.autocast(device, torch.bfloat16):
            with torch.no_grad():
                features = network.start(normalised(frames), FeatureRestyle(chosen, int(torch.randint(1, 4, ()))))
            vectors = network.finish(features)
        loss, hits = contrastive(vectors[: options.pairs].float(), vectors[options.pairs :].float())
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(network.parameters(), 5.0)
        optimiser.step()
        step += 1
        elapsed = before + time.monotonic() - began
        with torch.no_grad():
            kept = min(DECAY, step / (step + 20))
            for mean, new in zip(average.parameters(), network.parameters(), strict=True):
                mean.lerp_(new, 1 - kept)
        recent.append((float(loss.detach()), hits))
        if step % 25 == 0:
            loss_mean, hit_mean = np.mean(recent[-25:], axis=0)
            print(
                f"step {step}, {elapsed / 60:.1f} min, {step * 2 * options.pairs / elapsed:.0f} views/s, "
                f"loss {loss_mean:.3f}, hits {hit_mean:.3f}", flush=True,
            )  # fmt: skip
        if time.monotonic() - saved_at > SAVE_S:
            save()
            saved_at = time.monotonic()
            print(f"validation at step {step}: {validate(average, stored_views, edited_views, device):.4f}", flush=True)
    save()
    torch.save(average.state_dict(), out / "descriptor.pt")
    print(f"done: {step} steps, validation {validate(average, stored_views, edited_views, device):.4f}")


def main() -> None:
    """Reads the options and trains."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sources", type=Path, nargs="+")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=60.0, help="of training, over all runs")
    parser.add_argument("--pairs", type=int, default=96, help="pictures in a batch")
    parser.add_argument("--side", type=int, default=160, help="pixels")
    parser.add_argument("--dim", type=int, default=256)
    parser.add_argument("--frozen", type=int, default=4, help="blocks of 16 that are not trained")
    parser.add_argument("--rate", type=float, default=7e-5, help="learning rate of the later blocks")
    parser.add_argument("--workers", type=int, default=1, help="processes that edit pictures")
    parser.add_argument("--threads", type=int, default=0, help="of the network on a CPU; 0 leaves it to torch")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    train(parser.parse_args())


if __name__ == "__main__":
    main()
