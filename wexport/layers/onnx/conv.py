"""Convolutions as ONNX stores them: channels first, the outputs before the inputs.

    Conv, FusedConv (com.microsoft)
                   W "out in height width" (`in` = inputs of a group); depthwise "(in multiplier) 1 height width"
    ConvTranspose  W "in out height width" (`out` = outputs of a group); `pads` are cut off

Source: onnx/docs/Operators.md, Conv-22, ConvTranspose-22.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from wexport.features import SPATIAL
from wexport.layers.onnx import Argument, Lowered, Node, Operand, Own, UnclearError, onnx
from wexport.layers.onnx.dense import fused_activation
from wexport.layout import Rule
from wexport.model import Json


def axes_of(rank: int) -> list[str]:
    """The spatial axes' names."""
    return list(SPATIAL.get(rank, tuple(f"space_{i + 1}" for i in range(rank))))


def window(node: Node, sizes: Sequence[int]) -> dict[str, Json]:
    """The attributes that all convolutions share, for kernels of these sizes."""
    n = len(sizes)
    strides, dilation = (node.ints(k, default=[1] * n) or [1] * n for k in ("strides", "dilations"))
    return {
        "kernel_size": list(sizes),
        "strides": strides,
        "padding": padding(node, sizes),
        "dilation": dilation,
        "data_format": "channels_first",
        "activation": fused_activation(node),
    }


def padding(node: Node, sizes: Sequence[int]) -> Json:
    """The zeros around x: a word, or pairs of numbers."""
    word = node.word("auto_pad", "NOTSET", "SAME_UPPER", "SAME_LOWER", "VALID")
    if word == "VALID":
        return "valid"
    if word == "SAME_UPPER":
        return "same"
    if word == "SAME_LOWER":
        return "same_lower"
    pads = node.ints("pads") or [0] * (2 * len(sizes))
    half = len(pads) // 2
    return [list(p) for p in zip(pads[:half], pads[half:], strict=True)] if any(pads) else "valid"


def _sizes(kernel: Operand) -> list[int]:
    sizes = (kernel.shape or ())[2:]
    if not sizes or None in sizes:
        raise UnclearError("the size of its kernel is not known")
    return [int(n or 0) for n in sizes]


def biased(bias: Operand | None) -> tuple[tuple[Own, ...], dict[str, Argument]]:
    """A bias as a weight where it is stored, else as an argument."""
    if bias is None:
        return (), {}
    if bias.stored:
        return (Own(bias, "bias", Rule.parse("out -> bias: out")),), {}
    return (), {"bias": bias}


@onnx("Conv")
@onnx("FusedConv", domain="com.microsoft")
def _conv(node: Node) -> Lowered:
    x, kernel = node.need(0), node.need(1)
    sizes = _sizes(kernel)
    groups = int(node.get("group", 1))
    space = " ".join(axes_of(len(sizes)))
    out, inner = (kernel.shape or (None, None))[:2]
    attributes: dict[str, Json] = window(node, sizes)
    own, args = biased(node.operand(2))
    if node.operand(3) is not None:  # FusedConv: what is added before the activation
        args = {**args, "added": node.need(3)}
    if not kernel.stored:
        attributes |= {"filters": out, "groups": groups, "kernel_axes": f"out in {space}"}
        return Lowered("conv", attributes, {"x": x, "kernel": kernel, **args}, own)
    if groups > 1 and inner == 1 and out is not None and out % groups == 0:
        rule: Any = Rule.parse(f"(in multiplier) 1 {space} -> kernel: {space} in multiplier")
        rule = _sized(rule, multiplier=out // groups)
        attributes = {"multiplier": out // groups, **attributes}
        return Lowered("depthwise_conv", attributes, {"x": x, **args}, (Own(kernel, "kernel", rule, True), *own))
    rule = Rule.parse(f"out in {space} -> kernel: {space} in out")
    attributes = {"filters": out, "groups": groups, **attributes}
    return Lowered("conv", attributes, {"x": x, **args}, (Own(kernel, "kernel", rule, groups == 1), *own))


def _sized(rule: Rule, **sizes: int) -> Rule:
    return Rule(rule.layout, rule.target, rule.labels, rule.at, sizes, rule.steps)


@onnx("ConvTranspose")
def _transposed(node: Node) -> Lowered:
    x, kernel = node.need(0), node.need(1)
    sizes = _sizes(kernel)
    groups = int(node.get("group", 1))
    space = " ".join(axes_of(len(sizes)))
    per_group = (kernel.shape or (None, None))[1]
    attributes = window(node, sizes)
    attributes["output_padding"] = node.ints("output_padding", default=[0] * len(sizes))
    attributes["output_size"] = None
    _cut(node, attributes, sizes, x)
    attributes = {"filters": None if per_group is None else per_group * groups, **attributes}
    if groups > 1:
        attributes["groups"] = groups
    own, args = biased(node.operand(2))
    if not kernel.stored:
        attributes["kernel_axes"] = f"in out {space}"
        return Lowered("conv_transpose", attributes, {"x": x, "kernel": kernel, **args}, own)
    rule = Rule.parse(f"in out {space} -> kernel: {space} in out")
    return Lowered("conv_transpose", attributes, {"x": x, **args}, (Own(kernel, "kernel", rule, groups == 1), *own))


def _cut(node: Node, a: dict[str, Json], sizes: Sequence[int], x: Operand) -> None:
    """What is cut off the whole result, where a size or a word says it (Operators.md, ConvTranspose: total_padding).

    Of a result with a size that is given, for an x of a size that is not known, the word says on which side more is.
    """
    word = node.word("auto_pad", "NOTSET", "SAME_UPPER", "SAME_LOWER", "VALID")
    given = node.ints("output_shape")
    if word in {"NOTSET", "VALID"} and given is None:
        a["padding"] = "valid" if word == "VALID" else a["padding"]
        if a["padding"] == "valid":
            a["padding"] = [[0, 0]] * len(sizes)
        return
    same = given is None  # then the size of x does not matter
    spatial = [0] * len(sizes) if same else (x.shape or ())[2:]
    if len(spatial) != len(sizes) or None in spatial:
        a["padding"] = "same" if word == "SAME_UPPER" else "same_lower"
        a["output_size"] = list(given or ())[-len(sizes) :]
        return
    cuts = []
    for i, (n, k) in enumerate(zip(spatial, sizes, strict=True)):
        s, d, extra = a["strides"][i], a["dilation"][i], a["output_padding"][i]
        want = given[i - len(sizes)] if given else int(n or 0) * s
        total = s * (int(n or 0) - 1) + extra + (k - 1) * d + 1 - want
        cut = total if same else max(total, 0)  # of a size that is too large, the rest are zeros behind
        first = cut - cut // 2 if word != "SAME_UPPER" else cut // 2
        cuts.append([first, total - first])
    a["padding"] = cuts
