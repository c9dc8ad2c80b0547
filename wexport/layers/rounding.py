"""Numbers rounded to the types of few bits.

    q = saturate(round(x / scale) + zero_point)

The division is done in float32, as runtimes do it: in float64 a quotient next to a half would fall to the other side.
Sources: onnx/docs/Operators.md, QuantizeLinear-25, DynamicQuantizeLinear-11; OCP 8-bit Floating Point Specification.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from wexport import dtypes

Array = NDArray[Any]


def limits(dtype: str) -> tuple[int, int]:
    """The least and the largest number of an integer type, of any number of bits."""
    bits = dtypes.bits(dtype)
    return (0, 2**bits - 1) if dtype.startswith("uint") else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)


def single(x: Any) -> Array:
    """Numbers in float32."""
    return np.asarray(x, np.float32)


def rounded(x: Array, scale: Any, zero: Any, dtype: str, saturate: bool = True) -> Array:
    """x as numbers of this type that stand for it, half to even."""
    y = single(x) / single(scale)
    if not dtypes.is_float(dtype):
        low, high = limits(dtype)
        return np.asarray(np.clip(np.rint(y.astype(np.float64)) + np.asarray(zero, np.float64), low, high))
    import ml_dtypes

    kind = dtypes.numpy_dtype(dtype)
    if saturate:
        top = float(ml_dtypes.finfo(kind).max)  # type: ignore[no-untyped-call]
        y = np.clip(y, -top, top)
    return y.astype(kind).astype(np.float64)


def fitted(x: Array, dtype: str = "uint8") -> tuple[Array, np.float32, float]:
    """x as integers for the range that it has, zero included: the integers, their scale, their zero point."""
    low, high = limits(dtype)
    least, most = np.float32(min(x.min(initial=0), 0)), np.float32(max(x.max(initial=0), 0))
    scale = np.float32((most - least) / np.float32(high - low)) if most > least else np.float32(1)
    zero = float(np.rint(np.clip(np.float32(low) - least / scale, low, high)))
    return rounded(x, scale, zero, dtype), scale, zero
