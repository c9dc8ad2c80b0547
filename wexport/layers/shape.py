"""Layers that move values without changing them: their features are followed through.

    Flatten (rows in the order of the stored layout, or channels last first), Reshape, Permute, RepeatVector,
    ZeroPadding, Cropping, UpSampling, Masking (zeros what is masked), Rescaling

Axes count the batch as 0, save those of `permute`, which count from 1 behind it, as Keras writes them.
Flatten: without a `data_format` (Keras 1, 2.0) it is a plain reshape; with `channels_first` (2.1.3 on) the
channels are moved last before it (keras/layers/core.py, 2.2.4).
Sources: keras/src/layers/reshaping, core/masking.py, preprocessing/rescaling.py (3.15.1).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wexport.features import Dim, Value, new_axis, resample, reshape, transpose
from wexport.layers.activation import unchanged
from wexport.layers.conv import channel_axis, channels_last, restored, spatial
from wexport.layers.keras import Keras, Stored, keras, plain
from wexport.layers.registry import ANY, FORMAT, INT, INTS, NUMBER, TEXT, Flow, computes, equations, flow, kind
from wexport.layers.resizing import resized
from wexport.layers.step import Step, Terms
from wexport.model import Json

Array = NDArray[Any]

kind("flatten", moves=True, data_format=FORMAT)
kind("reshape", moves=True, shape=INTS)
kind("permute", moves=True, order=INTS)
kind("repeat", times=INT)
kind("pad", pads=ANY, data_format=FORMAT)
kind("crop", cuts=ANY, data_format=FORMAT)
kind("upsample", factors=INTS, interpolation=TEXT, coordinates=TEXT, data_format=FORMAT)
kind("masking", value=NUMBER)
kind("rescale", scale=ANY, offset=ANY)


@keras("Flatten")
def _flatten(layer: Keras) -> Stored:
    return Stored("flatten", {"data_format": layer.data_format if "data_format" in layer.config else "channels_last"})


@flow("flatten")
def _flatten_flow(f: Flow) -> Mapping[str, Value]:
    x, shape = f.x, f.x.shape
    if shape is None:
        return {"y": Value(None, x.dtype)}
    if f.attributes["data_format"] == "channels_first" and x.rank > 2:
        x = transpose(x, [0, *range(2, x.rank), 1])
    if x.rank < 2:
        return {"y": new_axis(x, 1)}
    total: Dim = None if None in shape[1:] else math.prod(n or 0 for n in shape[1:])
    return {"y": reshape(x, (shape[0], total))}


@computes("flatten")
def _compute_flatten(step: Step) -> Array:
    x = step.x
    if step.attributes["data_format"] == "channels_first" and x.ndim > 2:
        x = np.moveaxis(x, 1, -1)
    return x.reshape(len(x), -1)


@keras("Reshape")
def _reshape(layer: Keras) -> Stored:
    return Stored("reshape", {"shape": [int(n) if n is not None else -1 for n in plain(layer.need("target_shape"))]})


def filled(shape: Sequence[Dim], target: Sequence[int]) -> tuple[Dim, ...]:
    """A target shape with its -1 worked out, where the whole is known."""
    if -1 not in target:
        return tuple(target)
    known = math.prod(n for n in target if n != -1)
    total = None if None in shape else math.prod(n or 0 for n in shape)
    open_axis = None if total is None or not known else total // known
    return tuple(open_axis if n == -1 else n for n in target)


@flow("reshape")
def _reshape_flow(f: Flow) -> Mapping[str, Value]:
    target = f.attributes["shape"]
    if f.x.shape is None:
        return {"y": Value((None, *(None if n == -1 else n for n in target)), f.x.dtype)}
    return {"y": reshape(f.x, (*f.x.shape[:1], *filled(f.x.shape[1:], target)))}


@computes("reshape")
def _compute_reshape(step: Step) -> Array:
    return step.x.reshape(len(step.x), *step.attributes["shape"])


@keras("Permute")
def _permute(layer: Keras) -> Stored:
    return Stored("permute", {"order": [int(n) for n in plain(layer.need("dims"))]})


@flow("permute")
def _permute_flow(f: Flow) -> Mapping[str, Value]:
    order = [0, *f.attributes["order"]]
    return {"y": transpose(f.x, order) if f.x.rank == len(order) else Value(None, f.x.dtype)}


@computes("permute")
def _compute_permute(step: Step) -> Array:
    return np.transpose(step.x, [0, *step.attributes["order"]])


@keras("RepeatVector")
def _repeat(layer: Keras) -> Stored:
    return Stored("repeat", {"times": layer.integer("n")})


@flow("repeat")
def _repeat_flow(f: Flow) -> Mapping[str, Value]:
    return {"y": new_axis(f.x, 1, f.attributes["times"])}


@computes("repeat")
def _compute_repeat(step: Step) -> Array:
    return np.repeat(step.x[:, None], step.attributes["times"], axis=1)


# -- space -------------------------------------------------------------------------------------------------------------


def _rank(layer: Keras) -> int:
    return int(layer.class_name[-2])


def _pairs(layer: Keras, found: Json, n: int) -> list[list[int]]:
    """Amounts before and after each spatial axis, in the ways in which Keras' versions write them."""
    found = plain(found)
    if isinstance(found, Mapping):  # Keras 1: {"top_pad": 1, ...}
        names = [("left_pad", "right_pad")] if n == 1 else [("top_pad", "bottom_pad"), ("left_pad", "right_pad")]
        return [[int(found.get(a, 0)), int(found.get(b, 0))] for a, b in names]
    if not isinstance(found, list):
        return [[int(found)] * 2] * n
    if n == 1 and len(found) == 2 and not isinstance(found[0], list):
        return [[int(found[0]), int(found[1])]]
    if n == 2 and len(found) == 4:
        return [[int(found[0]), int(found[1])], [int(found[2]), int(found[3])]]
    return [[int(i) for i in p] if isinstance(p, list) else [int(p)] * 2 for p in found]


