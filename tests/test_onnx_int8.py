"""Matrices of 8 bits: only those of weights, never what goes into a logarithm."""

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from speech_pareto.models import onnx_int8

WEIGHTS = np.random.default_rng(0).normal(size=(16, 16)).astype(np.float32)


def model(folder, nodes, **weights):
    """Write an ONNX file from x (1, 16) to y (1, 16)."""
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 16]) for name in "xy"]
    known = [numpy_helper.from_array(array, name) for name, array in weights.items()]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], known)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.save(made, folder / "model.onnx")
    return folder / "model.onnx"


def run(file, x):
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    return session.run(None, {"x": x})[0]


@pytest.mark.parametrize("numbers", [onnx_int8.DYNAMIC, onnx_int8.STATIC])
def test_quiet_bands_before_a_logarithm_keep_their_power(numbers, tmp_path):
    """Powers from 1e-6 to 1: 256 steps of the loudest would make the quiet ones nothing."""
    nodes = [
        helper.make_node("MatMul", ["x", "mel"], ["power"], "mel"),
        helper.make_node("Add", ["power", "floor"], ["above"], "add"),
        helper.make_node("Log", ["above"], ["log"], "log"),
        helper.make_node("MatMul", ["log", "w"], ["y"], "layer"),
    ]
    eye, floor = np.eye(16, dtype=np.float32), np.array([1e-10], np.float32)
    file, small = model(tmp_path, nodes, mel=eye, floor=floor, w=WEIGHTS), tmp_path / "small.onnx"
    assert onnx_int8.with_weights(file) == ["layer"]
    x = np.logspace(-6, 0, 16, dtype=np.float32)[None]
    onnx_int8.quantise(file, small, numbers, [{"x": x}])
    wanted, found = run(file, x), run(small, x)
    assert 0 < np.abs(found - wanted).max() < 0.05 * np.abs(wanted).max()


@pytest.mark.parametrize("numbers", [onnx_int8.DYNAMIC, onnx_int8.STATIC])
def test_a_file_without_matrices_of_weights_is_refused(numbers, tmp_path):
    nodes = [
        helper.make_node("Mul", ["w", "half"], ["made"], "made"),
        helper.make_node("MatMul", ["x", "made"], ["y"], "product"),
    ]
    file = model(tmp_path, nodes, w=WEIGHTS, half=np.array([0.5], np.float32))
    x = np.ones((1, 16), np.float32)
    with pytest.raises(ValueError, match="no product with a matrix of fp32 weights"):
        onnx_int8.quantise(file, tmp_path / "small.onnx", numbers, [{"x": x}])
