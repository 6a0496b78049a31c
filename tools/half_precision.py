"""Stores the large weights of an ONNX network as float16, each followed by a Cast: half the file, the same arithmetic.

ONNX Runtime folds the casts when it loads the network, so it runs in float32 at full speed.
"""

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

SMALLEST = 256
"""Elements; smaller tensors stay float32: they hold little and may be shapes or limits."""


def halve(model: onnx.ModelProto) -> onnx.ModelProto:
    """The network with float16 weights.

    Raises:
        ValueError: a weight lies outside the range of float16.
    """
    casts = []
    for tensor in model.graph.initializer:
        values = numpy_helper.to_array(tensor)
        if tensor.data_type != TensorProto.FLOAT or values.size < SMALLEST:
            continue
        halved = values.astype(np.float16)
        if not np.all(np.isfinite(halved)):
            raise ValueError(f"{tensor.name} does not fit into float16")
        name = tensor.name
        tensor.CopyFrom(numpy_helper.from_array(halved, f"{name}_half"))
        casts.append(helper.make_node("Cast", [f"{name}_half"], [name], to=TensorProto.FLOAT, name=f"{name}_cast"))
    nodes = [*casts, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    onnx.checker.check_model(model)
    return model
