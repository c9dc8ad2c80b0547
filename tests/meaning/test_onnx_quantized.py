"""Quantized layers of ONNX: named for what they are, covered once, and computed as onnxruntime does."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from checked_equations import checked
from onnx import TensorProto, helper, numpy_helper
from rebuild import rebuilt

import wexport
from wexport.evaluate import evaluate

Array = np.ndarray[Any, Any]
MS = "com.microsoft"

# Relative to the largest output. Numbers are float32 there and float64 here; all roundings to integers are the same.
TOLERANCE = 1e-5


@dataclass(frozen=True)
class Form:
    """A model of few nodes: what it stores, its inputs, its layers' tensors with their axes."""

    nodes: Sequence[onnx.NodeProto]
    stored: Mapping[str, Any]
    inputs: Mapping[str, Array]
    tensors: Mapping[str, str]
    outputs: Sequence[str] = ("y",)

    def model(self) -> onnx.ModelProto:
        inputs = [
            helper.make_tensor_value_info(k, helper.np_dtype_to_tensor_dtype(v.dtype), v.shape)
            for k, v in self.inputs.items()
        ]
        outputs = [onnx.ValueInfoProto(name=name) for name in self.outputs]
        graph = helper.make_graph(self.nodes, "g", inputs, outputs, [tensor(k, v) for k, v in self.stored.items()])
        imports = [helper.make_opsetid("", 21), helper.make_opsetid(MS, 1)]
        return helper.make_model(graph, opset_imports=imports, ir_version=10)

    def wanted(self) -> list[Array]:
        options = ort.SessionOptions()
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.intra_op_num_threads = 1  # with more, a recurrent state is rounded in parts
        return list(ort.InferenceSession(self.model().SerializeToString(), options).run(None, dict(self.inputs)))


def tensor(name: str, value: Any) -> TensorProto:
    if isinstance(value, TensorProto):
        found = TensorProto()
        found.CopyFrom(value)
        found.name = name
        return found
    return numpy_helper.from_array(np.asarray(value), name)


def typed(values: Array, data_type: int) -> TensorProto:
    """Numbers of a type that NumPy does not have."""
    return helper.make_tensor("", data_type, values.shape, values.reshape(-1).tolist())


def node(op: str, inputs: str, outputs: str = "y", domain: str = "", **attributes: Any) -> onnx.NodeProto:
    names = ["" if i == "_" else i for i in inputs.split()]
    return helper.make_node(op, names, outputs.split(), domain=domain, **attributes)


RNG = np.random.default_rng(7)
START = RNG.bit_generator.state  # of every form


def real(*shape: int) -> Array:
    return RNG.normal(size=shape).astype(np.float32)


def ints(*shape: int, low: int = -127, high: int = 128, dtype: Any = np.int8) -> Array:
    return RNG.integers(low, high, shape).astype(dtype)


def scales(*shape: int) -> Array:
    return (0.01 + 0.02 * RNG.random(shape)).astype(np.float32)


FORMS: dict[str, Callable[[], Form]] = {}


def form(function: Callable[[], Form]) -> Callable[[], Form]:
    FORMS[function.__name__] = function
    return function


def dequantized(name: str, **attributes: Any) -> onnx.NodeProto:
    return node("DequantizeLinear", f"{name} {name}_s {name}_z", f"{name}_d", **attributes)


# -- weights behind DequantizeLinear -----------------------------------------------------------------------------------


@form
def gemm_of_one_scale() -> Form:
    nodes = [dequantized("w"), dequantized("c"), node("Gemm", "x w_d c_d")]
    stored = {"w": ints(4, 3), "w_s": scales(), "w_z": np.int8(3)}
    stored |= {"c": ints(3, low=-900, high=900, dtype=np.int32), "c_s": scales(), "c_z": np.int32(0)}
    tensors = {"kernel": "in out", "kernel_scale": "", "kernel_zero_point": ""}
    return Form(nodes, stored, {"x": real(2, 4)}, tensors | {"bias": "out", "bias_scale": "", "bias_zero_point": ""})


@form
def gemm_turned_with_a_scale_for_each_output() -> Form:
    nodes = [dequantized("w", axis=0), dequantized("c", axis=0), node("Gemm", "x w_d c_d", transB=1)]
    stored = {"w": ints(3, 4), "w_s": scales(3), "w_z": ints(3, low=-5, high=5)}
    stored |= {"c": ints(3, low=-900, high=900, dtype=np.int32), "c_s": scales(3), "c_z": np.zeros(3, np.int32)}
    tensors = {"kernel": "in out", "kernel_scale": "out", "kernel_zero_point": "out"}
    tensors |= {"bias": "out", "bias_scale": "out", "bias_zero_point": "out"}
    return Form(nodes, stored, {"x": real(2, 4)}, tensors)


