"""Regions of feature maps: windows at computed places, and maxima put back where they stood. Channels are axis 1.

    roi_align   every region (x1, y1, x2, y2; of the item in `items`) becomes a map of `size`: the mean (or the largest
                weighted corner) of `samples` bilinear samples along each axis of a bin, or (0) as many as it is long.
                `half_pixel`: elements are the centres of squares; otherwise a region is at least one element wide.
    roi_max     every region (item, x1, y1, x2, y2), scaled and rounded, becomes a map of `size`: the largest element of
                each bin, whose bounds are rounded outwards, or zero
    max_unpool  zeros, and x at the places that `indices` count through the whole result; its shape is an argument, or
                follows from the windows (`size`, `strides`, `pads`)

Sources: onnx/docs/Operators.md, RoiAlign, MaxRoiPool and MaxUnpool; Girshick 2015 (roi_max).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wexport.features import Value
from wexport.layers.dynamic import given
from wexport.layers.flows import opaque
from wexport.layers.registry import ANY, BOOL, INT, INTS, NUMBER, TEXT, Flow, computes, flow, kind
from wexport.layers.step import Step

Array = NDArray[Any]

kind("roi_align", mode=TEXT, size=INTS, samples=INT, scale=NUMBER, half_pixel=BOOL)
kind("roi_max", size=INTS, scale=NUMBER)
kind("max_unpool", size=INTS, strides=INTS, pads=ANY)
opaque("max_unpool")


@flow("roi_align", "roi_max")
def _align_flow(f: Flow) -> Mapping[str, Value]:
    channels = None if f.x.shape is None else f.x.shape[1]
    return {"y": f.source((None, channels, *f.attributes["size"]))}


@computes("roi_align")
def _compute_align(step: Step) -> Array:
    a, x = step.attributes, step.x
    shift = 0.5 if a["half_pixel"] else 0.0
    found = []
    for region, item in zip(np.asarray(step.args["regions"]), given(step.args["items"]), strict=True):
        bounds = np.asarray(region, np.float64) * a["scale"] - shift
        rows, columns = (
            _samples(bounds[1 - i], bounds[3 - i], a["size"][i], a["samples"], a["half_pixel"]) for i in (0, 1)
        )
        found.append(_binned(x[item], rows, columns, a["mode"] == "max"))
    return np.asarray(found).reshape(-1, x.shape[1], *a["size"])


def _samples(start: float, end: float, bins: int, samples: int, half_pixel: bool) -> Array:
    """Where the samples of every bin lie along an axis."""
    length = end - start if half_pixel else max(end - start, 1.0)
    width = length / bins
    count = samples if samples > 0 else max(int(np.ceil(width)), 0)
    return np.asarray(start + width * (np.arange(bins)[:, None] + (np.arange(count) + 0.5) / count))


def _corners(place: Array, n: int) -> tuple[Array, Array]:
    """The two elements around every place and their weights; none where it is beyond the border."""
    inner = (place >= -1) & (place <= n)
    at = np.clip(place, 0, n - 1)
    low = np.floor(at).astype(np.int64)
    high = np.minimum(low + 1, n - 1)
    weight = np.stack([1 - (at - low), at - low]) * inner
    return np.stack([low, high]), weight


def _binned(x: Array, rows: Array, columns: Array, largest: bool) -> Array:
    """Channels by bins: `[channel, row, column]`; where there are no samples (an empty region), zeros."""
    if not rows.size or not columns.size:
        return np.zeros((len(x), len(rows), len(columns)))
    (i, wi), (j, wj) = _corners(rows, x.shape[1]), _corners(columns, x.shape[2])
    # axes: channel, corner, corner, bin, sample, bin, sample
    seen = x[:, i[:, None, :, :, None, None], j[None, :, None, None, :, :]]
    seen = seen * wi[:, None, :, :, None, None] * wj[None, :, None, None, :, :]
    return np.asarray(seen.max(axis=(1, 2, 4, 6)) if largest else seen.sum(axis=(1, 2)).mean(axis=(2, 4)))


@computes("max_unpool")
def _compute_unpool(step: Step) -> Array:
    a, x = step.attributes, step.x
    lengths = [
        (n - 1) * s + k - sum(p) for n, k, s, p in zip(x.shape[2:], a["size"], a["strides"], a["pads"], strict=True)
    ]
    inner = (*x.shape[:2], *lengths)
    wanted = step.args.get("shape")
    y = np.zeros(inner if wanted is None else given(wanted), x.dtype)
    index = np.asarray(step.args["indices"]).astype(np.int64).reshape(-1)
    y[np.unravel_index(index, inner)] = x.reshape(-1)
    return y


@computes("roi_max")
def _compute_roi_max(step: Step) -> Array:
    a, x = step.attributes, step.x
    regions = np.asarray(step.args["regions"], np.float64)
    y = np.zeros((len(regions), x.shape[1], *a["size"]))
    for k, region in enumerate(regions):
        bounds = np.floor(region[1:] * a["scale"] + 0.5).astype(int)
        rows, columns = (_bins(bounds[1 - i], bounds[3 - i], n, x.shape[2 + i]) for i, n in enumerate(a["size"]))
        for i, row in enumerate(rows):
            for j, column in enumerate(columns):
                part = x[int(region[0])][:, row, column]
                y[k, :, i, j] = part.max(axis=(1, 2)) if part.size else 0
    return y


def _bins(first: int, last: int, count: int, n: int) -> list[slice]:
    """The positions of an axis in every bin of a region."""
    size = max(last - first + 1, 1) / count
    edges = [(int(np.floor(i * size)) + first, int(np.ceil((i + 1) * size)) + first) for i in range(count)]
    return [slice(min(max(low, 0), n), min(max(high, 0), n)) for low, high in edges]
