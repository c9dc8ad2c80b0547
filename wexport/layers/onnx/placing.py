"""ONNX' operators that cut images, put them together, and turn them.

Source: onnx/docs/Operators.md.
"""

from __future__ import annotations

from wexport.layers.onnx import Argument, Lowered, Node, UnclearError, onnx
from wexport.layers.onnx.elementwise import TYPES, named_type
from wexport.model import Json


@onnx("CenterCropPad")
def _center(node: Node) -> Lowered:
    return Lowered("center_crop_pad", {"axes": node.ints("axes")}, {"x": node.need(0), "shape": node.need(1)})


@onnx("Col2Im")
def _columns(node: Node) -> Lowered:
    attributes: dict[str, Json] = {"pads": node.ints("pads"), "strides": node.ints("strides")}
    attributes["dilation"] = node.ints("dilations")
    args: dict[str, Argument] = {"x": node.need(0), "size": node.need(1), "block": node.need(2)}
    return Lowered("columns_to_image", attributes, args)


@onnx("AffineGrid")
def _affine(node: Node) -> Lowered:
    attributes = {"align_corners": bool(node.get("align_corners", 0))}
    return Lowered("affine_grid", attributes, {"theta": node.need(0), "size": node.need(1)})


@onnx("BitCast")
def _bits(node: Node) -> Lowered:
    source = node.need(0).dtype
    if source not in TYPES.values():
        raise UnclearError(f"BitCast of element type {source}")
    return Lowered("reinterpret", {"source_type": source, "type": named_type(node, "to")}, {"x": node.need(0)})
