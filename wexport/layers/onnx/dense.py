"""Products as ONNX stores them: dense layers, embeddings, PReLU.

    Gemm      B "in out", or "out in" with transB; C "out"
    MatMul    B "in out"; the bias of an Add behind it
    FusedMatMul, FusedGemm (com.microsoft)  as MatMul and Gemm, with an activation
    Einsum    the one stored operand: the letters of the equation, `in_b` if summed over, `out_c` if they come out,
              `each_d` if x has them too
    Gather    data "token dim", read by rows
    PRelu     slope "channel" and axes of length one, which drop out

A product is dense where its weight is a matrix on the right, the left operand is not transposed, and the bias, if
any, has one value an output; any other is `matmul`, its stored operands whole. So is an Einsum of two stored operands.
Source: onnx/docs/Operators.md, Gemm-13, MatMul-13, Gather-13, PRelu-16.
"""

from __future__ import annotations

import math
import re

from wexport.layers.activation import LINEAR
from wexport.layers.onnx import Argument, Lowered, Node, Operand, Own, UnclearError, onnx
from wexport.layout import Rule
from wexport.model import Json


@onnx("Gemm", "MatMul")
@onnx("FusedMatMul", "TransposeMatMul", "FusedGemm", domain="com.microsoft")
def _product(node: Node) -> Lowered:
    x, kernel, bias = node.need(0), node.need(1), node.operand(2)
    flags = [bool(node.get(name, 0)) for name in ("transA", "transB")]
    factors: dict[str, Json] = {}
    for name, needed in (("alpha", True), ("beta", bias is not None)):
        if needed and node.get(name, 1.0) != 1.0:
            factors[name] = float(node.get(name))
    batches = [bool(node.get(name, 0)) for name in ("transBatchA", "transBatchB")]
    activation = fused_activation(node)
    plain = kernel.stored and kernel.rank == 2 and not x.stored and not (flags[0] or any(batches))
    if not plain or not _fits(bias, kernel, flags[1]):
        if activation != LINEAR:
            raise UnclearError(f"{node.op}: an activation behind a product of computed values")
        return _matmul(x, kernel, bias, flags, factors | ({"batch_transposed": batches} if any(batches) else {}))
    stored = "out in" if flags[1] else "in out"
    weights = [Own(kernel, "kernel", Rule.parse(f"{stored} -> kernel: in out"), splits=True)]
    if bias is not None:
        weights.append(Own(bias, "bias", Rule.parse(f"{'1 ' * (bias.rank - 1)}out -> bias: out")))
    units = (kernel.shape or ())[0 if flags[1] else 1]
    attributes = {"units": units, "activation": activation, **factors}
    return Lowered("dense", attributes, {"x": x}, tuple(weights))


_ACTIVATIONS: dict[str, tuple[str, tuple[tuple[str, float], ...]]] = {
    "Relu": ("relu", ()), "Tanh": ("tanh", ()), "Sigmoid": ("sigmoid", ()), "Softplus": ("softplus", ()),
    "Softsign": ("softsign", ()), "LeakyRelu": ("leaky_relu", (("alpha", 0.01),)), "Elu": ("elu", (("alpha", 1.0),)),
    "HardSigmoid": ("hard_sigmoid", (("slope", 0.2), ("offset", 0.5))),
    "Clip": ("clip", (("low", -math.inf), ("high", math.inf))),
}  # fmt: skip


def fused_activation(node: Node) -> dict[str, Json]:
    """The activation that an operator of onnxruntime ends in; its parameters are in order.

    Raises:
        UnclearError: it is not known.
    """
    word = str(node.get("activation", "") or "")
    if not word:
        return dict(LINEAR)
    if word not in _ACTIVATIONS:
        raise UnclearError(f"{node.op}: the activation {word!r} is not known")
    name, parameters = _ACTIVATIONS[word]
    given = list(node.get("activation_params") or ())
    given = given or [v for k in ("alpha", "beta") if (v := node.get(f"activation_{k}")) is not None]
    values = [float(v) for v in given] + [default for _, default in parameters[len(given) :]]
    return {"name": name, **{key: value for (key, _), value in zip(parameters, values, strict=False)}}


def _fits(bias: Operand | None, kernel: Operand, turned: bool) -> bool:
    """Whether a bias has one value an output."""
    if bias is None:
        return True
    units = (kernel.shape or (None, None))[0 if turned else 1]
    shape = bias.shape or ()
    return bias.stored and bool(shape) and shape[-1] == units and all(n == 1 for n in shape[:-1])


