"""Kernels in few bits as onnxruntime's own operators store them (com.microsoft).

    MatMulNBits           B "out group block", `bits` a number, low bits first:  kernel "(group block) out", rows of
                          the last group beyond K are padding; scales "out group"; zero_points "out group", packed in
                          the same way and padded to whole bytes, or of the scales' type; g_idx "in"; bias "out"
    MatMulBnb4            B flat bytes, two numbers each, the high half first, "out in" (K is `in`): kernel "byte";
                          absmax: kernel_scale "group"
    GatherBlockQuantized  data "token dim", packed along `dim` where it is uint8; scales and zero_points "token group"
    DynamicQuantizeMatMul, MatMul with the input rounded first;  B "in out", b_scale and b_zero_point "out"
    DynamicQuantizeLSTM   as LSTM, but W "direction in (gate unit)", R "direction hidden (gate unit)"; scales and zero
                          points "direction", or "direction (gate unit)"; x and every h are rounded first

Without zero points the middle of an unsigned type is zero. Refused: kernels that are computed, other numbers of bits
than 2, 4 and 8.
Source: onnxruntime/docs/ContribOperators.md; onnxruntime/contrib_ops/cpu/quantization/blockwise_quant_block_bnb4.h.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

from wexport.layers.activation import LINEAR
from wexport.layers.onnx import (
    ROOMS,
    Lowered,
    Node,
    Operand,
    Own,
    UnclearError,
    onnx,
    recurrent,  # noqa: F401 - its room is asked here
)
from wexport.layout import Packed, Rule
from wexport.model import Json

_MS = "com.microsoft"
_BITS = (2, 4, 8)


def stored(node: Node, i: int) -> Operand:
    """An operand that must be stored."""
    found = node.need(i)
    if not found.stored or found.shape is None:
        raise UnclearError(f"{node.op}: its input {i} is computed when the model runs")
    return found


def _packed(text: str, axis: str, bits: int, **sizes: int) -> Rule:
    """A rule for numbers that share bytes along an axis; the sizes are those of the numbers."""
    rule = replace(Rule.parse(text), sizes=sizes)
    return rule if bits == 8 else rule.with_steps(Packed(axis, False, bits))


def _bits(node: Node) -> int:
    bits = int(node.get("bits", 4))
    if bits not in _BITS:
        raise UnclearError(f"{node.op} with {bits} bits")
    return bits


@onnx("MatMulNBits", domain=_MS)
def _nbits(node: Node) -> Lowered:
    kernel, scale, bits = stored(node, 1), stored(node, 2), _bits(node)
    rows, units, block = (int(node.get(k, 0)) for k in ("K", "N", "block_size"))
    groups = math.ceil(rows / block) if block else 0
    if kernel.shape != (units, groups, block * bits // 8) or node.get("weight_prepacked", 0):
        raise UnclearError("MatMulNBits: its kernel is stored in an order of its own")
    dequantize: dict[str, Json] = {"rule": "multiply", "bits": bits, "axis": "in", "block": block}
    if rows != groups * block:
        dequantize["rows"] = rows
    rule = _packed("out group block -> kernel: (group block) out", "block", bits, block=block)
    weights = [Own(kernel, "kernel", rule), Own(scale, "kernel_scale", _grouped(scale, "kernel_scale", groups))]
    zero = node.operand(3)
    if zero is None:
        dequantize["zero_point"] = 2 ** (bits - 1)
    else:
        weights.append(Own(stored(node, 3), "kernel_zero_point", _zeros(zero, units, groups, bits)))
    if node.operand(4) is not None:
        weights.append(Own(stored(node, 4), "kernel_group", Rule.parse("in -> kernel_group: in")))
    if node.operand(5) is not None:
        weights.append(Own(stored(node, 5), "bias", Rule.parse("out -> bias: out")))
    attributes = {"units": units, "activation": dict(LINEAR), "dequantize": dequantize}
    return Lowered("dense", attributes, {"x": node.need(0)}, tuple(weights))


def _grouped(operand: Operand, role: str, groups: int) -> Rule:
    """Old files store an array of outputs and groups flat."""
    left = "out group" if operand.rank == 2 else "(out group)"
    return replace(Rule.parse(f"{left} -> {role}: group out"), sizes={"group": groups})


def _zeros(zero: Operand, units: int, groups: int, bits: int) -> Rule:
    """Zero points: every output's are padded to whole bytes, and so are the groups here."""
    if bits == 8 or zero.dtype != "uint8":
        return _grouped(zero, "kernel_zero_point", groups)
    padded = math.ceil(groups * bits / 8) * 8 // bits
    left = "out group" if zero.rank == 2 else "(out group)"
    sizes = {"group": padded} if zero.rank == 2 else {"out": units, "group": padded}
    return _packed(f"{left} -> kernel_zero_point: group out", "group", bits, **sizes)


