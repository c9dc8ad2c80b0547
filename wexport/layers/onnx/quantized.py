"""Quantized numbers as ONNX stores them.

    QuantizeLinear    y_scale, y_zero_point: of one element, "channel" along `axis`, or blocks of `axis`
    DequantizeLinear  the same; of a stored array it belongs to the layer that takes the result:
                      kernel (the integers) as the layer's own rule says, kernel_scale and kernel_zero_point along
                      those of its axes that `axis` names ("out"), or "group out" for blocks; bias, bias_scale alike
    MatMulInteger     B "in out", b_zero_point "out"; ConvInteger w as Conv, w_zero_point "out"
    QLinearMatMul, QLinearConv, QGemm   B "in out" (or "out in", transB), w as Conv; scales "out" or of one element;
                      bias in integers of the input's and the kernel's scale together
    QLinearAdd, Mul, Concat, Sigmoid, LeakyRelu, Softmax, AveragePool, GlobalAveragePool (com.microsoft)

An operand that is not stored stays an argument of its role. A stored array that no layer can take so belongs to the
DequantizeLinear itself, as `operand`.
Source: onnx/docs/Operators.md, QuantizeLinear-25, QLinearConv-10, QLinearMatMul-21, ConvInteger-10, MatMulInteger-10;
onnxruntime/docs/ContribOperators.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from wexport import dtypes
from wexport.layers.onnx import (  # noqa: F401 - their rooms are asked
    ROOMS,
    Argument,
    Lowered,
    Node,
    Operand,
    Own,
    Room,
    Scaled,
    UnclearError,
    conv,
    dense,
    elementwise,
    norm,
    onnx,
    pool,
    recurrent,
)
from wexport.layers.onnx import shape as shapes  # noqa: F401 - as those above
from wexport.layers.registry import ANY, KINDS, optional
from wexport.layers.unknown import whole
from wexport.layout import Rule, parse_side
from wexport.model import Json

_MS = "com.microsoft"
# TensorProto.DataType, those that numbers can be rounded to
_TYPES = {
    2: "uint8", 3: "int8", 4: "uint16", 5: "int16", 6: "int32", 17: "float8_e4m3fn", 18: "float8_e4m3fnuz",
    19: "float8_e5m2", 20: "float8_e5m2fnuz", 21: "uint4", 22: "int4", 23: "float4_e2m1fn", 25: "uint2", 26: "int2",
}  # fmt: skip


# -- weights behind DequantizeLinear -----------------------------------------------------------------------------------

_WEIGHTED = (
    "Gemm", "MatMul", "Gather", "PRelu", "Conv", "ConvTranspose", "LSTM", "GRU", "RNN", "LayerNormalization",
    "RMSNormalization", "InstanceNormalization", "GroupNormalization", "BatchNormalization",
)  # fmt: skip
_KINDS = (
    "dense", "embedding", "prelu", "conv", "conv_transpose", "depthwise_conv", "lstm", "gru", "rnn", "layer_norm",
    "rms_norm", "instance_norm", "group_norm", "batch_norm",
)  # fmt: skip


def dequantizing(room: Room) -> Room:
    """A room whose weights may be dequantized: the layer takes the integers, and the scales beside them."""

    def ask(node: Node) -> Lowered:
        if not any(o is not None and o.scaled is not None for o in node.inputs):
            return room(node)
        inputs = tuple(o if o is None or o.scaled is None else _shown(o, o.scaled) for o in node.inputs)
        try:
            lowered = room(replace(node, inputs=inputs))
            return _taken_apart(lowered)
        except UnclearError:
            return room(node)

    return ask


def _shown(operand: Operand, how: Scaled) -> Operand:
    """An operand as if it were stored as numbers."""
    return replace(operand, stored=True, shape=how.integers.shape)


def _taken_apart(lowered: Lowered) -> Lowered:
    weights: list[Own] = []
    blocks: set[tuple[str, int]] = set()
    scaled = False
    for own in lowered.weights:
        how = own.operand.scaled
        if how is None:
            weights.append(own)
            continue
        scaled = True
        rule = own.rule or whole(own.role, own.operand.rank)
        weights.append(Own(how.integers, own.role, rule))
        if how.block:
            blocks.add((_word(rule, how.axis), how.block))
        for word, operand in (("scale", how.scale), ("zero_point", how.zero)):
            if operand is not None:
                weights.append(Own(operand, f"{own.role}_{word}", _beside(rule, word, how, operand)))
    if not scaled:
        return lowered
    if len(blocks) > 1:
        raise UnclearError("its weights are in blocks of several kinds")
    dequantize: dict[str, Json] = {"rule": "multiply"}
    for axis, block in blocks:
        dequantize |= {"axis": axis, "block": block}
    return replace(lowered, attributes={**lowered.attributes, "dequantize": dequantize}, weights=tuple(weights))


def _word(rule: Rule, axis: int) -> str:
    """The one axis that a dimension of a weight is."""
    groups = parse_side(rule.layout)
    if not -len(groups) <= axis < len(groups) or len(groups[axis]) != 1:
        raise UnclearError("its blocks lie along an axis that is several")
    return groups[axis][0]


def _beside(rule: Rule, word: str, how: Scaled, operand: Operand) -> Rule:
    """The rule of a weight's scale: the axes that it has of the weight's."""
    groups = [" ".join(g) for g in parse_side(rule.layout)]
    shape = operand.shape or ()
    if how.block:
        axis = _word(rule, how.axis)
        groups = ["group" if g == axis else g for g in groups]
    elif all(n == 1 for n in shape):
        groups = [""] * len(shape)
    elif len(shape) == 1 and -len(groups) <= how.axis < len(groups):
        groups = [groups[how.axis]]
    if len(groups) != len(shape):
        raise UnclearError("its scales have other axes than it has")
    kept = {a for g in groups for a in g.split()}
    name, _, axes = rule.target.partition(":")
    *labels, last = name.strip().split(".")
    labels = [w for w in labels if w.strip("{}") in kept]
    last = last if not last.startswith("{") else "bias"
    words = ["group" if how.block and a == axis else a for g in parse_side(axes) for a in g]
    stored = " ".join(f"({g})" if " " in g else g or "1" for g in groups)
    found = f"{'.'.join((*labels, f'{last}_{word}'))}: {' '.join(w for w in words if w in kept)}"
    return Rule(
        stored,
        found,
        {k: v for k, v in rule.labels.items() if k in kept},
        rule.at,
        {k: v for k, v in rule.sizes.items() if k in kept},
    )


for _operator in _WEIGHTED:
    if ("", _operator) in ROOMS:
        ROOMS["", _operator] = dequantizing(ROOMS["", _operator])
for _name in _KINDS:
    if "dequantize" not in KINDS[_name].attributes:
        KINDS[_name].optional.setdefault("dequantize", optional(ANY))


# -- numbers that are rounded, and back --------------------------------------------------------------------------------


def settled(
    node: Node, roles: Sequence[tuple[int, str, str]]
) -> tuple[tuple[Own, ...], dict[str, Argument], list[str]]:
    """Operands by their number, role and axes (`"out"`): weights where they are stored, else arguments.

    One of a single element has no axes. The last of the results lists the arguments.
    """
    own: list[Own] = []
    args: dict[str, Argument] = {}
    for i, role, axes in roles:
        operand = node.operand(i)
        if operand is None:
            continue
        if not operand.stored:
            args[role] = operand
            continue
        own.append(Own(operand, role, _axes_of(operand, role, axes)))
    return tuple(own), args, list(args)


def _axes_of(operand: Operand, role: str, axes: str) -> Rule | None:
    shape = operand.shape or ()
    if all(n == 1 for n in shape):
        return Rule.parse(f"{' '.join('1' for _ in shape)} -> {role}:")
    if axes and len(parse_side(axes)) == len(shape):
        return Rule.parse(f"{axes} -> {role}: {axes.replace('(', '').replace(')', '')}")
    return None


def given(names: list[str]) -> dict[str, Json]:
    """The attribute that lists scales and zero points among the arguments."""
    return {"given": names} if names else {}


def _placed(node: Node) -> dict[str, Json]:
    """Where scales lie along x; nothing for those of one element."""
    scale = node.need(1)
    if scale.rank == 0 or (scale.shape and all(n == 1 for n in scale.shape)):
        return {}
    found: dict[str, Json] = {"axis": node.axis(default=1)}
    if block := int(node.get("block_size", 0)):
        found["block"] = block
    return found


_SCALES = ((1, "scale", "channel"), (2, "zero_point", "channel"))


@onnx("QuantizeLinear")
@onnx("QuantizeLinear", domain=_MS)
def _quantize(node: Node) -> Lowered:
    zero = node.operand(2)
    dtype = _TYPES.get(int(node.get("output_dtype", 0))) or (zero.dtype if zero is not None else "uint8")
    if dtype is None:
        raise UnclearError("QuantizeLinear: the type of its zero point is not known")
    attributes: dict[str, Json] = {"type": dtype, **_placed(node)}
    if not node.get("saturate", 1):
        attributes["saturate"] = False
    own, args, names = settled(node, _SCALES)
    return Lowered("quantize", {**attributes, **given(names)}, {"x": node.need(0), **args}, own)


@onnx("DequantizeLinear")
@onnx("DequantizeLinear", domain=_MS)
def _dequantize(node: Node) -> Lowered:
    x = node.need(0)
    own, args, names = settled(node, _SCALES)
    attributes = {**_placed(node), **given(names)}
    if x.stored:
        return Lowered("dequantize", attributes, args, (Own(x, "operand"), *own))
    return Lowered("dequantize", attributes, {"x": x, **args}, own)


@onnx("DynamicQuantizeLinear")
def _dynamic(node: Node) -> Lowered:
    roles = ("y", "scale", "zero_point")
    return Lowered("dynamic_quantize", {"type": "uint8"}, {"x": node.need(0)}, roles=roles)


# -- layers on integers ------------------------------------------------------------------------------------------------


def _inside(op: str, node: Node, inputs: Sequence[Operand | None], domain: str = "") -> Lowered:
    """The layer that an operator would be on other numbers."""
    return ROOMS[domain, op](replace(node, op=op, domain=domain, inputs=tuple(inputs)))


def _layer(lowered: Lowered) -> Json:
    return {"kind": lowered.kind, **lowered.attributes}


def _scales(rule: Rule) -> str:
    """The axes of a kernel's scales: its outputs'."""
    group = next(g for g in parse_side(rule.layout) if "out" in g or "multiplier" in g)
    return f"({' '.join(group)})" if len(group) > 1 else group[0]


def _kernel(
    node: Node, inner: Lowered, inputs: Sequence[tuple[int, str]], kernel: Sequence[tuple[int, str]]
) -> tuple[tuple[Own, ...], dict[str, Argument], list[str]]:
    """A layer's kernel with its scales, the input's and the output's; its bias is the inner layer's."""
    main = next(own for own in inner.weights if own.role == "kernel")
    rule = main.rule
    assert rule is not None
    axes = _scales(rule)
    own, args, names = settled(node, [*((i, role, "") for i, role in inputs), *((i, role, axes) for i, role in kernel)])
    sizes = {k: v for k, v in rule.sizes.items() if k in axes}
    own = tuple(replace(o, rule=replace(o.rule, sizes=sizes)) if o.rule and axes in o.rule.layout else o for o in own)
    rest = tuple(o for o in inner.weights if o is not main)
    return (replace(main, splits=False), *own, *rest), {**inner.args, **args}, names


_A, _B = ((2, "input_zero_point"),), ((3, "kernel_zero_point"),)


@onnx("MatMulInteger", "ConvInteger")
def _integer(node: Node) -> Lowered:
    op = node.op.removesuffix("Integer")
    inner = _inside(op, node, node.inputs[:2])
    if any(o.role == "kernel" for o in inner.weights):
        own, args, names = _kernel(node, inner, _A, _B)
        return Lowered("integer", {"layer": _layer(inner), **given(names)}, args, own)
    if op == "Conv":
        raise UnclearError("ConvInteger: its kernel is computed when the model runs")
    own, args, names = settled(node, ((2, "input_1_zero_point", "row"), (3, "input_2_zero_point", "column")))
    return Lowered("integer", {"layer": _layer(inner), **given(names)}, {**inner.args, **args}, own)


# operator -> the operator inside, the numbers of its inputs, those of the input's, the kernel's and the output's scales
_LINEAR: dict[
    tuple[str, str], tuple[str, tuple[int, ...], tuple[int, int], tuple[int, int], tuple[int, int] | None]
] = {
    ("", "QLinearConv"): ("Conv", (0, 3, 8), (1, 2), (4, 5), (6, 7)),
    ("", "QLinearMatMul"): ("MatMul", (0, 3), (1, 2), (4, 5), (6, 7)),
    (_MS, "QLinearConv"): ("Conv", (0, 3, 8), (1, 2), (4, 5), (6, 7)),
    (_MS, "QGemm"): ("Gemm", (0, 3, 6), (1, 2), (4, 5), (7, 8)),
    (_MS, "MatMulIntegerToFloat"): ("MatMul", (0, 1, 6), (2, 4), (3, 5), None),
}
_WORDS = ("scale", "zero_point")


@onnx("QLinearConv", "QLinearMatMul")
@onnx("QLinearConv", "QGemm", "MatMulIntegerToFloat", domain=_MS)
def _linear(node: Node) -> Lowered:
    op, own_inputs, first, second, last = _LINEAR[node.domain, node.op]
    if node.get("channels_last", 0):
        raise UnclearError(f"{node.op} with channels last")
    plain = {k: v for k, v in node.attributes.items() if k != "alpha"}
    inner = _inside(op, replace(node, attributes=plain), [node.operand(i) for i in own_inputs])
    attributes: dict[str, Json] = {"layer": _layer(inner)}
    if node.get("alpha", 1.0) != 1.0:
        attributes["factor"] = float(node.get("alpha"))
    outputs: list[tuple[int, str]] = []
    if last is not None and node.operand(last[0]) is not None:
        attributes["type"] = _type_of(node, last[1])
        outputs = [(i, f"output_{w}") for i, w in zip(last, _WORDS, strict=True)]
    if not any(o.role == "kernel" for o in inner.weights):
        return _product(node, inner, attributes, (first, second, last))
    bias = next((o.operand for o in inner.weights if o.role == "bias"), None)
    if bias is not None and not dtypes.is_float(bias.dtype or "float32"):
        attributes["integer_bias"] = True
    if "bias" in inner.args:
        raise UnclearError(f"{node.op}: its bias is computed when the model runs")
    inputs = [*((i, f"input_{w}") for i, w in zip(first, _WORDS, strict=True)), *outputs]
    own, args, names = _kernel(node, inner, inputs, [(i, f"kernel_{w}") for i, w in zip(second, _WORDS, strict=True)])
    return Lowered("quantized", {**attributes, **given(names)}, args, own)


def _type_of(node: Node, zero: int) -> str:
    """The type that a result is rounded to: its zero point's."""
    operand = node.operand(zero) or node.outputs[0]
    if operand is None or operand.dtype is None:
        raise UnclearError(f"{node.op}: the type of its result is not known")
    return operand.dtype


