"""Exports a trained descriptor to ONNX: with half-precision weights, and as static int8 (QDQ) for CPUs.

    python -m tools.descriptor.export FOLDER models/lite0-copy-2 [--side 160]

FOLDER is the one that ``tools.descriptor.train`` wrote; its pictures calibrate the int8 ranges. Writes
``….onnx`` and ``…-int8.onnx`` and prints their sizes, SHA-256, agreement with the trained network and pictures a second
on one thread.
"""

import argparse
import hashlib
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import onnxruntime
import torch
from numpy.typing import NDArray
from onnx import numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

from tools.descriptor.network import Descriptor, normalised
from tools.descriptor.pictures import Pictures
from tools.descriptor.views import strong, weak
from tools.half_precision import halve

CALIBRATION = 384
"""Pictures; half of them edited."""
LEAST_COSINE = {"half": 0.999, "int8": 0.95}


class _Frames(CalibrationDataReader):  # type: ignore[misc]
    def __init__(self, frames: NDArray[np.float32]) -> None:
        self._batches = iter(np.array_split(frames, len(frames) // 16))

    def get_next(self) -> dict[str, Any] | None:
        batch = next(self._batches, None)
        return None if batch is None else {"frames": batch}


def _examples(folder: Path, side: int, count: int, seed: int) -> NDArray[np.float32]:
    """float32[count, 3, side, side], normalised."""
    cv2.setNumThreads(1)
    pictures, rng = Pictures(folder / "pictures"), np.random.default_rng(seed)
    frames = []
    for place, number in enumerate(rng.integers(0, len(pictures), count)):
        picture = pictures[int(number)]
        others = [pictures[int(other)] for other in rng.integers(0, len(pictures), 3)]
        frames.append(strong(picture, rng, others, side) if place % 2 else weak(picture, rng, side))
    return np.ascontiguousarray(normalised(torch.from_numpy(np.stack(frames))).numpy())


def fold_padding(model: onnx.ModelProto) -> int:
    """Makes each padding with zeros before a convolution an attribute of the convolution; returns how many there were.

    TensorFlow pads unevenly where the stride is 2; ONNX convolutions can do so themselves, and a node of its own would
    part the quantised chain: it cost a fifth of the network's time.
    """
    held = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    held |= {
        node.output[0]: numpy_helper.to_array(node.attribute[0].t)
        for node in model.graph.node
        if node.op_type == "Constant" and node.attribute[0].name == "value"
    }
    readers = {name: node for node in model.graph.node for name in node.input}
    folded = []
    for pad in [node for node in model.graph.node if node.op_type == "Pad"]:
        conv = readers[pad.output[0]]
        amounts = held.get(pad.input[1])
        if conv.op_type != "Conv" or amounts is None or len(amounts) != 8 or amounts[[0, 1, 4, 5]].any():
            continue
        padding = next(one for one in conv.attribute if one.name == "pads")
        padding.ints[:] = [old + int(new) for old, new in zip(padding.ints, amounts[[2, 3, 6, 7]], strict=True)]
        conv.input[0] = pad.input[0]
        folded.append(pad)
    for pad in folded:
        model.graph.node.remove(pad)
    used = {name for node in model.graph.node for name in node.input}
    for tensor in [one for one in model.graph.initializer if one.name not in used]:
        model.graph.initializer.remove(tensor)
    onnx.checker.check_model(model)
    return len(folded)


def _check(path: Path, frames: NDArray[np.float32], expected: NDArray[np.float32], least: float) -> None:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    began = time.process_time()
    (got,) = session.run(None, {"frames": frames})
    speed = len(frames) / (time.process_time() - began)
    cosines = (got * expected).sum(axis=1) / np.linalg.norm(got, axis=1)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    print(
        f"{path}: {path.stat().st_size / 2**20:.1f} MiB, cosine to the trained network mean {cosines.mean():.4f}, "
        f"least {cosines.min():.4f}; {speed:.0f} pictures/s of one thread\nsha256: {digest}"
    )
    if cosines.mean() < least:
        raise SystemExit(f"{path} does not agree with the trained network")


def main() -> None:
    """Exports, checks and writes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("target", type=Path, help="without .onnx")
    parser.add_argument("--side", type=int, default=160)
    parser.add_argument("--dim", type=int, default=256)
    options = parser.parse_args()
    torch.set_num_threads(1)
    network = Descriptor(options.dim)
    finished = options.folder / "descriptor.pt"
    if finished.exists():
        network.load_state_dict(torch.load(finished, weights_only=True, map_location="cpu"))
    else:
        network.load_state_dict(
            torch.load(options.folder / "state.pt", weights_only=True, map_location="cpu")["average"]
        )
        print("the training is not finished: exporting its last state")
    network.eval()
    frames = _examples(options.folder, options.side, 64, seed=3)
    with torch.inference_mode():
        expected = network(torch.from_numpy(frames)).numpy()

    whole = options.target.with_suffix(".float32.onnx")
    torch.onnx.export(
        network,
        (torch.from_numpy(frames[:2]),),
        str(whole),
        input_names=["frames"],
        output_names=["descriptor"],
        dynamic_axes={"frames": {0: "n"}, "descriptor": {0: "n"}},
        opset_version=17,
        dynamo=False,
    )
    prepared = whole.with_suffix(".prepared.onnx")
    quant_pre_process(str(whole), str(prepared))
    simpler = onnx.load(str(prepared))
    print(f"{fold_padding(simpler)} paddings folded into convolutions")
    onnx.save(simpler, str(prepared))
    half = options.target.with_suffix(".onnx")
    onnx.save(halve(simpler), str(half))
    _check(half, frames, expected, LEAST_COSINE["half"])

    small = options.target.with_name(options.target.name + "-int8.onnx")
    quantize_static(
        str(prepared),
        str(small),
        _Frames(_examples(options.folder, options.side, CALIBRATION, seed=4)),
        quant_format=QuantFormat.QDQ,
        per_channel=True,
        weight_type=QuantType.QInt8,
        activation_type=QuantType.QUInt8,
        op_types_to_quantize=["Conv", "Add", "Clip"],
    )
    prepared.unlink()
    whole.unlink()
    _check(small, frames, expected, LEAST_COSINE["int8"])


if __name__ == "__main__":
    main()