@form
def matmul_without_a_zero_point() -> Form:
    nodes = [node("DequantizeLinear", "w w_s", "w_d", axis=-1), node("MatMul", "x w_d")]
    stored = {"w": ints(4, 3), "w_s": scales(3)}
    return Form(nodes, stored, {"x": real(2, 5, 4)}, {"kernel": "in out", "kernel_scale": "out"})


@form
def matmul_of_onnxruntime_domain() -> Form:
    dequantize = node("DequantizeLinear", "w w_s w_z", "w_d", MS, axis=1)
    stored = {"w": ints(4, 3, low=0, high=65535, dtype=np.uint16), "w_s": scales(3) / 256}
    stored |= {"w_z": ints(3, low=30000, high=33000, dtype=np.uint16)}
    tensors = {"kernel": "in out", "kernel_scale": "out", "kernel_zero_point": "out"}
    return Form([dequantize, node("MatMul", "x w_d")], stored, {"x": real(2, 4)}, tensors)


def _blocked(data_type: int, low: int, high: int) -> Form:
    nodes = [dequantized("w", axis=0, block_size=4), node("MatMul", "x w_d")]
    stored = {"w": typed(ints(8, 3, low=low, high=high), data_type), "w_s": scales(2, 3)}
    stored["w_z"] = typed(ints(2, 3, low=low, high=high), data_type)
    tensors = {"kernel": "in out", "kernel_scale": "group out", "kernel_zero_point": "group out"}
    return Form(nodes, stored, {"x": real(2, 8)}, tensors)


@form
def matmul_in_blocks_of_int4() -> Form:
    return _blocked(TensorProto.INT4, -8, 8)


@form
def matmul_in_blocks_of_uint4() -> Form:
    return _blocked(TensorProto.UINT4, 0, 16)


@form
def gemm_turned_in_blocks() -> Form:
    nodes = [node("DequantizeLinear", "w w_s", "w_d", axis=1, block_size=4), node("Gemm", "x w_d", transB=1)]
    stored = {"w": ints(3, 8), "w_s": scales(3, 2)}
    return Form(nodes, stored, {"x": real(2, 8)}, {"kernel": "in out", "kernel_scale": "group out"})


@form
def matmul_of_float8() -> Form:
    nodes = [node("DequantizeLinear", "w w_s", "w_d"), node("MatMul", "x w_d")]
    stored = {"w": typed(real(4, 3), TensorProto.FLOAT8E4M3FN), "w_s": scales()}
    return Form(nodes, stored, {"x": real(2, 4)}, {"kernel": "in out", "kernel_scale": ""})


def _conv(op: str, shape: Sequence[int], outs: int, axis: int, axes: str, scale: str, **attributes: Any) -> Form:
    nodes = [dequantized("w", axis=axis), dequantized("c", axis=0), node(op, "x w_d c_d", **attributes)]
    n = shape[axis]
    stored = {"w": ints(*shape), "w_s": scales(n), "w_z": ints(n, low=-5, high=5)}
    stored |= {"c": ints(outs, low=-900, high=900, dtype=np.int32), "c_s": scales(), "c_z": np.int32(0)}
    tensors = {"kernel": axes, "kernel_scale": scale, "kernel_zero_point": scale}
    tensors |= {"bias": "out", "bias_scale": "", "bias_zero_point": ""}
    return Form(nodes, stored, {"x": real(2, 4, 6, 5)}, tensors)


@form
def convolution() -> Form:
    return _conv("Conv", (3, 4, 2, 3), 3, 0, "height width in out", "out", pads=[1, 0, 0, 1])


@form
def grouped_convolution() -> Form:
    return _conv("Conv", (6, 2, 2, 3), 6, 0, "height width in out", "out", group=2)


@form
def depthwise_convolution() -> Form:
    return _conv("Conv", (8, 1, 2, 3), 8, 0, "height width in multiplier", "in multiplier", group=4)


@form
def transposed_convolution() -> Form:
    return _conv("ConvTranspose", (4, 3, 2, 3), 3, 1, "height width in out", "out", strides=[2, 1])