def _product(
    node: Node, inner: Lowered, attributes: dict[str, Json], places: Sequence[tuple[int, int] | None]
) -> Lowered:
    """A product whose factors are both computed."""
    if inner.kind != "matmul" or "factor" in attributes or "bias" in inner.args or "type" not in attributes:
        raise UnclearError(f"{node.op}: its kernel is computed when the model runs")
    return _several(node, inner, attributes, places)


def _several(
    node: Node, inner: Lowered, attributes: dict[str, Json], places: Sequence[tuple[int, int] | None]
) -> Lowered:
    """Inputs that are numbers of their own scales, and the result's: the last of the places."""
    n = len(places) - 1
    names = ["input"] if n == 1 else [f"input_{i}" for i in range(1, n + 1)]
    roles = [
        (i, f"{name}_{word}", "")
        for name, pair in zip([*names, "output"], places, strict=True)
        for i, word in zip(pair or (), _WORDS, strict=False)
    ]
    own, args, listed = settled(node, roles)
    if n > 1:
        attributes["inputs"] = n
    return Lowered("quantized", {**attributes, **given(listed)}, {**inner.args, **args}, own)


# -- layers without kernels --------------------------------------------------------------------------------------------

_SIMPLE = {
    "QLinearSigmoid": "Sigmoid", "QLinearLeakyRelu": "LeakyRelu", "QLinearSoftmax": "Softmax",
    "QLinearAveragePool": "AveragePool", "QLinearGlobalAveragePool": "GlobalAveragePool",
}  # fmt: skip


