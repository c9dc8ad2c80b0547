"""ONNX' operators on single elements: arithmetic, functions, comparisons, activations, casts.

    Add, Sub, Mul, Div, Pow, Mod, Max, Min, Sum, Mean   kinds of `merge`, broadcast as in NumPy
    And .. LessOrEqual                                  `compare`
    Abs .. Tanh, Erf, Not, IsNaN                        `unary`; Bit* `bitwise`; IsInf `is_inf`
    Relu .. Swish, Softmax, Hardmax, Gelu               `activation`
    Cast, CastLike, Clip, Where

Softmax, LogSoftmax and Hardmax before opset 13 run over all axes from `axis` (1) on together; afterwards over one
(-1). Clip's bounds are attributes before opset 11. Division of whole numbers drops the remainder; Mod has the
divisor's sign, with `fmod` the dividend's.
Source: onnx/docs/Operators.md, Changelog.md; onnxruntime/docs/ContribOperators.md (com.microsoft).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from wexport.layers.onnx import Lowered, Node, Operand, UnclearError, onnx
from wexport.model import Json

# TensorProto.DataType; types of four bits and strings are not among wexport's
TYPES = {
    1: "float32", 2: "uint8", 3: "int8", 4: "uint16", 5: "int16", 6: "int32", 7: "int64", 9: "bool", 10: "float16",
    11: "float64", 12: "uint32", 13: "uint64", 16: "bfloat16",
}  # fmt: skip
MOST_AXES = 64  # that NumPy has; a file may say anything

_BINARY = {"Add": "add", "Sub": "subtract", "Mul": "multiply", "Pow": "power"}
_VARIADIC = {"Max": "maximum", "Min": "minimum", "Sum": "add", "Mean": "average"}
_COMPARE = {
    "Equal": "equal", "Greater": "greater", "GreaterOrEqual": "greater_equal", "Less": "less",
    "LessOrEqual": "less_equal", "And": "logical_and", "Or": "logical_or", "Xor": "logical_xor",
}  # fmt: skip
_UNARY = {
    "Abs": "abs", "Neg": "negative", "Exp": "exp", "Log": "log", "Sqrt": "sqrt", "Reciprocal": "reciprocal",
    "Sign": "sign", "Floor": "floor", "Ceil": "ceil", "Round": "round", "Sin": "sin", "Cos": "cos", "Tan": "tan",
    "Asin": "arcsin", "Acos": "arccos", "Atan": "arctan", "Sinh": "sinh", "Cosh": "cosh", "Asinh": "arcsinh",
    "Acosh": "arccosh", "Atanh": "arctanh", "Erf": "erf", "Erfc": "erfc", "Not": "logical_not", "IsNaN": "isnan",
}  # fmt: skip


def named_type(node: Node, name: str, default: str | None = None) -> str:
    """An attribute that is an element type."""
    given = node.get(name)
    if given is None and default is not None:
        return default
    if given not in TYPES:
        raise UnclearError(f"{node.op} to element type {given}")
    return TYPES[int(given)]


def pair(node: Node) -> tuple[Operand, Operand]:
    """Two operands that are broadcast; before opset 7 they could be aligned by an axis."""
    a, b = node.need(0), node.need(1)
    if node.version < 7 and "axis" in node.attributes:
        raise UnclearError(f"{node.op} whose operands are aligned at an axis")
    return a, b


def is_float(operand: Operand | None) -> bool:
    """Whether an operand is known to be of a float type."""
    return operand is not None and operand.dtype is not None and "float" in operand.dtype


@onnx(*_BINARY)
def _binary(node: Node) -> Lowered:
    return Lowered(_BINARY[node.op], {"broadcast": "numpy"}, {"x": pair(node)})


@onnx("Div")
def _divide(node: Node) -> Lowered:
    attributes: dict[str, Json] = {"broadcast": "numpy"}
    if not is_float(node.need(0)):
        attributes["truncate"] = True
    return Lowered("divide", attributes, {"x": pair(node)})


@onnx("Mod")
def _mod(node: Node) -> Lowered:
    attributes: dict[str, Json] = {"broadcast": "numpy"}
    if node.get("fmod", 0):
        attributes["truncate"] = True
    return Lowered("mod", attributes, {"x": pair(node)})


@onnx(*_VARIADIC)
def _variadic(node: Node) -> Lowered:
    operands = tuple(node.need(i) for i in range(len(node.inputs)))
    return Lowered(_VARIADIC[node.op], {"broadcast": "numpy"}, {"x": operands})


@onnx(*_COMPARE)
def _compare(node: Node) -> Lowered:
    return Lowered("compare", {"function": _COMPARE[node.op]}, {"x": pair(node)})


@onnx(*_UNARY)
def _unary(node: Node) -> Lowered:
    return Lowered("unary", {"function": _UNARY[node.op]}, {"x": node.need(0)})


@onnx("BitwiseAnd", "BitwiseOr", "BitwiseXor")
def _bitwise(node: Node) -> Lowered:
    return Lowered("bitwise", {"function": node.op.removeprefix("Bitwise").lower()}, {"x": pair(node)})


@onnx("BitwiseNot")
def _bitwise_not(node: Node) -> Lowered:
    return Lowered("bitwise", {"function": "not"}, {"x": node.need(0)})


@onnx("BitShift")
def _shift(node: Node) -> Lowered:
    return Lowered(
        "bitwise", {"function": f"{node.word('direction', 'LEFT', 'RIGHT').lower()}_shift"}, {"x": pair(node)}
    )


@onnx("IsInf")
def _is_inf(node: Node) -> Lowered:
    signs = {k: bool(node.get(f"detect_{k}", 1)) for k in ("negative", "positive")}
    return Lowered("is_inf", signs, {"x": node.need(0)})


@onnx("Where")
def _where(node: Node) -> Lowered:
    return Lowered("where", {}, {"condition": node.need(0), "x": node.need(1), "y": node.need(2)})


@onnx("Cast")
def _cast(node: Node) -> Lowered:
    return Lowered("cast", {"type": named_type(node, "to")}, {"x": node.need(0)})


@onnx("CastLike")
def _cast_like(node: Node) -> Lowered:
    target = node.need(1).dtype
    if target not in TYPES.values():
        raise UnclearError(f"CastLike to element type {target}")
    return Lowered("cast", {"type": target}, {"x": node.need(0)})


_FLOAT_MAX = 3.4028234663852886e38  # what exporters write for "no bound"


@onnx("Clip")
def _clip(node: Node) -> Lowered:
    x = node.need(0)
    try:
        low, high = _bound(node, "min", 1), _bound(node, "max", 2)
    except UnclearError:
        return Lowered("dynamic_clip", {}, {"x": x, "low": node.operand(1), "high": node.operand(2)})
    if low is None and high is None:
        return Lowered("identity", {}, {"x": x})
    return Lowered("clip", {"low": low, "high": high}, {"x": x})


def _bound(node: Node, name: str, i: int) -> Json:
    found = node.array(name, i)
    if found is None or not found.size:
        return None
    value = found.reshape(-1)[0].item()
    return None if isinstance(value, float) and abs(value) >= _FLOAT_MAX else value


# -- activations -------------------------------------------------------------------------------------------------------


def _alpha(name: str, default: float, role: str = "alpha") -> Callable[[Node], Json]:
    return lambda node: {"name": name, role: float(node.get("alpha", default))}


def _plain(name: str) -> Callable[[Node], Json]:
    return lambda node: {"name": name}


def _selu(node: Node) -> Json:
    alpha, gamma = float(node.get("alpha", 1.6732632423543772)), float(node.get("gamma", 1.0507009873554805))
    if abs(alpha - 1.6732632423543772) < 1e-6 and abs(gamma - 1.0507009873554805) < 1e-6:
        return {"name": "selu"}
    return {"name": "selu", "alpha": alpha, "scale": gamma}


def _hard_sigmoid(node: Node) -> Json:
    return {"name": "hard_sigmoid", "slope": float(node.get("alpha", 0.2)), "offset": float(node.get("beta", 0.5))}


def _swish(default: float) -> Callable[[Node], Json]:
    def make(node: Node) -> Json:
        alpha = float(node.get("alpha", default))
        return {"name": "silu"} if alpha == 1 else {"name": "silu", "beta": alpha}

    return make


def _shrink(node: Node) -> Json:
    threshold, bias = float(node.get("lambd", 0.5)), float(node.get("bias", 0.0))
    if bias in (0, threshold):
        return {"name": "hard_shrink" if bias == 0 else "soft_shrink", "threshold": threshold}
    return {"name": "shrink", "threshold": threshold, "bias": bias}


def _gelu(node: Node) -> Json:
    return {"name": "gelu", "approximate": node.get("approximate", "none") == "tanh"}


def _over_axes(name: str) -> Callable[[Node], Json]:
    """A function along an axis; in old opsets along all axes from it on, as if they were one."""

    def make(node: Node) -> Json:
        if node.version >= 13:
            return {"name": name, "axis": int(node.get("axis", -1))}
        axis, rank = int(node.get("axis", 1)), node.need(0).rank
        if not -MOST_AXES <= axis <= MOST_AXES:
            raise UnclearError(f"{node.op} along axis {axis}")
        if axis >= 0 and rank < 0:
            return {"name": name, "axis": {"from": axis}}
        axes = list(range(axis - rank if axis >= 0 else axis, 0))
        return {"name": name, "axis": axes if len(axes) != 1 else -1}

    return make


_ACTIVATIONS: dict[str, Callable[[Node], Any]] = {
    "Relu": _plain("relu"), "Sigmoid": _plain("sigmoid"), "Tanh": _plain("tanh"), "Softplus": _plain("softplus"),
    "Softsign": _plain("softsign"), "Mish": _plain("mish"), "HardSwish": _plain("hard_silu"),
    "LeakyRelu": _alpha("leaky_relu", 0.01), "Elu": _alpha("elu", 1.0), "Celu": _alpha("celu", 1.0),
    "ThresholdedRelu": _alpha("thresholded_relu", 1.0, "threshold"), "Selu": _selu, "HardSigmoid": _hard_sigmoid,
    "Swish": _swish(1.0), "Shrink": _shrink, "Gelu": _gelu, "Softmax": _over_axes("softmax"),
    "LogSoftmax": _over_axes("log_softmax"), "Hardmax": _over_axes("hardmax"),
}  # fmt: skip
_MICROSOFT: dict[str, Callable[[Node], Any]] = {"Gelu": _gelu, "QuickGelu": _swish(1.702)}


@onnx(*_ACTIVATIONS)
def _activation(node: Node) -> Lowered:
    return Lowered("activation", {"activation": _ACTIVATIONS[node.op](node)}, {"x": node.need(0)})


@onnx(*_MICROSOFT, domain="com.microsoft")
def _microsoft(node: Node) -> Lowered:
    return Lowered("activation", {"activation": _MICROSOFT[node.op](node)}, {"x": node.need(0)})


@onnx("FastGelu", domain="com.microsoft")
def _fast_gelu(node: Node) -> Lowered:
    if node.operand(1) is not None:
        return Lowered("bias_gelu", {"approximate": True}, {"x": node.need(0), "bias": node.need(1)})
    return Lowered("activation", {"activation": {"name": "gelu", "approximate": True}}, {"x": node.need(0)})


@onnx("BiasGelu", domain="com.microsoft")
def _bias_gelu(node: Node) -> Lowered:
    return Lowered("bias_gelu", {}, {"x": node.need(0), "bias": node.need(1)})