@form
def embedding() -> Form:
    nodes = [dequantized("w", axis=0), node("Gather", "w_d i")]
    stored = {"w": ints(7, 3), "w_s": scales(7), "w_z": ints(7, low=-5, high=5)}
    tensors = {"embedding": "token dim", "embedding_scale": "token", "embedding_zero_point": "token"}
    return Form(nodes, stored, {"i": np.array([[0, 6, 2]], np.int64)}, tensors)


@form
def embedding_dequantized_behind_it() -> Form:
    nodes = [node("Gather", "w i", "g"), node("DequantizeLinear", "g w_s w_z")]
    stored = {"w": ints(7, 3, low=0, high=255, dtype=np.uint8), "w_s": scales(), "w_z": np.uint8(120)}
    inputs = {"i": np.array([[0, 6, 2]], np.int64)}
    return Form(nodes, stored, inputs, {"embedding": "token dim", "scale": "", "zero_point": ""})


GATES = ("input", "forget", "cell", "output")


def _gated(axes: Mapping[str, str], prefixes: Sequence[str] = ("",)) -> dict[str, str]:
    return {f"{p}{g}.{name}": a for p in prefixes for g in GATES for name, a in axes.items()}


@form
def lstm() -> Form:
    nodes = [dequantized("w", axis=1), dequantized("r"), node("LSTM", "x w_d r_d b", "y h", hidden_size=3)]
    stored = {"w": ints(1, 12, 4), "w_s": scales(12), "w_z": ints(12, low=-5, high=5)}
    stored |= {"r": ints(1, 12, 3), "r_s": scales(), "r_z": np.int8(2), "b": real(1, 24)}
    axes = {"kernel": "in unit", "kernel_scale": "unit", "kernel_zero_point": "unit", "recurrent": "hidden unit"}
    tensors = _gated({**axes, "bias": "unit", "recurrent_bias": "unit"})
    tensors |= {"recurrent_scale": "", "recurrent_zero_point": ""}
    return Form(nodes, stored, {"x": real(5, 2, 4)}, tensors, ("y", "h"))


@form
def lstm_in_two_directions() -> Form:
    lstm_node = node("LSTM", "x w_d r_d", "y h", hidden_size=3, direction="bidirectional")
    nodes = [node("DequantizeLinear", f"{n} {n}_s", f"{n}_d", axis=1) for n in "wr"]
    stored = {"w": ints(2, 12, 4), "w_s": scales(12), "r": ints(2, 12, 3), "r_s": scales(12)}
    tensors = _gated({"kernel": "in unit", "recurrent": "hidden unit"}, ("forward.", "backward."))
    tensors |= _gated({"kernel_scale": "unit", "recurrent_scale": "unit"})
    return Form([*nodes, lstm_node], stored, {"x": real(5, 2, 4)}, tensors, ("y", "h"))


@form
def one_kernel_of_two_layers() -> Form:
    nodes = [dequantized("w"), node("MatMul", "x w_d", "a"), node("Relu", "a", "b"), node("MatMul", "b w_d")]
    stored = {"w": ints(4, 4), "w_s": scales(), "w_z": np.int8(3)}
    tensors = {"kernel": "in out", "kernel_scale": "", "kernel_zero_point": ""}
    return Form(nodes, stored, {"x": real(2, 4)}, tensors)


# -- what is rounded when the model runs -------------------------------------------------------------------------------

PAIR = {"scale": "", "zero_point": ""}


def _there_and_back(stored: Mapping[str, Any], tensors: Mapping[str, str], x: Array, **attributes: Any) -> Form:
    names = "s z" if "z" in stored else "s"
    quantize = node("QuantizeLinear", f"x {names}", "q", **attributes)
    back = {k: v for k, v in attributes.items() if k in {"axis", "block_size"}}
    return Form([quantize, node("DequantizeLinear", f"q {names}", **back)], stored, {"x": x}, tensors, ("y",))


@form
def rounded_to_int8() -> Form:
    return _there_and_back({"s": np.float32(0.02), "z": np.int8(-7)}, PAIR, real(2, 40) * 2)


@form
def rounded_to_int4() -> Form:
    zero = typed(np.asarray(-3), TensorProto.INT4)
    return _there_and_back({"s": np.float32(0.2), "z": zero}, PAIR, real(2, 40))


@form
def rounded_to_float8() -> Form:
    zero = typed(np.asarray(0.0), TensorProto.FLOAT8E5M2)
    return _there_and_back({"s": np.float32(1e-4), "z": zero}, PAIR, real(2, 40) * 9)