@onnx(*_SIMPLE, domain=_MS)
def _simple(node: Node) -> Lowered:
    if node.get("channels_last", 0):
        raise UnclearError(f"{node.op} with channels last")
    version = int(node.get("opset", 0)) or 13
    inner = _inside(_SIMPLE[node.op], replace(node, version=version), [node.need(0)])
    return _several(node, inner, {"layer": _layer(inner), "type": _type_of(node, 4)}, ((1, 2), (3, 4)))


@onnx("QLinearAdd", "QLinearMul", domain=_MS)
def _pair(node: Node) -> Lowered:
    if node.need(0).stored and not node.need(3).stored:  # both operators give the same either way
        node = replace(node, inputs=(*node.inputs[3:6], *node.inputs[:3], *node.inputs[6:]))
    a, b = node.need(0), node.need(3)
    inner = _inside(node.op.removeprefix("QLinear"), replace(node, version=14), [a, b])
    found = _several(node, inner, {"layer": _layer(inner), "type": _type_of(node, 7)}, ((1, 2), (4, 5), (6, 7)))
    if a.stored:
        raise UnclearError(f"{node.op} of stored arrays")
    if not b.stored:
        return found
    return replace(found, args={**found.args, "x": a}, weights=(Own(b, "operand"), *found.weights))


@onnx("QLinearConcat", domain=_MS)
def _concat(node: Node) -> Lowered:
    count = (len(node.inputs) - 2) // 3
    xs = [node.need(2 + 3 * i) for i in range(count)]
    if any(x.stored for x in xs):
        raise UnclearError("QLinearConcat of a stored array")
    inner = _inside("Concat", replace(node, version=13), xs)
    places = [(3 + 3 * i, 4 + 3 * i) for i in range(count)]
    return _several(node, inner, {"layer": _layer(inner), "type": _type_of(node, 1)}, (*places, (0, 1)))
