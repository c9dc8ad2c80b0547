"""Images of another size: Resizing and CenterCrop.

Bilinear, bicubic and Lanczos interpolation are one thing with three kernels: an element of the result is the mean of
x's elements, each weighed by its distance from where the result's lies in x; what lies beyond the border has no part
in it. With `antialias`, the kernel of an image that shrinks is as much wider. `crop_to_aspect_ratio` cuts first what is
too much, `pad_to_aspect_ratio` adds what is missing, both in the middle.
Refused (unknown): interpolation by area, which has other definitions elsewhere.

Sources: keras/src/backend/jax/image.py and layers/preprocessing/image_preprocessing (3.15.1); Keys 1981 (cubic).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wexport.features import Value, resample
from wexport.layers.conv import channel_axis, channels_last, restored
from wexport.layers.keras import Keras, Stored, keras, plain, unknown
from wexport.layers.registry import ANY, FORMAT, INT, TEXT, Flow, computes, flow, kind
from wexport.layers.step import Step

Array = NDArray[Any]

kind("resize", height=INT, width=INT, interpolation=TEXT, data_format=FORMAT, options=ANY)
kind("center_crop", height=INT, width=INT, data_format=FORMAT)


def _triangle(d: Array) -> Array:
    return np.maximum(1 - d, 0)


def _cubic(d: Array) -> Array:
    far = np.where(d < 2, ((-0.5 * d + 2.5) * d - 4) * d + 2, 0.0)
    return np.where(d < 1, (1.5 * d - 2.5) * d * d + 1, far)


def _lanczos(radius: int) -> Callable[[Array], Array]:
    return lambda d: np.where(d < radius, np.sinc(d) * np.sinc(d / radius), 0.0)


KERNELS: dict[str, Callable[[Array], Array]] = {
    "bilinear": _triangle, "bicubic": _cubic, "lanczos3": _lanczos(3), "lanczos5": _lanczos(5),
}  # fmt: skip


def resized(
    x: Array, axis: int, size: int, interpolation: str, coordinates: str = "half_pixel", antialias: bool = False
) -> Array:
    """x with an axis interpolated to another length."""
    n = x.shape[axis]
    if n == size:
        return x
    half = 0.5 if coordinates == "half_pixel" else 0.0
    place = (np.arange(size) + half) * n / size
    if interpolation == "nearest":
        return np.take(x, np.minimum(np.floor(place).astype(int), n - 1), axis)
    width = max(n / size, 1.0) if antialias else 1.0
    weights = KERNELS[interpolation](np.abs((place - half)[:, None] - np.arange(n)) / width)
    weights = weights / weights.sum(axis=1, keepdims=True)
    return np.moveaxis(np.tensordot(weights, x, (1, axis)), 0, axis)


@keras("Resizing")
def _resizing(layer: Keras) -> Stored:
    options = {
        k: plain(layer.get(k))
        for k in ("crop_to_aspect_ratio", "pad_to_aspect_ratio", "antialias", "fill_value")
        if layer.get(k)
    }
    attributes = {
        "height": layer.integer("height"),
        "width": layer.integer("width"),
        "interpolation": str(layer.get("interpolation", default="bilinear")),
        "data_format": layer.data_format,
        "options": options,
    }
    if attributes["interpolation"] not in {"nearest", *KERNELS}:
        return unknown(layer)
    return Stored("resize", attributes)


@keras("CenterCrop")
def _center(layer: Keras) -> Stored:
    attributes = {"height": layer.integer("height"), "width": layer.integer("width"), "data_format": layer.data_format}
    return Stored("center_crop", attributes)


@flow("resize", "center_crop")
def _image_flow(f: Flow) -> Mapping[str, Value]:
    a = f.attributes
    return {"y": resample(f.x, (a["height"], a["width"]), channel_axis(a)) if f.x.rank == 4 else f.source(None)}


@computes("resize")
def _compute_resize(step: Step) -> Array:
    a, x = step.attributes, channels_last(step)
    if a["options"].get("crop_to_aspect_ratio"):
        x = _cut(x, a["height"], a["width"])
    if a["options"].get("pad_to_aspect_ratio"):
        x = _padded(x, a["height"], a["width"], float(a["options"].get("fill_value") or 0))
    for axis, size in ((1, a["height"]), (2, a["width"])):
        x = resized(x, axis, size, a["interpolation"], antialias=bool(a["options"].get("antialias")))
    return restored(step, x)


def _cut(x: Array, height: int, width: int) -> Array:
    """The middle of x that has the proportions of height and width."""
    h, w = x.shape[1:3]
    inner_h, inner_w = max(min(h, w * height // width), 1), max(min(w, h * width // height), 1)
    top, left = (h - inner_h) // 2, (w - inner_w) // 2
    return x[:, top : top + inner_h, left : left + inner_w]


def _padded(x: Array, height: int, width: int, value: float) -> Array:
    """x in the middle of an image that has the proportions of height and width."""
    h, w = x.shape[1:3]
    top, left = (max(h, w * height // width) - h) // 2, (max(w, h * width // height) - w) // 2
    return np.pad(x, [(0, 0), (top, top), (left, left), (0, 0)], constant_values=value)


@computes("center_crop")
def _compute_center(step: Step) -> Array:
    """The middle of x; an x that is too small is cut to the proportions and enlarged."""
    a, x = step.attributes, channels_last(step)
    h, w = x.shape[1] - a["height"], x.shape[2] - a["width"]
    if h >= 0 and w >= 0:
        return restored(step, x[:, h // 2 : h // 2 + a["height"], w // 2 : w // 2 + a["width"]])
    x = _cut(x, a["height"], a["width"])
    return restored(step, resized(resized(x, 1, a["height"], "bilinear"), 2, a["width"], "bilinear"))