@form
def rounded_by_channel() -> Form:
    stored = {"s": scales(3), "z": ints(3, low=0, high=255, dtype=np.uint8)}
    return _there_and_back(stored, {"scale": "channel", "zero_point": "channel"}, real(2, 3, 5), axis=1)


@form
def halves_go_to_the_even_side() -> Form:
    x = (np.arange(-9, 10, dtype=np.float32) / 2).reshape(1, -1)
    return _there_and_back({"s": np.float32(1), "z": np.uint8(10)}, PAIR, x)


@form
def numbers_of_a_range_of_their_own() -> Form:
    nodes = [node("DynamicQuantizeLinear", "x", "q s z"), node("DequantizeLinear", "q s z")]
    return Form(nodes, {}, {"x": real(3, 7)}, {}, ("y", "q", "s", "z"))


@form
def numbers_of_a_range_that_ends_above_zero() -> Form:
    nodes = [node("DynamicQuantizeLinear", "x", "q s z"), node("DequantizeLinear", "q s z")]
    return Form(nodes, {}, {"x": np.abs(real(3, 7)) + 1}, {}, ("y", "q", "s", "z"))


@form
def slope_behind_numbers_of_onnxruntime_domain() -> Form:
    nodes = [node("QuantizeLinear", "x s z", "q", MS), node("DequantizeLinear", "q s z", "d", MS), node("PRelu", "d a")]
    stored = {"s": np.float32(0.03), "z": np.int8(-7), "a": real(3, 1, 1)}
    return Form(nodes, stored, {"x": real(2, 3, 4, 4)}, {**PAIR, "alpha": "channel"})


@form
def kernel_that_is_rounded_when_the_model_runs() -> Form:
    nodes = [node("QuantizeLinear", "weight w_s w_z", "w_q"), node("DequantizeLinear", "w_q w_s w_z", "w_d")]
    stored = {"weight": real(3, 4), "w_s": scales(), "w_z": np.int8(3)}
    tensors = {"kernel": "axis_1 axis_2", "scale": "", "zero_point": ""}
    return Form([*nodes, node("Gemm", "x w_d", transB=1)], stored, {"x": real(2, 4)}, tensors)


@form
def operand_of_no_layer() -> Form:
    nodes = [dequantized("w"), node("Add", "x w_d")]
    stored = {"w": ints(4), "w_s": scales(), "w_z": np.int8(3)}
    return Form(nodes, stored, {"x": real(2, 4)}, {"operand": "axis_1", **PAIR})


# -- layers on integers ------------------------------------------------------------------------------------------------


def _bytes(*shape: int) -> Array:
    return ints(*shape, low=0, high=256, dtype=np.uint8)


@form
def integer_product() -> Form:
    stored = {"w": ints(4, 3), "w_z": ints(3, low=-5, high=5)}
    inputs = {"x": _bytes(2, 4), "z": np.asarray(99, np.uint8)}
    return Form([node("MatMulInteger", "x w z w_z")], stored, inputs, {"kernel": "in out", "kernel_zero_point": "out"})


@form
def integer_product_of_two_inputs() -> Form:
    inputs = {"x": _bytes(2, 4, 5), "w": _bytes(2, 5, 3), "z": np.asarray(99, np.uint8)}
    return Form([node("MatMulInteger", "x w z")], {}, inputs, {})


@form
def integer_convolution() -> Form:
    stored = {"w": _bytes(3, 4, 2, 2), "w_z": np.uint8(100)}
    inputs = {"x": _bytes(2, 4, 6, 5), "z": np.asarray(99, np.uint8)}
    tensors = {"kernel": "height width in out", "kernel_zero_point": ""}
    return Form([node("ConvInteger", "x w z w_z", pads=[1, 1, 1, 1])], stored, inputs, tensors)


def _ends(first: Any, last: Any) -> dict[str, Any]:
    return {"x_s": np.float32(0.02), "x_z": first, "y_s": np.float32(0.11), "y_z": last}


OUTER = {"input_scale": "", "input_zero_point": "", "output_scale": "", "output_zero_point": ""}


@form
def quantized_product() -> Form:
    stored = {"w": ints(4, 3), "w_s": scales(3), "w_z": ints(3, low=-5, high=5), **_ends(np.uint8(99), np.uint8(120))}
    tensors = {"kernel": "in out", "kernel_scale": "out", "kernel_zero_point": "out", **OUTER}
    return Form([node("QLinearMatMul", "x x_s x_z w w_s w_z y_s y_z")], stored, {"x": _bytes(5, 4)}, tensors)


