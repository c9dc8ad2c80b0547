"""Fused operators of onnxruntime (com.microsoft) whose weights are integers, each with a scale and a zero point.

    QAttention                as Attention; the scale and the zero point of the kernel "" or "(part head dim)"
    QEmbedLayerNormalization  as EmbedLayerNormalization; every table has its own

Source: onnxruntime/docs/ContribOperators.md.
"""

from __future__ import annotations

from dataclasses import replace

from wexport.layers.onnx import (
    ROOMS,
    Lowered,
    Node,
    Own,
    UnclearError,
    attention,  # noqa: F401 - its rooms are asked here
    onnx,
)
from wexport.layers.onnx.contrib_quantized import stored
from wexport.layout import Rule

_MS = "com.microsoft"


def _beside(node: Node, role: str, i: int, rule: Rule | None = None) -> Own | None:
    """A scale or zero point: of one element, or by a rule."""
    if node.operand(i) is None:
        return None
    found = stored(node, i)
    if all(n == 1 for n in found.shape or ()):
        return Own(found, role, Rule.parse(f"{' '.join('1' for _ in found.shape or ())} -> {role}:"))
    if rule is None:
        raise UnclearError(f"{node.op}: its {role} has several elements")
    return Own(found, role, rule)


@onnx("QAttention", domain=_MS)
def _integer_attention(node: Node) -> Lowered:
    """Attention of integers: x has its scale and zero point among the arguments, the kernel has them beside it."""
    kernel, bias = stored(node, 1), stored(node, 2)
    inputs = (node.need(0), kernel, bias, node.operand(5), node.operand(8))
    found = ROOMS[_MS, "Attention"](replace(node, op="Attention", inputs=inputs))
    rule = found.weights[0].rule
    if rule is None or "sizes" in found.attributes:
        raise UnclearError("QAttention: its heads are of unequal sizes")
    own = [*found.weights]
    for role, i in (("kernel_scale", 4), ("kernel_zero_point", 7)):
        columns = Rule.parse(f"(part head dim) -> {{part}}.{role}: head dim", **rule.labels)
        if (beside := _beside(node, role, i, replace(columns, sizes=rule.sizes))) is not None:
            own.append(beside)
    args = {**found.args, "x_scale": node.need(3)}
    if node.operand(6) is not None:
        args["x_zero_point"] = node.need(6)
    attributes = {**found.attributes, "dequantize": {"rule": "multiply"}}
    return Lowered(found.kind, attributes, args, tuple(own), found.roles)


# what is stored as integers: its role, its place, and those of its scale and its zero point
_TABLES = (
    ("embedding", 2, 8, 13), ("position_embedding", 3, 9, 14), ("segment_embedding", 4, 10, 15), ("scale", 5, 11, 16),
    ("offset", 6, 12, 17),
)  # fmt: skip


@onnx("QEmbedLayerNormalization", domain=_MS)
def _integer_embed(node: Node) -> Lowered:
    found = ROOMS[_MS, "EmbedLayerNormalization"](replace(node, op="EmbedLayerNormalization", inputs=node.inputs[:8]))
    own = list(found.weights)
    for role, i, scale, zero in _TABLES:
        if node.operand(i) is not None:
            beside = (_beside(node, f"{role}_{word}", k) for word, k in (("scale", scale), ("zero_point", zero)))
            own += [b for b in beside if b is not None]
    attributes = {**found.attributes, "dequantize": {"rule": "multiply"}}
    return Lowered(found.kind, attributes, found.args, tuple(own), ("y", "mask_index"))
