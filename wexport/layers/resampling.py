"""Feature maps of another size: interpolation, and pooling by norms; channels are axis 1 unless a layer says.

    interpolate  every axis by itself: where a position of the result lies in x (`coordinates`), and which elements
                 count there (`interpolation`: nearest, linear, cubic). `scales` or `sizes` are attributes or, computed,
                 arguments; `axes` (null: all) says of which axes. `antialias` widens the filter when x shrinks.
    grid_sample  elements at given places of x, from -1 to 1
    lp_pool, global_lp_pool  (sum of |x|^p over the window)^(1/p)
    local_response_norm      x / (bias + alpha / size * sum of squares of `size` neighbouring channels)^beta

Source: onnx/docs/Operators.md, Resize, with its formulas for every coordinate transformation; GridSample; LRN; LpPool.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wexport.features import Value, resample
from wexport.layers.activation import unchanged
from wexport.layers.conv import channels_last, restored
from wexport.layers.dynamic import setting
from wexport.layers.flows import opaque
from wexport.layers.numerics import laid_out, windows
from wexport.layers.registry import (
    BOOL,
    FORMAT,
    INT,
    INTS,
    NUMBER,
    NUMBERS,
    PADDING,
    TEXT,
    Flow,
    computes,
    flow,
    kind,
    optional,
)  # fmt: skip
from wexport.layers.step import Step

Array = NDArray[Any]

kind(
    "interpolate",
    maybe={"scales": NUMBERS, "sizes": INTS, "region": NUMBERS},
    interpolation=TEXT,
    coordinates=TEXT,
    rounding=TEXT,
    cubic_slope=NUMBER,
    exclude_outside=BOOL,
    outside=NUMBER,
    antialias=BOOL,
    aspect=TEXT,
    axes=optional(INTS),
)
kind("grid_sample", interpolation=TEXT, padding=TEXT, align_corners=BOOL)
kind("lp_pool", maybe={"ceil": BOOL, "dilation": INTS}, p=INT, size=INTS, strides=INTS, padding=PADDING,
     data_format=FORMAT)  # fmt: skip
kind("global_lp_pool", p=INT, data_format=FORMAT)
kind("local_response_norm", size=INT, alpha=NUMBER, beta=NUMBER, bias=NUMBER)

opaque("grid_sample", "lp_pool", "global_lp_pool")
flow("local_response_norm")(unchanged)


@flow("interpolate")
def _resize_flow(f: Flow) -> Mapping[str, Value]:
    """Channels stay what they are where only the axes behind them are resized."""
    a, x = f.attributes, f.x
    kept = x.shape is not None and len(x.shape) > 2
    if not kept or x.shape is None:
        return {"y": f.source(None)}
    axes = list(range(len(x.shape))) if a["axes"] is None else [i % len(x.shape) for i in a["axes"]]
    scales, sizes = (dict(zip(axes, a.get(k) or (), strict=False)) for k in ("scales", "sizes"))
    if any(scales.get(i, 1) != 1 or sizes.get(i, x.shape[i]) != x.shape[i] for i in (0, 1)):
        return {"y": f.source(None)}
    if a["axes"] is None and not scales and not sizes:  # computed: they might be of any axis
        return {"y": f.source(None)}
    sizes = sizes if a["aspect"] == "stretch" else {}
    lengths = [sizes.get(i) for i in range(2, len(x.shape))]
    return {"y": resample(x, [x.shape[0], *lengths], 1)}


@computes("interpolate")
def _compute_resize(step: Step) -> Array:
    a, x = step.attributes, np.asarray(step.x)
    axes = list(range(x.ndim)) if a["axes"] is None else [i % x.ndim for i in a["axes"]]
    scales, sizes = _lengths(step, [x.shape[i] for i in axes])
    region = setting(step, "region")
    region = None if region is None or not np.size(region) else np.asarray(region, np.float64).reshape(2, -1)
    y = x.astype(np.float64)
    for i, axis in enumerate(axes):
        crop = None if region is None else (region[0][i], region[1][i])
        if scales[i] != 1 or sizes[i] != x.shape[axis] or (crop not in (None, (0.0, 1.0))):
            y = _resized(y, axis, sizes[i], scales[i], crop, a)
    if x.dtype.kind in "iu":
        info = np.iinfo(x.dtype)
        return np.clip(np.rint(y) if a["interpolation"] == "nearest" else y, info.min, info.max).astype(x.dtype)
    return y


def _lengths(step: Step, old: Sequence[int]) -> tuple[list[float], list[int]]:
    """The scale and the new length of every axis that is resized."""
    sizes, scales = setting(step, "sizes"), setting(step, "scales")
    if sizes is None or not np.size(sizes):
        found = [float(s) for s in np.asarray(scales, np.float64).reshape(-1)]
        # in single precision, as lengths are worked out everywhere: ten times 0.7 are seven
        return found, [int(np.floor(np.float32(n) * np.float32(s))) for n, s in zip(old, found, strict=True)]
    lengths = [int(n) for n in np.asarray(sizes).reshape(-1)]
    found = [m / n for m, n in zip(lengths, old, strict=True)]
    aspect = step.attributes["aspect"]
    if aspect == "stretch":
        return found, lengths
    one = min(found) if aspect == "not_larger" else max(found)
    return [one] * len(old), [int(np.floor(one * n + 0.5)) for n in old]


_PLACES: dict[str, Callable[..., Any]] = {
    "half_pixel": lambda i, n, m, s: (i + 0.5) / s - 0.5,
    "half_pixel_symmetric": lambda i, n, m, s: n / 2 * (1 - m / (s * n)) + (i + 0.5) / s - 0.5,
    "pytorch_half_pixel": lambda i, n, m, s: (i + 0.5) / s - 0.5 if m > 1 else i * 0.0,
    "align_corners": lambda i, n, m, s: i * (n - 1) / (s * n - 1) if s * n != 1 else i * 0.0,
    "asymmetric": lambda i, n, m, s: i / s,
    "tf_half_pixel_for_nn": lambda i, n, m, s: (i + 0.5) / s,
}
_ROUND: dict[str, Callable[[Array], Array]] = {
    "round_prefer_floor": lambda x: np.ceil(x - 0.5), "round_prefer_ceil": lambda x: np.floor(x + 0.5),
    "floor": np.floor, "ceil": np.ceil,
}  # fmt: skip


def _resized(y: Array, axis: int, m: int, scale: float, crop: Any, a: Mapping[str, Any]) -> Array:
    n, i = y.shape[axis], np.arange(m, dtype=np.float64)
    if a["coordinates"] == "tf_crop_and_resize":
        low, high = crop or (0.0, 1.0)
        inner = i * (high - low) * (n - 1) / (scale * n - 1) if m > 1 else i + (high - low) * (n - 1) / 2
        place = low * (n - 1) + inner
    else:
        place = _PLACES[a["coordinates"]](i, n, m, scale)
    if a["interpolation"] == "nearest":
        if a["coordinates"] != "tf_crop_and_resize":  # in single precision, where places that are even numbers are so
            place = _PLACES[a["coordinates"]](i.astype(np.float32), n, m, np.float32(scale))
        found = np.take(y, np.clip(_ROUND[a["rounding"]](place), 0, n - 1).astype(np.int64), axis)
    else:
        found = np.moveaxis(np.tensordot(_matrix(place, n, scale, a), y, (1, axis)), 0, axis)
    if a["coordinates"] == "tf_crop_and_resize":
        beyond = ((place < 0) | (place > n - 1)).reshape((-1,) + (1,) * (y.ndim - axis - 1))
        found = np.where(beyond, float(a["outside"]), found)
    return found


def _matrix(place: Array, n: int, scale: float, a: Mapping[str, Any]) -> Array:
    """How much every element of x (a column) counts for every element of the result (a row)."""
    narrow = min(scale, 1.0) if a["antialias"] else 1.0
    reach = int(np.ceil((1 if a["interpolation"] == "linear" else 2) / narrow))
    base = np.floor(place)
    columns = base[:, None] + np.arange(-reach, reach + 2)
    distance = (columns - place[:, None]) * narrow
    weight = np.maximum(1 - np.abs(distance), 0)
    if a["interpolation"] == "cubic":
        weight = cubic(distance, float(a["cubic_slope"]))
    if a["exclude_outside"]:
        weight = np.where((columns < 0) | (columns >= n), 0, weight)
    weight = weight / weight.sum(axis=1, keepdims=True)
    matrix = np.zeros((len(place), n))
    rows = np.broadcast_to(np.arange(len(place))[:, None], columns.shape)
    np.add.at(matrix, (rows, np.clip(columns, 0, n - 1).astype(np.int64)), weight)
    return matrix


def cubic(distance: Array, slope: float) -> Array:
    """The cubic convolution kernel (Keys 1981)."""
    d = np.abs(distance)
    near = ((slope + 2) * d - (slope + 3)) * d * d + 1
    far = (((d - 5) * d + 8) * d - 4) * slope
    return np.where(d <= 1, near, np.where(d < 2, far, 0.0))


# -- sampling ----------------------------------------------------------------------------------------------------------


@computes("grid_sample")
def _compute_grid(step: Step) -> Array:
    """Separable in the axes: x `[batch, channel, *spatial]`, grid `[batch, *place, axis]`, the last axis first."""
    a, x, grid = step.attributes, step.x, np.asarray(step.args["grid"])
    lengths = x.shape[2:]
    places = [_unnormalized(grid[..., -1 - k], n, a["align_corners"]) for k, n in enumerate(lengths)]
    reach, weigh = _FILTERS[a["interpolation"]]
    if a["interpolation"] == "nearest":
        places = [np.rint(_folded(p, n, a)) for p, n in zip(places, lengths, strict=True)]
    elif a["interpolation"] == "linear":
        places = [_folded(p, n, a) for p, n in zip(places, lengths, strict=True)]
    total = np.zeros((*x.shape[:2], *grid.shape[1:-1]))
    batch = np.arange(len(x)).reshape((-1,) + (1,) * (grid.ndim - 2))
    for offsets in itertools.product(reach, repeat=len(lengths)):
        weight, index = np.ones(grid.shape[:-1]), []
        for place, offset, n in zip(places, offsets, lengths, strict=True):
            at = np.floor(place) + offset
            weight = weight * weigh(at - place)
            at = np.rint(_folded(at, n, a))
            weight = np.where((at < 0) | (at > n - 1), 0, weight)
            index.append(np.clip(at, 0, n - 1).astype(np.int64))
        total += np.moveaxis(x[(batch, slice(None), *index)], -1, 1) * weight[:, None]
    return total


_FILTERS: dict[str, tuple[Sequence[int], Callable[[Array], Array]]] = {
    "nearest": ((0,), np.ones_like),
    "linear": ((0, 1), lambda d: np.maximum(1 - np.abs(d), 0)),
    "cubic": ((-1, 0, 1, 2), lambda d: cubic(d, -0.75)),
}


def _unnormalized(place: Array, n: int, align_corners: bool) -> Array:
    return (place + 1) / 2 * (n - 1) if align_corners else ((place + 1) * n - 1) / 2


def _folded(place: Array, n: int, a: Mapping[str, Any]) -> Array:
    """Places beyond the border: at it (`border`), mirrored in it (`reflection`), or where they are (`zeros`)."""
    if a["padding"] == "border":
        return np.clip(place, 0, n - 1)
    if a["padding"] == "zeros":
        return place
    low, high = (0.0, n - 1.0) if a["align_corners"] else (-0.5, n - 0.5)
    width = high - low
    if width == 0:
        return np.zeros_like(place)
    inner = np.mod(place - low, 2 * width)
    return low + np.minimum(inner, 2 * width - inner)


# -- norms -------------------------------------------------------------------------------------------------------------


@computes("lp_pool")
def _compute_lp_pool(step: Step) -> Array:
    a, p = step.attributes, step.attributes["p"]
    dilation = a.get("dilation") or [1] * len(a["size"])
    x = laid_out(
        np.abs(channels_last(step)) ** p, a["size"], a["strides"], a["padding"], dilation, a.get("ceil", False)
    )
    axes = tuple(range(1 + len(a["size"]), 1 + 2 * len(a["size"])))
    return restored(step, windows(x, a["size"], a["strides"], dilation).sum(axis=axes) ** (1 / p))


@computes("global_lp_pool")
def _compute_global_lp(step: Step) -> Array:
    x, p = channels_last(step), step.attributes["p"]
    y = (np.abs(x) ** p).sum(axis=tuple(range(1, x.ndim - 1)), keepdims=True) ** (1 / p)
    return restored(step, np.asarray(y))


@computes("local_response_norm")
def _compute_lrn(step: Step) -> Array:
    a, x = step.attributes, step.x
    before = (a["size"] - 1) // 2
    n, total = x.shape[1], np.zeros(x.shape)
    for shift in range(-before, a["size"] - before):
        low, high = max(0, -shift), min(n, n - shift)
        if low < high:
            total[:, low:high] += x[:, low + shift : high + shift] ** 2
    return np.asarray(x / (a["bias"] + a["alpha"] / a["size"] * total) ** a["beta"])