@form
def quantized_product_of_two_inputs() -> Form:
    stored = {"w_s": np.float32(0.03), "w_z": np.uint8(101), **_ends(np.uint8(99), np.uint8(120))}
    tensors = {f"input_{i}_{w}": "" for i in (1, 2) for w in PAIR} | {"output_scale": "", "output_zero_point": ""}
    inputs = {"x": _bytes(5, 4), "w": _bytes(4, 3)}
    return Form([node("QLinearMatMul", "x x_s x_z w w_s w_z y_s y_z")], stored, inputs, tensors)


def _quantized_conv(shape: Sequence[int], axes: str, scale: str, **attributes: Any) -> Form:
    n = shape[0]
    stored = {"w": ints(*shape), "w_s": scales(n), "w_z": np.zeros(n, np.int8), **_ends(np.uint8(99), np.uint8(120))}
    stored["c"] = ints(n, low=-900, high=900, dtype=np.int32)
    tensors = {"kernel": axes, "kernel_scale": scale, "kernel_zero_point": scale, "bias": "out", **OUTER}
    nodes = [node("QLinearConv", "x x_s x_z w w_s w_z y_s y_z c", **attributes)]
    return Form(nodes, stored, {"x": _bytes(2, 4, 6, 5)}, tensors)


@form
def quantized_convolution() -> Form:
    return _quantized_conv((3, 4, 2, 2), "height width in out", "out", pads=[1, 1, 1, 1])


@form
def quantized_depthwise_convolution() -> Form:
    return _quantized_conv((8, 1, 2, 2), "height width in multiplier", "in multiplier", group=4)


@form
def quantized_product_of_given_scales() -> Form:
    stored = {"w": ints(4, 3), "w_s": scales(3), "w_z": ints(3, low=-5, high=5)}
    inputs = {"x": _bytes(5, 4), **{k: np.asarray(v) for k, v in _ends(np.uint8(99), np.uint8(120)).items()}}
    tensors = {"kernel": "in out", "kernel_scale": "out", "kernel_zero_point": "out"}
    return Form([node("QLinearMatMul", "x x_s x_z w w_s w_z y_s y_z")], stored, inputs, tensors)


@form
def rounded_by_a_given_scale() -> Form:
    inputs = {"x": real(2, 40), "s": np.asarray(0.03, np.float32), "z": np.asarray(-7, np.int8)}
    nodes = [node("QuantizeLinear", "x s z", "q"), node("DequantizeLinear", "q s z")]
    return Form(nodes, {}, inputs, {})


def _quantized_gemm(out: bool) -> Form:
    stored = {"w": ints(3, 4), "w_s": scales(3), "w_z": np.zeros(3, np.int8), **_ends(np.int8(9), np.int8(-20))}
    stored["c"] = ints(3, low=-900, high=900, dtype=np.int32)
    tensors = {"kernel": "in out", "kernel_scale": "out", "kernel_zero_point": "out", "bias": "out", **OUTER}
    names = "x x_s x_z w w_s w_z c y_s y_z"
    if not out:
        names = names.removesuffix(" y_s y_z")
        stored = {k: v for k, v in stored.items() if k not in {"y_s", "y_z"}}
        tensors = {k: v for k, v in tensors.items() if not k.startswith("output")}
    return Form([node("QGemm", names, domain=MS, transB=1, alpha=1.5)], stored, {"x": ints(5, 4)}, tensors)


@form
def quantized_gemm() -> Form:
    return _quantized_gemm(True)


@form
def quantized_gemm_of_real_results() -> Form:
    return _quantized_gemm(False)


@form
def integer_product_of_real_results() -> Form:
    stored = {"w": ints(4, 3), "w_s": scales(3), "w_z": ints(3, low=-5, high=5), "c": real(3)}
    stored |= {"x_s": np.float32(0.02), "x_z": np.uint8(99)}
    tensors = {"kernel": "in out", "kernel_scale": "out", "kernel_zero_point": "out", "bias": "out"}
    tensors |= {"input_scale": "", "input_zero_point": ""}
    return Form(
        [node("MatMulIntegerToFloat", "x w x_s w_s x_z w_z c", domain=MS)], stored, {"x": _bytes(5, 4)}, tensors
    )


def _alone(op: str, x: Array, **attributes: Any) -> Form:
    nodes = [node(op, "x x_s x_z y_s y_z", domain=MS, **attributes)]
    stored = {**_ends(np.uint8(120), np.uint8(90)), "y_s": np.float32(0.015)}
    return Form(nodes, stored, {"x": x}, OUTER)


