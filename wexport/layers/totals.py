"""Totals along axes, running totals, and padding, as NumPy does not have them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wexport.model import Json

Array = NDArray[Any]


def _extreme(function: Callable[..., Array], empty: float) -> Callable[..., Array]:
    """The largest or smallest element; of none at all, the bound of the type."""

    def reduce(x: Array, axis: Any = None, keepdims: bool = False) -> Array:
        if x.size:
            return function(x, axis=axis, keepdims=keepdims)
        if x.dtype.kind == "b":
            return function(x, axis=axis, keepdims=keepdims, initial=empty > 0)
        info = None if x.dtype.kind == "f" else np.iinfo(x.dtype)
        initial = empty if info is None else info.max if empty > 0 else info.min
        return function(x, axis=axis, keepdims=keepdims, initial=initial)

    return reduce


largest = _extreme(np.max, -math.inf)
smallest = _extreme(np.min, math.inf)


def sum_square(x: Array, axis: Any = None, keepdims: bool = False) -> Array:
    """The sum of squares."""
    return np.sum(x * x, axis=axis, keepdims=keepdims)


def l1(x: Array, axis: Any = None, keepdims: bool = False) -> Array:
    """The sum of magnitudes."""
    return np.sum(np.abs(x), axis=axis, keepdims=keepdims)


def l2(x: Array, axis: Any = None, keepdims: bool = False) -> Array:
    """The root of the sum of squares."""
    return np.sqrt(sum_square(x, axis, keepdims))


def log_sum(x: Array, axis: Any = None, keepdims: bool = False) -> Array:
    """The logarithm of the sum."""
    return np.log(np.sum(x, axis=axis, keepdims=keepdims))


def log_sum_exp(x: Array, axis: Any = None, keepdims: bool = False) -> Array:
    """The logarithm of the sum of exponentials, without overflow."""
    if not x.size:
        return np.log(np.sum(np.exp(x), axis=axis, keepdims=keepdims))
    top = np.max(x, axis=axis, keepdims=True)
    top = np.where(np.isfinite(top), top, 0)
    y = np.log(np.sum(np.exp(x - top), axis=axis, keepdims=True)) + top
    return y if keepdims else y.reshape(np.sum(x, axis=axis).shape)


def cumulated(function: Callable[..., Array], x: Array, a: Mapping[str, Json]) -> Array:
    """A running total (or product) along an axis; `exclusive`: of the elements before each one."""
    axis = a["axis"]
    x = np.flip(x, axis) if a.get("reverse") else x
    if a.get("exclusive"):
        first = np.zeros_like if function is np.cumsum else np.ones_like
        x = np.concatenate([first(np.take(x, [0], axis)), np.take(x, range(x.shape[axis] - 1), axis)], axis)
    y = function(x, axis=axis)
    return np.asarray(np.flip(y, axis) if a.get("reverse") else y)


def padded(x: Array, pads: Json, mode: str, value: Any) -> Array:
    """Elements put around x: a value, or (`reflect`, `edge`, `wrap`) its own; negative amounts are cut off."""
    if not isinstance(pads, list) or not all(isinstance(p, list) for p in pads):
        return np.pad(x, pads, constant_values=value)
    inner = tuple(slice(max(-low, 0), n - max(-high, 0)) for (low, high), n in zip(pads, x.shape, strict=True))
    amounts = [(max(low, 0), max(high, 0)) for low, high in pads]
    if mode != "constant":
        return np.pad(x[inner], amounts, mode=mode)  # type: ignore[call-overload]
    return np.pad(x[inner], amounts, constant_values=float(value) if isinstance(value, str) else value)
