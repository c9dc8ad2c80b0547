"""ONNX' operators that take or put elements by computed positions.

Scatter is ScatterElements' old name. OneHot's depth and values are inputs: arguments.
Source: onnx/docs/Operators.md, Changelog.md.
"""

from __future__ import annotations

from wexport.layers.onnx import Argument, Lowered, Node, onnx

_REDUCTIONS = ("add", "mul", "max", "min")


@onnx("GatherElements")
def _gather_elements(node: Node) -> Lowered:
    args = {"x": node.need(0), "indices": node.need(1)}
    return Lowered("gather_elements", {"axis": int(node.get("axis", 0))}, args)


@onnx("GatherND")
def _gather_nd(node: Node) -> Lowered:
    args = {"x": node.need(0), "indices": node.need(1)}
    return Lowered("gather_nd", {"batch_dims": int(node.get("batch_dims", 0))}, args)


@onnx("Scatter", "ScatterElements")
def _scatter_elements(node: Node) -> Lowered:
    attributes = {"axis": int(node.get("axis", 0)), "reduction": node.word("reduction", "none", *_REDUCTIONS)}
    return Lowered("scatter_elements", attributes, _put(node))


@onnx("ScatterND")
def _scatter_nd(node: Node) -> Lowered:
    return Lowered("scatter_nd", {"reduction": node.word("reduction", "none", *_REDUCTIONS)}, _put(node))


def _put(node: Node) -> dict[str, Argument]:
    return {"x": node.need(0), "indices": node.need(1), "updates": node.need(2)}


@onnx("OneHot")
def _one_hot(node: Node) -> Lowered:
    args = {"x": node.need(0), "depth": node.need(1), "values": node.need(2)}
    return Lowered("one_hot_values", {"axis": int(node.get("axis", -1))}, args)


@onnx("Compress")
def _compress(node: Node) -> Lowered:
    axis = node.get("axis")
    args = {"x": node.need(0), "condition": node.need(1)}
    return Lowered("compress", {"axis": None if axis is None else int(axis)}, args)


@onnx("NonZero")
def _nonzero(node: Node) -> Lowered:
    return Lowered("nonzero", {}, {"x": node.need(0)})


_UNIQUE = ("y", "indices", "inverse", "counts")


@onnx("Unique")
def _unique(node: Node) -> Lowered:
    axis = node.get("axis")
    attributes = {"axis": None if axis is None else int(axis), "sorted": bool(node.get("sorted", 1))}
    return Lowered("unique", attributes, {"x": node.need(0)}, roles=_UNIQUE[: len(node.outputs)])


@onnx("ReverseSequence")
def _reverse(node: Node) -> Lowered:
    attributes = {"time_axis": int(node.get("time_axis", 0)), "batch_axis": int(node.get("batch_axis", 1))}
    return Lowered("reverse_sequence", attributes, {"x": node.need(0), "lengths": node.need(1)})


@onnx("NonMaxSuppression")
def _suppression(node: Node) -> Lowered:
    names = ("x", "scores", "max_per_class", "overlap", "threshold")
    args = {name: node.operand(i) for i, name in enumerate(names)}
    return Lowered("non_max_suppression", {"centered": bool(node.get("center_point_box", 0))}, args)