def _matmul(x: Operand, y: Operand, bias: Operand | None, flags: list[bool], factors: dict[str, Json]) -> Lowered:
    attributes = dict(factors)
    if any(flags):
        attributes["transposed"] = flags
    args: dict[str, Argument] = {"x": (x, y)}
    if bias is not None:
        args["bias"] = bias
    return Lowered("matmul", attributes, args)


_EINSUM = re.compile(r"([A-Za-z]+),([A-Za-z]+)->([A-Za-z]+)")


@onnx("Einsum")
def _einsum(node: Node) -> Lowered:
    operands = tuple(node.need(i) for i in range(len(node.inputs)))
    equation = str(node.get("equation")).replace(" ", "")
    match, stored = _EINSUM.fullmatch(equation), [o.stored for o in operands]
    if match is None or sum(stored) != 1 or any(len(set(g)) < len(g) for g in match.groups()):
        return Lowered("einsum", {"equation": equation}, {"x": operands})
    place = stored.index(True)
    kernel, (x, weight, y) = operands[place], (match[2 - place], match[1 + place], match[3])
    if len(weight) != kernel.rank:
        raise UnclearError(f"Einsum: the equation {equation!r} does not fit a weight of {kernel.rank} axes")
    axes = " ".join(("each_" if c in x and c in y else "in_" if c in x or c not in y else "out_") + c for c in weight)
    sizes = dict(zip(weight, kernel.shape or (), strict=True))
    attributes: dict[str, Json] = {"equation": f"{x},{weight}->{y}", "activation": dict(LINEAR)}
    attributes["output_shape"] = [sizes.get(c) for c in y[1:]]
    own = Own(kernel, "kernel", Rule.parse(f"{axes} -> kernel: {axes}"))
    return Lowered("einsum_dense", attributes, {"x": operands[1 - place]}, (own,))


@onnx("Gather")
def _gather(node: Node) -> Lowered:
    table, indices = node.need(0), node.need(1)
    axis = node.axis()
    if table.stored and table.rank == 2 and axis == 0 and not indices.stored and table.dtype != "int64":
        tokens, dim = table.shape or (None, None)
        attributes = {"tokens": tokens, "dim": dim, "mask_zero": False}
        rule = Rule.parse("token dim -> embedding: token dim")
        return Lowered("embedding", attributes, {"x": indices}, (Own(table, "embedding", rule),))
    if indices.known is not None and not indices.known.ndim and 0 <= axis < max(table.rank, 8):
        whole = {"start": None, "stop": None, "step": None}
        return Lowered("slice", {"index": [*[whole] * axis, int(indices.known)]}, {"x": table})
    return Lowered("gather", {"axis": axis}, {"x": table, "indices": indices})


@onnx("PRelu")
def _prelu(node: Node) -> Lowered:
    x, slope = node.need(0), node.need(1)
    if not slope.stored:
        return Lowered("prelu", {"shared_axes": []}, {"x": x, "alpha": slope})
    shape = [n or 0 for n in slope.shape or ()]
    if node.version < 7 and len(shape) == 1 and shape[0] > 1 and x.rank > 1:  # then it was of the channels
        rule = Rule.parse("channel -> alpha: channel")
        return Lowered("prelu", {"shared_axes": list(range(2, x.rank))}, {"x": x}, (Own(slope, "alpha", rule),))
    axes = ["channel", *_space(x.rank - 2)][-len(shape) :] if x.rank > 1 and shape else []
    if len(shape) > len(axes):
        axes = ["batch", *axes] if len(shape) == x.rank else [f"axis_{i + 1}" for i in range(len(shape))]
        if axes[0] != "batch" or shape[0] > 1:  # aligned with x's last axes as it is
            rule = Rule.parse(f"{' '.join(axes)} -> alpha: {' '.join(axes)}")
            return Lowered("prelu", {"shared_axes": []}, {"x": x}, (Own(slope, "alpha", rule),))
    words = ["1" if n == 1 else a for n, a in zip(shape, axes, strict=True)]
    rule = Rule.parse(f"{' '.join(words)} -> alpha: {' '.join(w for w in words if w != '1')}")
    lead = x.rank - len(shape)
    shared = [*range(1, lead), *(lead + i for i, w in enumerate(words) if w == "1" and lead + i > 0)]
    return Lowered("prelu", {"shared_axes": shared}, {"x": x}, (Own(slope, "alpha", rule),))


def _space(n: int) -> list[str]:
    return {1: ["length"], 2: ["height", "width"], 3: ["depth", "height", "width"]}.get(
        n, [f"axis_{i + 2}" for i in range(n)]
    )