@form
def quantized_sigmoid() -> Form:
    return _alone("QLinearSigmoid", _bytes(2, 50))


@form
def quantized_leaky_relu() -> Form:
    return _alone("QLinearLeakyRelu", _bytes(2, 50), alpha=0.2)


@form
def quantized_pool() -> Form:
    return _alone("QLinearAveragePool", _bytes(2, 3, 6, 6), kernel_shape=[2, 2], strides=[2, 2], pads=[0, 0, 0, 0])


@form
def quantized_global_pool() -> Form:
    return _alone("QLinearGlobalAveragePool", _bytes(2, 3, 6, 6))


@form
def quantized_softmax() -> Form:
    stored = {"x_s": np.float32(0.02), "x_z": np.uint8(120), "y_s": np.float32(1 / 256), "y_z": np.uint8(0)}
    nodes = [node("QLinearSoftmax", "x x_s x_z y_s y_z", domain=MS, opset=13, axis=-1)]
    return Form(nodes, stored, {"x": _bytes(2, 9)}, OUTER)


def _two(op: str, names: str, inputs: Mapping[str, Array], **attributes: Any) -> Form:
    stored = {"w_s": np.float32(0.03), "w_z": np.uint8(101), **_ends(np.uint8(99), np.uint8(120))}
    tensors = {f"input_{i}_{w}": "" for i in (1, 2) for w in PAIR} | {"output_scale": "", "output_zero_point": ""}
    return Form([node(op, names, domain=MS, **attributes)], stored, inputs, tensors)


ADDED = "x x_s x_z w w_s w_z y_s y_z"


@form
def quantized_sum() -> Form:
    return _two("QLinearAdd", ADDED, {"x": _bytes(5, 4), "w": _bytes(4)})


@form
def quantized_factors() -> Form:
    return _two("QLinearMul", ADDED, {"x": _bytes(5, 4), "w": _bytes(4)})


@form
def quantized_sum_with_a_stored_operand() -> Form:
    found = _two("QLinearAdd", ADDED, {"x": _bytes(5, 4)})
    return Form(found.nodes, {**found.stored, "w": _bytes(4)}, found.inputs, {**found.tensors, "operand": "axis_1"})


@form
def quantized_sum_with_a_stored_operand_first() -> Form:
    found = _two("QLinearAdd", "w w_s w_z x x_s x_z y_s y_z", {"x": _bytes(5, 4)})
    return Form(found.nodes, {**found.stored, "w": _bytes(4)}, found.inputs, {**found.tensors, "operand": "axis_1"})


@form
def quantized_concat() -> Form:
    return _two("QLinearConcat", "y_s y_z x x_s x_z w w_s w_z", {"x": _bytes(5, 4), "w": _bytes(5, 2)}, axis=1)


# -- onnxruntime's own kernels -----------------------------------------------------------------------------------------


