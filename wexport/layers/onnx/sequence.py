"""ONNX' operators on sequences and optional values.

Optional(x) and OptionalGetElement(x) are x; an optional value that is made empty is not supported.
Source: onnx/docs/Operators.md.
"""

from __future__ import annotations

from wexport.layers.onnx import Lowered, Node, onnx


@onnx("SequenceConstruct", "SequenceEmpty")
def _sequence(node: Node) -> Lowered:
    return Lowered("sequence", {}, {"items": tuple(node.need(i) for i in range(len(node.inputs)))})


@onnx("SequenceAt")
def _at(node: Node) -> Lowered:
    return Lowered("sequence_at", {}, {"sequence": node.need(0), "position": node.need(1)})


@onnx("SequenceInsert")
def _insert(node: Node) -> Lowered:
    return Lowered("sequence_insert", {}, {"sequence": node.need(0), "item": node.need(1), "position": node.operand(2)})


@onnx("SequenceErase")
def _erase(node: Node) -> Lowered:
    return Lowered("sequence_erase", {}, {"sequence": node.need(0), "position": node.operand(1)})


@onnx("SequenceLength")
def _length(node: Node) -> Lowered:
    return Lowered("sequence_length", {}, {"sequence": node.need(0)})


@onnx("SplitToSequence")
def _split(node: Node) -> Lowered:
    attributes = {"axis": int(node.get("axis", 0)), "keepdims": bool(node.get("keepdims", 1))}
    return Lowered("split_to_sequence", attributes, {"x": node.need(0), "sizes": node.operand(1)})


@onnx("ConcatFromSequence")
def _concat(node: Node) -> Lowered:
    attributes = {"axis": int(node.get("axis")), "new_axis": bool(node.get("new_axis", 0))}
    return Lowered("concat_sequence", attributes, {"sequence": node.need(0)})


@onnx("Optional", "OptionalGetElement")
def _element(node: Node) -> Lowered:
    return Lowered("identity", {}, {"x": node.need(0)})


@onnx("OptionalHasElement")
def _has(node: Node) -> Lowered:
    return Lowered("has_element", {}, {"element": node.operand(0)})