def _format(layer: Keras) -> str:
    """One-dimensional layers had no data format before Keras 3: their channels are last."""
    if _rank(layer) == 1 and "data_format" not in layer.config:
        return "channels_last"
    return layer.data_format


@keras("ZeroPadding1D", "ZeroPadding2D", "ZeroPadding3D")
def _pad(layer: Keras) -> Stored:
    return Stored("pad", {"pads": _pairs(layer, layer.need("padding"), _rank(layer)), "data_format": _format(layer)})


@keras("Cropping1D", "Cropping2D", "Cropping3D")
def _crop(layer: Keras) -> Stored:
    return Stored("crop", {"cuts": _pairs(layer, layer.need("cropping"), _rank(layer)), "data_format": _format(layer)})


@keras("UpSampling1D", "UpSampling2D", "UpSampling3D")
def _upsample(layer: Keras) -> Stored:
    era = layer.era
    half = era.major > 2 or (era.tf and era.version >= (2, 2, 4))
    attributes = {
        "factors": layer.numbers(_rank(layer), "size", "length"),
        "interpolation": str(layer.get("interpolation", default="nearest")),
        "coordinates": "half_pixel" if half else "asymmetric",
        "data_format": _format(layer),
    }
    return Stored("upsample", attributes)


def _respaced(f: Flow, lengths: Sequence[Dim]) -> Mapping[str, Value]:
    return {"y": resample(f.x, lengths, channel_axis(f.attributes))}


@flow("pad")
def _pad_flow(f: Flow) -> Mapping[str, Value]:
    sizes = zip(spatial(f.x, f.attributes), f.attributes["pads"], strict=False)
    return _respaced(f, [None if n is None else n + sum(p) for n, p in sizes])


@flow("crop")
def _crop_flow(f: Flow) -> Mapping[str, Value]:
    sizes = zip(spatial(f.x, f.attributes), f.attributes["cuts"], strict=False)
    return _respaced(f, [None if n is None else n - sum(p) for n, p in sizes])


@flow("upsample")
def _upsample_flow(f: Flow) -> Mapping[str, Value]:
    sizes = zip(spatial(f.x, f.attributes), f.attributes["factors"], strict=False)
    return _respaced(f, [None if n is None else n * k for n, k in sizes])


@computes("pad")
def _compute_pad(step: Step) -> Array:
    x = channels_last(step)
    return restored(step, np.pad(x, [(0, 0), *map(tuple, step.attributes["pads"]), (0, 0)]))


@computes("crop")
def _compute_crop(step: Step) -> Array:
    x = channels_last(step)
    inner = [slice(a, n - b) for (a, b), n in zip(step.attributes["cuts"], x.shape[1:-1], strict=True)]
    return restored(step, x[(slice(None), *inner)])


@computes("upsample")
def _compute_upsample(step: Step) -> Array:
    a, x = step.attributes, channels_last(step)
    for axis, factor in enumerate(a["factors"], 1):
        x = resized(x, axis, x.shape[axis] * factor, a["interpolation"], a["coordinates"])
    return restored(step, x)


# -- masking and rescaling ---------------------------------------------------------------------------------------------


@keras("Masking")
def _masking(layer: Keras) -> Stored:
    return Stored("masking", {"value": layer.number("mask_value", default=0.0)}, mask="make")


@flow("masking")
def _masking_flow(f: Flow) -> Mapping[str, Value]:
    shape = None if f.x.shape is None else f.x.shape[:-1]
    return {"y": f.x, "mask": f.source(shape, "mask", dtype="bool")}


@equations("masking")
def _masking_equations(terms: Terms) -> list[str]:
    return [f"mask = any(x != {terms.attributes['value']}, over=-1)", "y = x * each_row(mask)"]


@computes("masking")
def _compute_masking(step: Step) -> dict[str, Array]:
    kept = (step.x != step.attributes["value"]).any(axis=-1)
    return {"y": step.x * kept[..., None], "mask": kept}


@keras("Rescaling")
def _rescale(layer: Keras) -> Stored:
    attributes = {"scale": plain(layer.need("scale")), "offset": plain(layer.get("offset", default=0.0))}
    return Stored("rescale", attributes, mask="pass" if layer.era.major > 2 else "stop")


flow("rescale")(unchanged)


@computes("rescale")
def _compute_rescale(step: Step) -> Array:
    scale, offset = (np.asarray(step.attributes[k], dtype=np.float64) for k in ("scale", "offset"))
    return np.asarray(step.x * scale + offset)
