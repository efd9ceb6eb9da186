"""ONNX files with matrices of 8 bits, by onnxruntime's quantisation.

Weights W and activations X become whole numbers by a scale and a zero point each,

    X W ≈ s_x s_w (round(X / s_x) - z_x) (round(W / s_w) - z_w)

Jacob et al., arXiv 1712.05877. `int8-dynamic` takes s_x and z_x from the least and largest number
of each input as it comes, `int8-static` from those that recordings of training gave. Both take only
products with a matrix of weights: those of attention and convolutions stay in fp32. Ours, where
nothing says: unsigned bytes for both factors, which no processor adds up with saturation.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import onnx

FP32, DYNAMIC, STATIC = "fp32", "int8-dynamic", "int8-static"
MADE = {DYNAMIC: "DynamicQuantizeLinear", STATIC: "QuantizeLinear"}  # operators of such a file


def quantise(
    source: Path, target: Path, numbers: str, recordings: Iterable[dict[str, np.ndarray]] = ()
) -> None:
    """Write the ONNX file `source` with matrices of 8 bits to `target`; `numbers` says how.

    `recordings` are inputs by name, for `int8-static`. ValueError for a file without a product that
    either can take: the matrices of a student of few bits come out of other operators.
    """
    from onnxruntime import quantization

    kind = quantization.QuantType.QUInt8
    settings = {"op_types_to_quantize": ["MatMul"], "weight_type": kind}
    settings["nodes_to_exclude"] = before_logarithms(source)
    if numbers == DYNAMIC:
        quantization.quantize_dynamic(source, target, **settings)
    else:
        settings |= {"activation_type": kind, "extra_options": {"MatMulConstBOnly": True}}
        quantization.quantize_static(source, target, _reader(recordings), **settings)
    count = [sum(node.op_type == MADE[numbers] for node in nodes(x)) for x in (source, target)]
    if count[0] == count[1]:
        raise ValueError("the file has no product with a matrix of fp32 weights")


def nodes(file: Path) -> list:
    """Return the nodes of an ONNX file."""
    return list(onnx.load(file, load_external_data=False).graph.node)


def before_logarithms(file: Path) -> list[str]:
    """Return the names of the products in an ONNX file whose results go into a logarithm.

    They add up powers of all orders of magnitude, of which 8 bits would leave the loudest.
    """
    known = nodes(file)
    makes = {output: node for node in known for output in node.output}
    left, found = [node for node in known if node.op_type == "Log"], {}
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
