"""ONNX' operators that move elements, and those that compute with shapes.

Most settings were attributes once and are inputs now: axes of Squeeze and Unsqueeze (opset 13), Slice's bounds (10),
Split's lengths (13), Pad's amounts (11), Reshape's shape (5). Known ones become attributes; one that is computed when
the model runs makes the operator a kind of `dynamic`, with the setting as an argument.

Reshape keeps the batch wherever that is all it can mean: kind `reshape`; else `reshape_all`. A Flatten at axis 1 is
kind `flatten`, any other one `flatten_at`.
Source: onnx/docs/Operators.md, Changelog.md.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from wexport.layers.onnx import Argument, Lowered, Node, Operand, UnclearError, inline, onnx
from wexport.layers.onnx.elementwise import MOST_AXES, named_type
from wexport.model import Const, Json

_FAR = 2**31 - 1  # bounds of this size or more mean "to the end"


@onnx("Identity")
def _identity(node: Node) -> Lowered:
    return Lowered("identity", {}, {"x": node.need(0)})


@onnx("Dropout")
def _dropout(node: Node) -> Lowered:
    training = node.array("training_mode", 2)
    if training is not None and training.any():
        raise UnclearError("Dropout that drops when the model runs")
    if len(node.outputs) > 1 and node.outputs[1] is not None:
        return Lowered("dropout", {}, {"x": node.need(0)}, roles=("y", "mask"))
    return Lowered("identity", {}, {"x": node.need(0)})


@onnx("Transpose")
def _transpose(node: Node) -> Lowered:
    order = node.get("perm")
    return Lowered("transpose", {"order": None if order is None else [int(i) for i in order]}, {"x": node.need(0)})


@onnx("Concat")
def _concat(node: Node) -> Lowered:
    operands = tuple(node.need(i) for i in range(len(node.inputs)))
    if len({o.rank for o in operands if o.rank >= 0}) > 1:
        raise UnclearError("Concat: the values that it joins have different numbers of axes")
    return Lowered("concat", {"axis": int(node.get("axis", 1))}, {"x": operands})


# -- reshaping ---------------------------------------------------------------------------------------------------------


@onnx("Reshape")
def _reshape(node: Node) -> Lowered:
    x, zero_copies = node.need(0), not node.get("allowzero", 0)
    try:
        target = node.ints("shape", 1) or []
    except UnclearError:
        known = node.outputs[0].shape if node.outputs and node.outputs[0] is not None else None
        listed = node.need(1).shape or (None,)
        if known is None or known.count(None) > 1 or 0 in known or listed[0] not in (None, len(known)):
            return Lowered("dynamic_reshape", {"zero_copies": zero_copies}, {"x": x, "shape": node.need(1)})
        target = [-1 if n is None else n for n in known]  # the one length that is open follows from the others
    shape = [_copied(x, i) if n == 0 and zero_copies else n for i, n in enumerate(target)]
    if _keeps_batch(x, shape) and not any(n is None for n in shape[1:]):
        return Lowered("reshape", {"shape": shape[1:]}, {"x": x})
    if any(n is None for n in shape):
        args: dict[str, Argument] = {"x": x, "shape": inline(target, "int64")}
        return Lowered("dynamic_reshape", {"zero_copies": True}, args)
    return Lowered("reshape_all", {"shape": shape}, {"x": x})


def _copied(x: Operand, axis: int) -> int | None:
    """A length of x, where it is known."""
    return None if x.shape is None or axis >= len(x.shape) else x.shape[axis]


def _keeps_batch(x: Operand, shape: list[int | None]) -> bool:
    """Whether the first axis stays what it is, however long: it is copied, or nothing else is left for it."""
    if not shape or shape[0] is None:
        return bool(shape)
    if x.shape is None or not x.shape or None in x.shape[1:] or shape[0] not in (-1, x.shape[0]):
        return False
    inner = math.prod(n or 0 for n in x.shape[1:])
    return inner > 0 and (
        (-1 in shape[1:] and shape[0] != -1) or inner == math.prod(n if n is not None else -1 for n in shape[1:])
    )


@onnx("Flatten")
def _flatten(node: Node) -> Lowered:
    axis = node.axis("axis", 1)
    if axis == 1:
        return Lowered("flatten", {"data_format": "channels_last"}, {"x": node.need(0)})
    return Lowered("flatten_at", {"axis": axis}, {"x": node.need(0)})


@onnx("Squeeze", "Unsqueeze")
def _axes(node: Node) -> Lowered:
    kind = "squeeze" if node.op == "Squeeze" else "expand_dims"
    try:
        axes = node.ints("axes", 1)
    except UnclearError:
        return Lowered(f"dynamic_{kind}", {}, {"x": node.need(0), "axes": node.need(1)})
    rank = node.need(0).rank
    full = rank if kind == "squeeze" else rank + len(axes or ())
    if axes and rank >= 0 and full:
        axes = sorted(a % full for a in axes)
    return Lowered(kind, {"axis": axes}, {"x": node.need(0)})


@onnx("Expand")
def _expand(node: Node) -> Lowered:
    return settled(node, "expand", {}, {"shape": ("shape", 1)})


def settled(
    node: Node,
    kind: str,
    attributes: dict[str, Json],
    settings: dict[str, tuple[str, int]],
    single: bool = False,
    **args: Argument,
) -> Lowered:
    """A kind whose settings are attributes where they are known, and arguments where not."""
    given: dict[str, Argument] = {"x": node.need(0), **args}
    for name, (key, place) in settings.items():
        try:
            found = node.ints(key, place)
        except UnclearError:
            given[name] = node.need(place)
            continue
        if found is not None:
            attributes[name] = found[0] if single else found
    return Lowered(kind, attributes, given)


@onnx("Tile")
def _tile(node: Node) -> Lowered:
    if node.version < 6:
        raise UnclearError("Tile along one axis")
    try:
        return Lowered("tile", {"times": node.ints("repeats", 1)}, {"x": node.need(0)})
    except UnclearError:
        return Lowered("dynamic_tile", {}, {"x": node.need(0), "times": node.need(1)})


# -- parts -------------------------------------------------------------------------------------------------------------


@onnx("Slice")
def _slice(node: Node) -> Lowered:
    try:
        starts, ends = node.ints("starts", 1) or [], node.ints("ends", 2) or []
        axes = node.ints("axes", 3, range(len(starts))) or list(range(len(starts)))
        steps = node.ints("steps", 4, [1] * len(starts)) or [1] * len(starts)
    except UnclearError:
        places = {"starts": 1, "ends": 2, "axes": 3, "steps": 4}
        return Lowered("dynamic_slice", {}, {"x": node.need(0), **{k: node.operand(i) for k, i in places.items()}})
    rank = node.need(0).rank
    if rank < 0 and not all(0 <= axis < MOST_AXES for axis in axes):
        lists = {"starts": starts, "ends": ends, "axes": axes, "steps": steps}
        args: dict[str, Argument] = {k: inline(v, "int64") for k, v in lists.items()}
        return Lowered("dynamic_slice", {}, {"x": node.need(0), **args})
    index: list[Json] = []
    for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
        place = axis % rank if rank > 0 else axis
        index += [{"start": None, "stop": None, "step": None} for _ in range(place + 1 - len(index))]
        index[place] = _range(start, end, step)
    return Lowered("slice", {"index": index}, {"x": node.need(0)})


def _range(start: int, end: int, step: int) -> Json:
    """Bounds as Python has them; those that say nothing are left out."""
    unbounded = end >= _FAR if step > 0 else end <= -_FAR
    first = (step > 0 and start == 0) or (step < 0 and start >= _FAR)
    return {
        "start": None if first else start,
        "stop": None if unbounded else end,
        "step": None if step == 1 else step,
    }


@onnx("Split")
def _split(node: Node) -> Lowered:
    x, count = node.need(0), len(node.outputs)
    axis = int(node.get("axis", 0))
    roles = tuple("y" if i == 0 else f"y_{i}" for i in range(count))
    try:
        sizes: Any = node.ints("split", 1)
    except UnclearError:
        return Lowered("dynamic_split", {"axis": axis}, {"x": x, "sizes": node.need(1)}, roles=roles)
    if not sizes:  # `num_outputs` says no more than the node does
        sizes = _equal(x, axis, count)
    return Lowered("split", {"axis": axis, "sizes": sizes}, {"x": x}, roles=roles)


def _equal(x: Operand, axis: int, count: int) -> Json:
    """Equal lengths: a number where they surely are, else all but the last."""
    n = None if x.shape is None or not -len(x.shape) <= axis < len(x.shape) else x.shape[axis]
    return count if n is not None and n % count == 0 else {"parts": count}


@onnx("Pad")
def _pad(node: Node) -> Lowered:
    x, mode = node.need(0), node.word("mode", "constant", "reflect", "edge", "wrap")
    try:
        flat = node.ints("paddings" if "paddings" in node.attributes else "pads", 1) or []
        axes, value = node.ints("axes", 3), node.array("value", 2)
    except UnclearError:
        places = {"pads": 1, "value": 2, "axes": 3}
        args = {k: _listed(node, k, i) for k, i in places.items()}
        return Lowered("dynamic_pad", {"mode": mode}, {"x": x, **args})
    n = len(flat) // 2
    rank = n if axes is None else x.rank
    fill = 0.0 if value is None or not value.size else value.reshape(-1)[0].item()
    if rank < 0:
        known: dict[str, Argument] = {"pads": inline(flat, "int64"), "axes": inline(axes, "int64")}
        return Lowered("dynamic_pad", {"mode": mode}, {"x": x, "value": node.operand(2), **known})
    pads = [[0, 0] for _ in range(rank)]
    for i, axis in enumerate(range(n) if axes is None else axes):
        pads[axis] = [flat[i], flat[n + i]]
    attributes: dict[str, Json] = {"pads": pads, "value": fill}
    return Lowered("pad_all", attributes if mode == "constant" else {**attributes, "mode": mode}, {"x": x})


def _listed(node: Node, name: str, i: int) -> Operand | Const | None:
    """A setting as an argument, whether it is an input or an attribute."""
    if name not in node.attributes:
        return node.operand(i)
    found = np.asarray(node.attributes[name])
    return inline(found, "float32" if found.dtype.kind == "f" else "int64")


@onnx("DepthToSpace", "SpaceToDepth")
def _blocks(node: Node) -> Lowered:
    kind = "depth_to_space" if node.op == "DepthToSpace" else "space_to_depth"
    attributes = {"block": int(node.get("blocksize")), "mode": node.word("mode", "DCR", "CRD")}
    return Lowered(kind, attributes, {"x": node.need(0)})


# -- computing with shapes ---------------------------------------------------------------------------------------------


@onnx("Shape")
def _shape(node: Node) -> Lowered:
    end = node.get("end")
    attributes = {"start": int(node.get("start", 0)), "end": None if end is None else int(end)}
    return Lowered("shape", attributes, {"x": node.need(0)})


@onnx("Size")
def _size(node: Node) -> Lowered:
    return Lowered("size", {}, {"x": node.need(0)})


@onnx("ConstantOfShape")
def _fill(node: Node) -> Lowered:
    value = np.asarray(node.get("value", np.zeros(1, np.float32))).reshape(-1)
    attributes: dict[str, Json] = {"value": value[0].item(), "type": value.dtype.name}
    try:
        attributes["shape"] = node.ints("shape", 0)
        return Lowered("fill", attributes, {})
    except UnclearError:
        return Lowered("fill", attributes, {"shape": node.need(0)})


@onnx("ConstantFill")
def _fill_of(node: Node) -> Lowered:
    """An experimental operator of old opsets, in which exporters made the zero states of recurrent layers."""
    if not node.get("input_as_shape", 0) or node.get("extra_shape") or int(node.get("dtype", 1)) != 1:
        raise UnclearError("ConstantFill of another form than a shape filled with floats")
    attributes: dict[str, Json] = {"value": float(node.get("value", 0.0)), "type": "float32"}
    return Lowered("fill", attributes, {"shape": node.need(0)})


@onnx("Range")
def _range_of(node: Node) -> Lowered:
    operands = {k: node.need(i) for i, k in enumerate(("start", "limit", "delta"))}
    return Lowered("range", {"type": operands["start"].dtype or "float32"}, operands)


@onnx("EyeLike")
def _eye(node: Node) -> Lowered:
    kind = named_type(node, "dtype", node.need(0).dtype or "float32")
    return Lowered("eye_like", {"k": int(node.get("k", 0)), "type": kind}, {"x": node.need(0)})


@onnx("Trilu")
@onnx("Trilu", domain="com.microsoft")
def _triangle(node: Node) -> Lowered:
    return settled(node, "triangle", {"upper": bool(node.get("upper", 1))}, {"k": ("k", 1)}, single=True)