# the numbers that four bits stand for; bit 3 of FP4 is its sign
_NF4 = (
    -1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635, -0.18477343022823334,
    -0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224,
    0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0,
)  # fmt: skip
_FP4 = (
    0.0, 0.0052083334885537624, 0.6666666865348816, 1.0, 0.3333333432674408, 0.5, 0.1666666716337204, 0.25,
)  # fmt: skip


@onnx("MatMulBnb4", domain=_MS)
def _bnb4(node: Node) -> Lowered:
    kernel, scale = stored(node, 1), stored(node, 2)
    inner, outer, block = (int(node.get(k, 0)) for k in ("K", "N", "block_size"))
    count = inner * outer
    if block < 1 or kernel.shape != ((count + 1) // 2,) or scale.shape != (math.ceil(count / block),):
        raise UnclearError("MatMulBnb4: its kernel has another size than its attributes say")
    sizes = {"out": outer, "in": inner}
    if not node.get("transB", 1):
        sizes = {"in": outer, "out": inner}
    values = _NF4 if node.get("quant_type", 1) else (*_FP4, *(-v for v in _FP4))
    dequantize: dict[str, Json] = {"rule": "table", "values": list(values), "block": block, "sizes": sizes}
    attributes = {"units": sizes["out"], "activation": dict(LINEAR), "dequantize": dequantize}
    weights = (
        Own(kernel, "kernel", Rule.parse("byte -> kernel: byte")),
        Own(scale, "kernel_scale", Rule.parse("group -> kernel_scale: group")),
    )
    return Lowered("dense", attributes, {"x": node.need(0)}, weights)


@onnx("GatherBlockQuantized", domain=_MS)
def _embedding(node: Node) -> Lowered:
    table, scale, indices = stored(node, 0), stored(node, 2), node.need(1)
    blocked = int(node.get("quantize_axis", 1)) % 2
    if table.rank != 2 or scale.rank != 2 or node.axis("gather_axis") != 0 or indices.stored:
        raise UnclearError("GatherBlockQuantized of another table than one row for each token")
    bits = _bits(node) if table.dtype == "uint8" else 8
    tokens, width = (int(n or 0) for n in table.shape or ())
    width = width * 8 // bits
    block = int(node.get("block_size", 128)) or (tokens, width)[blocked]
    dequantize: dict[str, Json] = {"rule": "multiply", "axis": ("token", "dim")[blocked], "block": block}
    words = ["token", "dim"]
    words[blocked] = "group"
    weights = [Own(table, "embedding", _packed("token dim -> embedding: token dim", "dim", bits, dim=width))]
    for i, role in ((2, "embedding_scale"), (3, "embedding_zero_point")):
        if node.operand(i) is None:
            continue
        found = stored(node, i)
        if found.rank != 2:
            raise UnclearError("GatherBlockQuantized: its scales have other axes than the table")
        left = ["1" if n == 1 and w != "group" else w for n, w in zip(found.shape or (), words, strict=True)]
        rule = Rule.parse(f"{' '.join(left)} -> {role}: {' '.join(w for w in left if w != '1')}")
        if i == 3 and bits < 8 and blocked:
            groups = int((found.shape or (0, 0))[1] or 0) * 8 // bits
            rule = replace(rule, sizes={"group": groups}).with_steps(Packed("group", False, bits))
        weights.append(Own(found, role, rule))
    if node.operand(3) is None and table.dtype == "uint8":
        dequantize["zero_point"] = 2 ** (bits - 1)
    attributes = {"tokens": tokens, "dim": width, "mask_zero": False, "dequantize": dequantize}
    return Lowered("embedding", attributes, {"x": indices}, tuple(weights))


# -- inputs that are rounded first -------------------------------------------------------------------------------------

_RANGE: Json = {"rule": "range", "type": "uint8"}


@onnx("DynamicQuantizeMatMul", domain=_MS)
def _dynamic_product(node: Node) -> Lowered:
    x, kernel = node.need(0), stored(node, 1)
    if kernel.rank != 2 or x.stored:
        raise UnclearError("DynamicQuantizeMatMul of other factors than x and a matrix")
    weights = [Own(kernel, "kernel", Rule.parse("in out -> kernel: in out"))]
    for i, role in ((2, "kernel_scale"), (3, "kernel_zero_point"), (4, "bias")):
        if node.operand(i) is not None:
            found = stored(node, i)
            single = i < 4 and all(n == 1 for n in found.shape or ())
            axes = " ".join("1" for _ in found.shape or ()) if single else "out"
            weights.append(Own(found, role, Rule.parse(f"{axes} -> {role}: {'' if single else 'out'}")))
    attributes = {"units": (kernel.shape or (None, None))[1], "activation": dict(LINEAR)}
    attributes |= {"dequantize": {"rule": "multiply"}, "quantize_input": _RANGE}
    return Lowered("dense", attributes, {"x": x}, tuple(weights))


# role -> the axis that it reads, and the operands that are its scales and zero points
_LSTM = {"kernel": ("in", (8, 9)), "recurrent": ("hidden", (10, 11))}


@onnx("DynamicQuantizeLSTM", domain=_MS)
def _dynamic_lstm(node: Node) -> Lowered:
    units = (stored(node, 2).shape or ())[1:2]  # R has its outputs last, other than LSTM
    settings = {"hidden_size": units[0] if units else None, **node.attributes}
    like = replace(node, op="LSTM", domain="", version=14, inputs=node.inputs[:8], attributes=settings)
    plain = ROOMS["", "LSTM"](like)
    if "computed" in plain.attributes:
        raise UnclearError("DynamicQuantizeLSTM: its weights are computed when the model runs")
    both = node.get("direction", "forward") == "bidirectional"
    left, name = ("direction", "{direction}.") if both else ("1", "")
    weights: list[Own] = []
    for own in plain.weights:
        if own.role not in _LSTM or own.rule is None:
            weights.append(own)
            continue
        axis, scales = _LSTM[own.role]
        labels = own.rule.labels
        text = f"{left} {axis} (gate unit) -> {name}{{gate}}.{own.role}: {axis} unit"
        weights.append(Own(own.operand, own.role, Rule.parse(text, **labels)))
        for i, word in zip(scales, ("scale", "zero_point"), strict=True):
            if node.operand(i) is not None:
                role = f"{own.role}_{word}"
                weights.append(Own(stored(node, i), role, _gates(node.need(i), role, left, name, labels)))
    attributes = {**plain.attributes, "dequantize": {"rule": "multiply"}, "quantize_input": _RANGE}
    return Lowered("lstm", attributes, plain.args, tuple(weights), plain.roles)


def _gates(operand: Operand, role: str, left: str, name: str, labels: Mapping[str, tuple[str, ...]]) -> Rule:
    """A scale of all gates together, or of each of their units."""
    if operand.rank == 1:
        return Rule.parse(f"{left} -> {name}{role}:", **{k: v for k, v in labels.items() if k != "gate"})
    return Rule.parse(f"{left} (gate unit) -> {name}{{gate}}.{role}: unit", **labels)
