"""ONNX' pooling and resizing operators: channels first.

`auto_pad` says the padding in words: SAME_UPPER is `same`; SAME_LOWER, whose odd zero stands before, `same_lower`.
Upsample (opsets 7 to 9) and Resize 10 are Resize with coordinates `asymmetric` and positions rounded down. A resizing
of images by whole factors that Keras' UpSampling2D does, too, is of its kind, `upsample`; others are `interpolate`.
Source: onnx/docs/Operators.md, Changelog.md.
"""

from __future__ import annotations

from typing import Any

from wexport.layers.onnx import Argument, Lowered, Node, UnclearError, onnx
from wexport.model import Json

FIRST = "channels_first"


def window(node: Node) -> dict[str, Json]:
    """The window of a pooling operator; what is usual everywhere is not said."""
    size = [int(n) for n in node.get("kernel_shape", ())]
    strides = [int(n) for n in node.get("strides") or [1] * len(size)]
    dilation = [int(n) for n in node.get("dilations") or [1] * len(size)]
    padding = padding_of(node, len(size))
    found: dict[str, Json] = {"size": size, "strides": strides, "padding": padding, "data_format": FIRST}
    if max(dilation, default=1) > 1:
        found["dilation"] = dilation
    if node.get("ceil_mode", 0):
        found["ceil"] = True
    return found


_WORDS = {"SAME_UPPER": "same", "SAME_LOWER": "same_lower", "VALID": "valid"}


def padding_of(node: Node, n: int) -> Json:
    """The zeros around x: a word, or pairs of numbers."""
    word = node.word("auto_pad", "NOTSET", "SAME_UPPER", "SAME_LOWER", "VALID")
    if word in _WORDS:
        return _WORDS[word]
    flat = [int(n) for n in node.get("pads") or [0] * 2 * n]
    return "valid" if not any(flat) else [[flat[i], flat[n + i]] for i in range(n)]


@onnx("MaxPool")
def _max_pool(node: Node) -> Lowered:
    found = window(node)
    wanted = len(node.outputs) > 1 and node.outputs[1] is not None
    if wanted and node.get("storage_order", 0):
        found["column_major"] = True
    return Lowered("max_pool", found, {"x": node.need(0)}, roles=("y", "indices") if wanted else ("y",))


@onnx("AveragePool")
def _average_pool(node: Node) -> Lowered:
    found = window(node)
    if node.get("count_include_pad", 0) and found["padding"] != "valid":
        found["include_padding"] = True
    return Lowered("average_pool", found, {"x": node.need(0)})


@onnx("LpPool")
def _lp_pool(node: Node) -> Lowered:
    return Lowered("lp_pool", {"p": int(node.get("p", 2)), **window(node)}, {"x": node.need(0)})


@onnx("GlobalMaxPool", "GlobalAveragePool")
def _global(node: Node) -> Lowered:
    kind = "global_max_pool" if "Max" in node.op else "global_average_pool"
    return Lowered(kind, {"data_format": FIRST, "keepdims": True}, {"x": node.need(0)})


@onnx("GlobalLpPool")
def _global_lp(node: Node) -> Lowered:
    return Lowered("global_lp_pool", {"p": int(node.get("p", 2)), "data_format": FIRST}, {"x": node.need(0)})


@onnx("LRN")
def _lrn(node: Node) -> Lowered:
    attributes = {
        "size": int(node.get("size")),
        "alpha": float(node.get("alpha", 1e-4)),
        "beta": float(node.get("beta", 0.75)),
        "bias": float(node.get("bias", 1.0)),
    }
    return Lowered("local_response_norm", attributes, {"x": node.need(0)})


# -- resizing ----------------------------------------------------------------------------------------------------------


def _interpolation(node: Node) -> str:
    mode = node.word("mode", "nearest", "linear", "cubic", "bilinear", "bicubic")
    return {"bilinear": "linear", "bicubic": "cubic"}.get(mode, mode)


@onnx("Upsample")
def _upsample(node: Node) -> Lowered:
    if node.version < 7:
        raise UnclearError("Upsample with scales of two axes")
    return _resizing(node, _old(node), {"scales": 1})


def _old(node: Node) -> dict[str, Json]:
    """Upsample, and Resize of opset 10."""
    return {
        "interpolation": _interpolation(node), "coordinates": "asymmetric", "rounding": "floor", "cubic_slope": -0.75,
        "exclude_outside": False, "outside": 0.0, "antialias": False, "aspect": "stretch", "axes": None,
    }  # fmt: skip


_COORDINATES = (
    "half_pixel", "half_pixel_symmetric", "pytorch_half_pixel", "align_corners", "asymmetric", "tf_crop_and_resize",
    "tf_half_pixel_for_nn",
)  # fmt: skip


