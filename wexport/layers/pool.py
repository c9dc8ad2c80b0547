"""Pooling: the channels stay what they are.

    MaxPooling, AveragePooling in one to three dimensions (zeros of the padding do not count), global and
    adaptive pooling. GlobalAveragePooling1D leaves masked steps out.

Other frameworks know windows with holes (`dilation`), a last window that only begins within x (`ceil`), means that
count the padding's zeros (`include_padding`), and the places of the maxima (role `indices`) in all of x, taken with
its channels first; `column_major` counts the first spatial axis fastest.

Sources: keras/src/layers/pooling (3.15.1); keras/layers/pooling.py (1.2.2, 2.2.4).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wexport.features import Value, drop_axis, resample
from wexport.layers.conv import channel_axis, channels_last, each_axis, restored, spatial, window_length
from wexport.layers.keras import Keras, Stored, keras
from wexport.layers.numerics import laid_out, pool, windows
from wexport.layers.registry import BOOL, FORMAT, INTS, PADDING, Flow, computes, flow, kind
from wexport.layers.step import Step
from wexport.model import Json

Array = NDArray[Any]

_MAYBE: dict[str, Json] = {"ceil": BOOL, "dilation": INTS, "include_padding": BOOL, "column_major": BOOL}
kind("max_pool", "average_pool", maybe=_MAYBE, size=INTS, strides=INTS, padding=PADDING, data_format=FORMAT)
kind("global_max_pool", "global_average_pool", data_format=FORMAT, keepdims=BOOL)
kind("adaptive_max_pool", "adaptive_average_pool", output_size=INTS, data_format=FORMAT)

_WINDOWED = {f"{word}{n}D": n for word in ("MaxPooling", "AveragePooling", "MaxPool", "AvgPool") for n in (1, 2, 3)}
_GLOBAL = {f"Global{word}": n for word, n in _WINDOWED.items()}
_ADAPTIVE = {f"Adaptive{word}{n}D": n for word in ("MaxPooling", "AveragePooling") for n in (1, 2, 3)}


def _format(layer: Keras) -> str:
    """One-dimensional pooling had no data format before 2.2: its channels are last."""
    one = layer.class_name.endswith("1D")
    return "channels_last" if one and "data_format" not in layer.config else layer.data_format


def _what(layer: Keras) -> str:
    return "max" if "Max" in layer.class_name else "average"


@keras(*_WINDOWED)
def _windowed(layer: Keras) -> Stored:
    n = _WINDOWED[layer.class_name]
    size = layer.numbers(n, "pool_size", "pool_length", default=2)
    given = layer.get("strides", "stride")
    strides = size if given is None else layer.numbers(n, "strides", "stride")
    padding = _padding(layer, size, strides)
    attributes = {"size": size, "strides": strides, "data_format": _format(layer), "padding": padding}
    return Stored(f"{_what(layer)}_pool", attributes)


def _padding(layer: Keras, size: list[int], strides: list[int]) -> Json:
    """A word, or pairs where Theano's `same` begins elsewhere: it pads both sides and cuts off the end (K.pool2d)."""
    word = str(layer.get("padding", "border_mode", default="valid"))
    before = [k - 2 if k > 2 and k % 2 else k - 1 for k in size]
    usual = max(strides) == 1 and all(p == (k - 1) // 2 for p, k in zip(before, size, strict=True))
    if word != "same" or not layer.era.theano or usual:
        return word
    return [[p, k - 1 - p] for p, k in zip(before, size, strict=True)]


@keras(*_GLOBAL)
def _global(layer: Keras) -> Stored:
    attributes = {"data_format": _format(layer), "keepdims": layer.flag("keepdims", default=False)}
    masked = layer.class_name in {"GlobalAveragePooling1D", "GlobalAvgPool1D"} and layer.era.major > 1
    return Stored(f"global_{_what(layer)}_pool", attributes, takes_mask=masked)


@keras(*_ADAPTIVE)
def _adaptive(layer: Keras) -> Stored:
    n = _ADAPTIVE[layer.class_name]
    attributes = {"output_size": layer.numbers(n, "output_size"), "data_format": layer.data_format}
    return Stored(f"adaptive_{_what(layer)}_pool", attributes)


@flow("max_pool", "average_pool")
def _windowed_flow(f: Flow) -> Mapping[str, Value]:
    a = f.attributes
    pads = each_axis(a["padding"], len(a["size"]))
    dilation = a.get("dilation") or [1] * len(a["size"])
    of = zip(spatial(f.x, a), a["size"], a["strides"], pads, dilation, strict=False)
    lengths = [window_length(*item, ceil=a.get("ceil", False)) for item in of]
    y = resample(f.x, lengths, channel_axis(a))
    return {"y": y, "indices": f.source(y.shape, "indices", dtype="int64")}


@flow("adaptive_max_pool", "adaptive_average_pool")
def _adaptive_flow(f: Flow) -> Mapping[str, Value]:
    return {"y": resample(f.x, f.attributes["output_size"], channel_axis(f.attributes))}


@flow("global_max_pool", "global_average_pool")
def _global_flow(f: Flow) -> Mapping[str, Value]:
    a, x = f.attributes, f.x
    if x.shape is None:
        return {"y": x}
    channel = channel_axis(a)
    if a["keepdims"]:
        return {"y": resample(x, [1] * (x.rank - 2), channel)}
    x = resample(x, spatial(x, a), channel)
    for _ in range(x.rank - 2):
        x = drop_axis(x, 2 if channel == 1 else 1)
    return {"y": x}


@computes("max_pool", "average_pool")
def _compute_windowed(step: Step) -> dict[str, Array]:
    a = step.attributes
    average, x = "average" in step.kind, channels_last(step)
    x = x if x.dtype.kind == "f" else x.astype(np.float64)
    found = {k: a[k] for k in ("dilation", "ceil", "include_padding") if k in a}
    y = restored(step, pool(x, a["size"], a["strides"], a["padding"], average, **found))
    if not any(out["role"] == "indices" for out in step.out):
        return {"y": y}
    return {"y": y, "indices": restored(step, _places(step, x))}


def _places(step: Step, x: Array) -> Array:
    """Where the maxima stand in x."""
    a, n = step.attributes, len(step.attributes["size"])
    dilation = a.get("dilation") or [1] * n
    channels, space = x.shape[-1], x.shape[1:-1]
    inner = np.arange(int(np.prod(space))).reshape(space, order="F" if a.get("column_major") else "C")
    planes = np.arange(len(x) * channels).reshape(len(x), *(1,) * n, channels) * inner.size
    where = planes + inner[None, ..., None]
    how = (a["size"], a["strides"], a["padding"], dilation, a.get("ceil", False))
    seen, at = (
        windows(laid_out(v, *how, fill), a["size"], a["strides"], dilation) for v, fill in ((x, -np.inf), (where, -1))
    )
    flat = [v.reshape(*v.shape[: n + 1], -1, channels) for v in (seen, at)]
    return np.take_along_axis(flat[1], flat[0].argmax(axis=-2)[..., None, :], axis=-2)[..., 0, :]


@computes("global_max_pool", "global_average_pool")
def _compute_global(step: Step) -> Array:
    x = channels_last(step)
    axes = tuple(range(1, x.ndim - 1))
    keep = step.attributes["keepdims"]
    mask = step.args.get("mask")
    if "max" in step.kind:
        y = x.max(axis=axes, keepdims=keep)
    elif mask is not None:
        weight = np.asarray(mask, dtype=np.float64)[..., None]
        y = (x * weight).sum(axis=1, keepdims=keep) / weight.sum(axis=1, keepdims=keep)
    else:
        y = x.mean(axis=axes, keepdims=keep)
    return restored(step, y) if keep else np.asarray(y)


@computes("adaptive_max_pool", "adaptive_average_pool")
def _compute_adaptive(step: Step) -> Array:
    x = channels_last(step)
    reduce = np.max if "max" in step.kind else np.mean
    for axis, size in enumerate(step.attributes["output_size"], 1):
        n = x.shape[axis]
        bounds = [(i * n // size, -(-(i + 1) * n // size)) for i in range(size)]
        parts = [reduce(np.take(x, range(a, b), axis), axis=axis, keepdims=True) for a, b in bounds]
        x = np.concatenate(parts, axis=axis)
    return restored(step, x)
