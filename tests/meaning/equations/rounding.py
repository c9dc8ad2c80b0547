"""Numbers of few bits, and how they are made."""

from __future__ import annotations

import re
from typing import Any

import ml_dtypes
import numpy as np

from equations.values import Array, Call, Value, elementwise, value


def _round(call: Call, x: Value) -> Value:
    return elementwise(call, lambda v: np.rint(v.astype(np.float64)), x)


def _bounds(word: str) -> tuple[int, int]:
    bits = int(re.findall(r"\d+", word)[0])
    return (0, 2**bits - 1) if word.startswith("u") else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)


def _saturate(call: Call, x: Value, word: str) -> Value:
    if "float" in word:
        kind = np.dtype(getattr(ml_dtypes, word, word))
        top = float(ml_dtypes.finfo(kind).max)
        return elementwise(call, lambda v: np.clip(v, -top, top).astype(kind).astype(np.float64), x)
    low, high = _bounds(word)
    return elementwise(call, lambda v: np.minimum(np.maximum(v, low), high), x)


def _cast(call: Call, x: Value, word: str) -> Value:
    kind = np.dtype(getattr(ml_dtypes, word, word))
    if "float" in word:
        return elementwise(call, lambda v: v.astype(kind).astype(np.float64), x)
    return elementwise(call, lambda v: v.astype(kind), x)


def _rounded(call: Call, x: Value, over: Any = -1) -> Value:
    """x as few integers stand for it, in the way that the entry's `quantize_input` says."""
    if x.ndim == 0:
        return x
    how = call.entry.get("quantize_input") or next(
        p["quantize_input"] for p in call.entry["parts"].values() if p.get("quantize_input")
    )
    if how["rule"] == "absmax":
        low, high = how["range"]
        axes = over if isinstance(over, tuple) else (over,)
        if x.places is not None and axes == (-2, -1):  # heads stand before the places here
            axes = (1, -1)
        largest = np.abs(x.data).max(axis=axes, keepdims=True)
        scale = high / (largest + how["epsilon"])
        return Value(np.clip(np.rint(x.data * scale), low, high) / scale, x.names, False, x.places)
    low, high = _bounds(how["type"])
    data = x.data.astype(np.float32)
    least, most = np.float32(min(data.min(), 0)), np.float32(max(data.max(), 0))
    step = np.float32((most - least) / np.float32(high - low)) if most > least else np.float32(1)
    zero = float(np.rint(np.clip(np.float32(low) - least / step, low, high)))
    whole = np.clip(np.rint((data / step).astype(np.float64)) + zero, low, high)
    return Value((whole - zero) * float(step), x.names)


def _float8(call: Call, x: Value, scale: Value) -> Value:
    def held(v: Array) -> Array:
        s = float(scale.data)
        return np.clip(v / s, -448, 448).astype(ml_dtypes.float8_e4m3fn).astype(np.float64) * s

    return elementwise(call, held, x)


def _bfloat16(call: Call, x: Value) -> Value:
    return elementwise(call, lambda v: v.astype(ml_dtypes.bfloat16).astype(np.float64), x)


def _looked_up(call: Call, codes: Value, scale: Value) -> Value:
    """Two numbers a byte, the high half first, in a table; each block of them has a scale."""
    how = call.entry["dequantize"]
    halves = [half for byte in codes.data.astype(int).reshape(-1) for half in (byte // 16, byte % 16)]
    count = int(np.prod(list(how["sizes"].values())))
    flat = [how["values"][h] * scale.data[i // how["block"]] for i, h in enumerate(halves[:count])]
    kernel = np.asarray(flat).reshape(list(how["sizes"].values()))
    return Value(kernel if list(how["sizes"]) == ["in", "out"] else kernel.T, (("in",), ("out",)), True)


FUNCTIONS: dict[str, Any] = {
    "round": _round, "saturate": _saturate, "cast": _cast, "rounded": _rounded, "float8": _float8,
    "bfloat16": _bfloat16, "looked_up": _looked_up,
}  # fmt: skip
_ = value