def _few_bits(bits: int, rows: int, zero: bool, flat: bool = False, bias: bool = False) -> Form:
    groups = -(-rows // 16)
    stored: dict[str, Any] = {"w": _bytes(3, groups, 2 * bits), "w_s": scales(3, groups)}
    tensors = {"kernel": "(group block) out", "kernel_scale": "group out"}
    if zero:
        stored["w_z"] = _bytes(3, -(-groups * bits // 8))
        tensors["kernel_zero_point"] = "group out"
    if flat:
        stored |= {k: v.reshape(-1) for k, v in stored.items() if k != "w"}
    names = f"x w w_s {'w_z' if zero else '_'}"
    if bias:
        stored["c"], names, tensors["bias"] = real(3), f"{names} _ c", "out"
    kernel = node("MatMulNBits", names, domain=MS, K=rows, N=3, bits=bits, block_size=16)
    return Form([kernel], stored, {"x": real(2, rows)}, tensors)


FORMS |= {
    "four_bits": lambda: _few_bits(4, 32, zero=False),
    "four_bits_with_zero_points": lambda: _few_bits(4, 48, zero=True),
    "four_bits_of_a_padded_kernel": lambda: _few_bits(4, 21, zero=True, bias=True),
    "four_bits_stored_flat": lambda: _few_bits(4, 48, zero=True, flat=True),
    "eight_bits": lambda: _few_bits(8, 21, zero=False),
    "eight_bits_with_zero_points": lambda: _few_bits(8, 32, zero=True),
    "two_bits": lambda: _few_bits(2, 32, zero=False),
    "two_bits_with_zero_points": lambda: _few_bits(2, 80, zero=True),
}


def _table(quant_type: int) -> Form:
    stored = {"w": _bytes(27), "w_s": scales(4)}
    kernel = node("MatMulBnb4", "x w w_s", domain=MS, K=18, N=3, block_size=16, quant_type=quant_type)
    return Form([kernel], stored, {"x": real(2, 18)}, {"kernel": "byte", "kernel_scale": "group"})


FORMS |= {"normal_float4": lambda: _table(1), "float4_of_bitsandbytes": lambda: _table(0)}


def _rows(data: Any, blocks: Mapping[str, Any], tensors: Mapping[str, str], **attributes: Any) -> Form:
    names = f"w i w_s{' w_z' if 'w_z' in blocks else ''}"
    gather = node("GatherBlockQuantized", names, domain=MS, gather_axis=0, quantize_axis=1, block_size=16, **attributes)
    inputs = {"i": np.array([[0, 6, 2]], np.int64)}
    return Form([gather], {"w": data, **blocks}, inputs, {"embedding": "token dim", **tensors})


@form
def embedding_in_blocks_of_four_bits() -> Form:
    return _rows(_bytes(7, 16), {"w_s": scales(7, 2)}, {"embedding_scale": "token group"}, bits=4)


@form
def embedding_in_blocks_with_zero_points() -> Form:
    blocks = {"w_s": scales(7, 3), "w_z": _bytes(7, 2)}
    tensors = {"embedding_scale": "token group", "embedding_zero_point": "token group"}
    return _rows(_bytes(7, 24), blocks, tensors, bits=4)


@form
def embedding_in_blocks_of_int4() -> Form:
    data = typed(ints(7, 32, low=-8, high=8), TensorProto.INT4)
    return _rows(data, {"w_s": scales(7, 2)}, {"embedding_scale": "token group"}, bits=4)


@form
def product_whose_input_is_rounded() -> Form:
    stored = {"w": ints(6, 3), "w_s": scales(3), "w_z": ints(3, low=-5, high=5), "c": real(3)}
    tensors = {"kernel": "in out", "kernel_scale": "out", "kernel_zero_point": "out", "bias": "out"}
    return Form([node("DynamicQuantizeMatMul", "x w w_s w_z c", domain=MS)], stored, {"x": real(4, 6)}, tensors)


def _rounded_lstm(directions: int, each: bool) -> Form:
    shape = (directions, 12) if each else (directions,)
    stored = {"w": ints(directions, 4, 12), "r": ints(directions, 3, 12), "b": real(directions, 24)}
    for name in "wr":
        stored |= {f"{name}_s": scales(*shape), f"{name}_z": np.zeros(shape, np.int8)}
    way = {1: "forward", 2: "bidirectional"}[directions]
    names = "x w r b _ _ _ _ w_s w_z r_s r_z"
    prefixes = ("forward.", "backward.") if directions == 2 else ("",)
    tensors = _gated(
        {"kernel": "in unit", "recurrent": "hidden unit", "bias": "unit", "recurrent_bias": "unit"}, prefixes
    )
    own = {f"{role}_{word}" for role in ("kernel", "recurrent") for word in PAIR}
    tensors |= _gated(dict.fromkeys(own, "unit"), prefixes) if each else {f"{p}{o}": "" for p in prefixes for o in own}
    lstm_node = node("DynamicQuantizeLSTM", names, "y h c", MS, hidden_size=3, direction=way)
    return Form([lstm_node], stored, {"x": real(5, 2, 4)}, tensors, ("y", "h", "c"))


FORMS |= {
    "rounded_lstm": lambda: _rounded_lstm(1, each=False),
    "rounded_lstm_with_a_scale_for_each_unit": lambda: _rounded_lstm(1, each=True),
    "rounded_lstm_in_two_directions": lambda: _rounded_lstm(2, each=False),
    "rounded_lstm_in_two_directions_with_a_scale_for_each_unit": lambda: _rounded_lstm(2, each=True),
}

# -- the tests ---------------------------------------------------------------------------------------------------------


Made = tuple[Form, Path, wexport.Bundle]


@pytest.fixture(params=FORMS, scope="module")
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Made]:
    RNG.bit_generator.state = START
    found = FORMS[request.param]()
    folder = tmp_path_factory.mktemp("quantized")
    onnx.save(found.model(), folder / "m.onnx")
    wexport.export(folder / "m.onnx", folder / "out")
    with wexport.open(folder / "out") as bundle:
        yield found, folder / "m.onnx", bundle


def values(bundle: wexport.Bundle, inputs: Mapping[str, Array], turned: str | None = None) -> list[Array]:
    def read(name: str) -> Array:
        found = bundle[name]
        return found.reshape(-1)[::-1].reshape(found.shape) if name == turned else found

    with checked():
        computed = evaluate(bundle.manifest, read, inputs)
    return [np.asarray(computed[o["value"]]) for o in bundle.manifest["outputs"].values()]


def apart(found: Array, wanted: Array) -> float:
    assert found.shape == wanted.shape
    wanted = wanted.astype(np.float64)
    return float(np.abs(found - wanted).max(initial=0) / max(np.abs(wanted).max(initial=0), 1e-30))


def test_it_is_known(made: Made) -> None:
    plan = wexport.plan(made[1])
    assert not plan.warnings
    plan.close()


def test_tensors_and_their_axes(made: Made) -> None:
    manifest = made[2].manifest
    found = {}
    for name, entry in (*manifest["tensors"].items(), *manifest["aliases"].items()):
        found[name.removeprefix(f"{entry['layer']}.")] = entry["axes"]
    assert found == dict(made[0].tensors)


def test_outputs(made: Made) -> None:
    model, _, bundle = made
    for found, wanted in zip(values(bundle, model.inputs), model.wanted(), strict=True):
        assert apart(found, wanted) <= TOLERANCE


def test_stored_arrays_are_put_together_again(made: Made) -> None:
    model, path, bundle = made
    for key, array in ((i.name, i) for i in onnx.load(path).graph.initializer):
        assert key in bundle.manifest["weights"], key
        raw = rebuilt(bundle, key).tobytes()
        assert raw == _raw(array), key
    assert set(bundle.manifest["weights"]) == set(model.stored)
    assert not bundle.manifest["left_out"]


def _raw(array: TensorProto) -> bytes:
    if array.raw_data:
        return array.raw_data
    width = 1 if array.data_type not in {TensorProto.INT32} else 4
    return np.asarray(list(array.int32_data), np.int64).astype(f"<i{width}" if width > 1 else np.uint8).tobytes()


def test_equations_name_every_tensor(made: Made) -> None:
    manifest = made[2].manifest
    for name, entry in (*manifest["tensors"].items(), *manifest["aliases"].items()):
        layer = entry["layer"]
        if manifest["layers"][layer]["kind"] == "matmul":
            continue  # its kernel is an argument, computed by calls before
        lines = manifest["equations"][layer]
        assert any(f"`{name.removeprefix(f'{layer}.')}`" in line for line in lines), (name, lines)


def test_shapes_and_types_are_those_that_are_computed(made: Made) -> None:
    model, _, bundle = made
    with checked():
        computed = evaluate(bundle.manifest, lambda name: bundle[name], model.inputs)
    for call in bundle.manifest["calls"]:
        for out in call["out"]:
            if out["value"] is not None and out["shape"] is not None:
                shape = computed[out["value"]].shape
                assert len(shape) == len(out["shape"]), out
                assert all(not isinstance(n, int) or n == m for n, m in zip(out["shape"], shape, strict=True)), out
    for found, wanted in zip(bundle.manifest["outputs"].values(), model.wanted(), strict=True):
        stated = {o["value"]: o["dtype"] for c in bundle.manifest["calls"] for o in c["out"]}
        assert stated[found["value"]] == wanted.dtype.name


def test_a_zero_point_for_each_row(tmp_path: Path) -> None:
    """As Operators.md has it, MatMulInteger-10; neither onnxruntime nor the reference computes it."""
    x, w, zero = _bytes(2, 4), _bytes(4, 3), _bytes(2)
    found = Form([node("MatMulInteger", "x w z")], {}, {"x": x, "w": w, "z": zero}, {})
    onnx.save(found.model(), tmp_path / "m.onnx")
    wexport.export(tmp_path / "m.onnx", tmp_path / "out")
    with wexport.open(tmp_path / "out") as bundle:
        (y,) = values(bundle, found.inputs)
    assert (y == (x.astype(int) - zero[:, None].astype(int)) @ w.astype(int)).all()


def test_every_tensor_matters(made: Made) -> None:
    """Turned around, it gives other outputs: so it is read, and in its own order."""
    model, _, bundle = made
    wanted = model.wanted()
    for name in bundle.manifest["tensors"]:
        numbers = bundle[name].reshape(-1).astype(np.float64)
        if not np.array_equal(numbers, numbers[::-1]):
            found = values(bundle, model.inputs, turned=name)
            assert max(apart(f, w) for f, w in zip(found, wanted, strict=True)) > TOLERANCE, name