@onnx("Resize")
def _resize(node: Node) -> Lowered:
    if node.version < 11:
        return _resizing(node, _old(node), {"scales": 1})
    axes = node.get("axes")
    attributes: dict[str, Json] = {
        "interpolation": _interpolation(node),
        "coordinates": node.word("coordinate_transformation_mode", *_COORDINATES),
        "rounding": node.word("nearest_mode", "round_prefer_floor", "round_prefer_ceil", "floor", "ceil"),
        "cubic_slope": float(node.get("cubic_coeff_a", -0.75)),
        "exclude_outside": bool(node.get("exclude_outside", 0)),
        "outside": float(node.get("extrapolation_value", 0.0)),
        "antialias": bool(node.get("antialias", 0)),
        "aspect": node.word("keep_aspect_ratio_policy", "stretch", "not_larger", "not_smaller"),
        "axes": None if axes is None else [int(i) for i in axes],
    }
    return _resizing(node, attributes, {"region": 1, "scales": 2, "sizes": 3})


def _resizing(node: Node, attributes: dict[str, Json], places: dict[str, int]) -> Lowered:
    args: dict[str, Argument] = {"x": node.need(0)}
    for name, i in places.items():
        if name == "region" and attributes["coordinates"] != "tf_crop_and_resize":
            continue
        try:
            found = node.array(name, i)
        except UnclearError:
            args[name] = node.need(i)
            continue
        if found is not None and found.size:
            attributes[name] = found.reshape(-1).tolist()
    factors = _factors(attributes)
    if factors is None:
        return Lowered("interpolate", attributes, args)
    word = "bilinear" if attributes["interpolation"] == "linear" else "nearest"
    same = {"interpolation": word, "coordinates": attributes["coordinates"], "data_format": FIRST}
    return Lowered("upsample", {"factors": factors, **same}, {"x": node.need(0)})


_SIMPLE = {
    ("nearest", "asymmetric", "floor"), ("nearest", "half_pixel", "round_prefer_floor"),
    ("nearest", "half_pixel", "round_prefer_ceil"),
}  # fmt: skip


def _factors(attributes: dict[str, Json]) -> list[int] | None:
    """The whole factors of an `upsample` of images that is exactly this resizing."""
    scales: Any = attributes.get("scales")
    if scales is None or attributes["axes"] is not None or attributes["antialias"] or len(scales) != 4:
        return None
    how = (attributes["interpolation"], attributes["coordinates"], attributes["rounding"])
    linear = how[0] == "linear" and how[1] in {"asymmetric", "half_pixel"}
    if not (linear or how in _SIMPLE) or scales[:2] != [1, 1]:
        return None
    whole = all(s >= 1 and float(s).is_integer() for s in scales[2:])
    return [int(s) for s in scales[2:]] if whole else None


@onnx("GridSample")
@onnx("GridSample", domain="com.microsoft")
def _grid_sample(node: Node) -> Lowered:
    attributes = {
        "interpolation": _interpolation(node) if node.get("mode") else "linear",
        "padding": node.word("padding_mode", "zeros", "border", "reflection"),
        "align_corners": bool(node.get("align_corners", 0)),
    }
    return Lowered("grid_sample", attributes, {"x": node.need(0), "grid": node.need(1)})


# -- regions -----------------------------------------------------------------------------------------------------------


@onnx("RoiAlign")
def _roi_align(node: Node) -> Lowered:
    usual = "half_pixel" if node.version >= 16 else "output_half_pixel"
    attributes = {
        "mode": "max" if node.get("mode", "avg") == "max" else "average",
        "size": [int(node.get("output_height", 1)), int(node.get("output_width", 1))],
        "samples": int(node.get("sampling_ratio", 0)),
        "scale": float(node.get("spatial_scale", 1.0)),
        "half_pixel": str(node.get("coordinate_transformation_mode", usual)) == "half_pixel",
    }
    return Lowered("roi_align", attributes, {"x": node.need(0), "regions": node.need(1), "items": node.need(2)})


@onnx("MaxRoiPool")
def _roi_max(node: Node) -> Lowered:
    attributes: dict[str, Json] = {"size": node.ints("pooled_shape"), "scale": float(node.get("spatial_scale", 1.0))}
    return Lowered("roi_max", attributes, {"x": node.need(0), "regions": node.need(1)})


@onnx("MaxUnpool")
def _max_unpool(node: Node) -> Lowered:
    size = [int(n) for n in node.get("kernel_shape", ())]
    flat = [int(n) for n in node.get("pads") or [0] * 2 * len(size)]
    attributes = {
        "size": size,
        "strides": [int(n) for n in node.get("strides") or [1] * len(size)],
        "pads": [[flat[i], flat[len(size) + i]] for i in range(len(size))],
    }
    return Lowered("max_unpool", attributes, {"x": node.need(0), "indices": node.need(1), "shape": node.operand(2)})
