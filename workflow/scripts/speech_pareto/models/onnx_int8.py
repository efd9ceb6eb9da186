"""ONNX files with matrices of 8 bits, by onnxruntime's quantisation.

Weights W and activations X become whole numbers by a scale and a zero point each,

    X W ≈ s_x s_w (round(X / s_x) - z_x) (round(W / s_w) - z_w)

Jacob et al., arXiv 1712.05877. `int8-dynamic` takes s_x and z_x from the least and largest number
of each input as it comes, `int8-static` from those that recordings gave; it rounds what a product
gives, too, so that the next operator may read whole numbers. Both take only products with a matrix
of weights: those of attention and convolutions stay in fp32. Ours, where nothing says: unsigned
bytes for both factors, which no processor adds up with saturation.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import onnx

FP32, DYNAMIC, STATIC = "fp32", "int8-dynamic", "int8-static"


def quantise(
    source: Path, target: Path, numbers: str, recordings: Iterable[dict[str, np.ndarray]] = ()
) -> None:
    """Write the ONNX file `source` with matrices of 8 bits to `target`; `numbers` says how.

    `recordings` are inputs by name, for `int8-static`. ValueError for a file without a product that
    either can take: the matrices of a student of few bits come out of other operators.
    """
    from onnxruntime import quantization

    products = with_weights(source)
    if not products:
        raise ValueError("the file has no product with a matrix of fp32 weights")
    kind = quantization.QuantType.QUInt8
    settings = {"nodes_to_quantize": products, "op_types_to_quantize": ["MatMul"]}
    settings["weight_type"] = kind
    if numbers == DYNAMIC:
        quantization.quantize_dynamic(source, target, **settings)
    else:
        settings["activation_type"] = kind
        quantization.quantize_static(source, target, _reader(recordings), **settings)


def with_weights(file: Path) -> list[str]:
    """Return the names of an ONNX file's products with a stored matrix, none before a logarithm."""
    graph = onnx.load(file, load_external_data=False).graph
    stored = {tensor.name for tensor in graph.initializer}
    apart = before_logarithms(graph)
    products = [node for node in graph.node if node.op_type == "MatMul" and node.input[1] in stored]
    return [node.name for node in products if node.name not in apart]


def before_logarithms(graph: onnx.GraphProto) -> list[str]:
    """Return the names of a graph's products whose results go into a logarithm.

    They add up powers of all orders of magnitude, of which 8 bits would leave the loudest.
    """
    makes = {output: node for node in graph.node for output in node.output}
    left, found = [node for node in graph.node if node.op_type == "Log"], {}
    while left:
        for name in left.pop().input:
            if (node := makes.get(name)) is not None and node.name not in found:
                found[node.name] = node.op_type
                left.append(node)
    return [name for name, kind in found.items() if kind == "MatMul"]


def _reader(recordings: Iterable[dict[str, np.ndarray]]):
    """Return the recordings as onnxruntime asks for them."""
    from onnxruntime.quantization import CalibrationDataReader

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self.left: Iterator = iter(recordings)

        def get_next(self) -> dict[str, np.ndarray] | None:
            return next(self.left, None)

    return Reader()
