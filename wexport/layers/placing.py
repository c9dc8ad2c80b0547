"""Images cut, put together, and looked at from elsewhere. Channels are axis 1.

    center_crop_pad   axes cut or filled with zeros to new lengths (the argument `shape`), the middle where it was
    columns_to_image  every column of x `[batch, (channel offset), position]` is a window of the shape `block` of an
                      image of the shape `size`; the windows are added up. `pads`: all before, then all after
    affine_grid       for every place of an image its place before an affine map: `[batch, *place, axis]`, the last axis
                      first, from -1 to 1
    reinterpret       the bits of x read as another type

Source: onnx/docs/Operators.md, CenterCropPad-18, Col2Im-18, AffineGrid-20, BitCast-26.
"""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wexport import dtypes
from wexport.layers.dynamic import given
from wexport.layers.flows import opaque, typed
from wexport.layers.registry import BOOL, INTS, TEXT, computes, kind, optional
from wexport.layers.step import Step

Array = NDArray[Any]

kind("center_crop_pad", axes=optional(INTS))
kind("columns_to_image", strides=optional(INTS), dilation=optional(INTS), pads=optional(INTS))
kind("affine_grid", align_corners=BOOL)
kind("reinterpret", source_type=TEXT, type=TEXT)
opaque("center_crop_pad", "columns_to_image", "affine_grid")
typed("reinterpret")


@computes("center_crop_pad")
def _compute_center(step: Step) -> Array:
    y, axes = np.asarray(step.x), step.attributes["axes"]
    lengths = given(step.args["shape"])
    for axis, n in zip(range(y.ndim) if axes is None else axes, lengths, strict=True):
        more = n - y.shape[axis]
        if more < 0:
            y = np.take(y, range(-more // 2, -more // 2 + n), axis)
        pads = [(0, 0)] * y.ndim
        pads[axis] = (max(more, 0) // 2, max(more, 0) - max(more, 0) // 2)
        y = np.pad(y, pads)
    return y


@computes("columns_to_image")
def _compute_columns(step: Step) -> Array:
    a, x = step.attributes, step.x
    size, block = given(step.args["size"]), given(step.args["block"])
    n = len(size)
    flat, strides, dilation = a["pads"] or [0] * 2 * n, a["strides"] or [1] * n, a["dilation"] or [1] * n
    pads = list(zip(flat[:n], flat[n:], strict=True))
    full = [n + sum(p) for n, p in zip(size, pads, strict=True)]
    counts = [(n - (k - 1) * d - 1) // s + 1 for n, k, d, s in zip(full, block, dilation, strides, strict=True)]
    parts = x.reshape(len(x), -1, *block, *counts)
    y = np.zeros((*parts.shape[:2], *full))
    for offset in itertools.product(*map(range, block)):
        places = [
            slice(o * d, o * d + (c - 1) * s + 1, s)
            for o, d, c, s in zip(offset, dilation, counts, strides, strict=True)
        ]
        window: tuple[Any, ...] = (slice(None), slice(None), *offset)
        y[(slice(None), slice(None), *places)] += parts[window]
    kept = [slice(low, low + n) for n, (low, _) in zip(size, pads, strict=True)]
    return y[(slice(None), slice(None), *kept)]


@computes("affine_grid")
def _compute_affine(step: Step) -> Array:
    lengths, theta = given(step.args["size"])[2:], step.args["theta"]
    if step.attributes["align_corners"]:
        axes = [np.linspace(-1, 1, n) if n > 1 else np.zeros(1) for n in lengths]
    else:
        axes = [(2 * np.arange(n) + 1) / n - 1 for n in lengths]
    places = np.stack([*np.meshgrid(*axes, indexing="ij")[::-1], np.ones(lengths)], axis=-1)
    return np.asarray(np.einsum("bij,...j->b...i", theta, places))


@computes("reinterpret")
def _compute_reinterpret(step: Step) -> Array:
    a = step.attributes
    held = np.asarray(step.x).astype(dtypes.numpy_dtype(a["source_type"]))
    found = held.reshape(-1).view(dtypes.numpy_dtype(a["type"])).reshape(held.shape)
    return found.astype(np.float64) if dtypes.is_float(a["type"]) else found
