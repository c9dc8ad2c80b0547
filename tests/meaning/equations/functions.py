"""Functions of elements, totals along axes, and how arrays are put together."""

from __future__ import annotations

import math
import re
import string
from collections.abc import Sequence
from functools import reduce
from typing import Any

import numpy as np

from equations.values import Array, Call, Value, elementwise, value


def _elements(function: Any) -> Any:
    """A function of a value's elements, with its parameters by name."""

    def apply(call: Call, x: Any, *rest: Any, **parameters: Any) -> Value:
        given = {k: float(v) if isinstance(v, str) else v for k, v in parameters.items()}
        return elementwise(call, lambda *values: function(*values, **given), x, *rest)

    return apply


def _sigmoid(x: Array) -> Array:
    return np.where(x >= 0, 1 / (1 + np.exp(-np.abs(x))), np.exp(-np.abs(x)) / (1 + np.exp(-np.abs(x))))


def _elu(x: Array, alpha: float) -> Array:
    return np.where(x > 0, x, alpha * (np.exp(np.minimum(x, 0)) - 1))


def _softplus(x: Array) -> Array:
    return np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))


def _gelu(x: Array, approximate: bool) -> Array:
    if approximate:
        return x / 2 * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))
    return x / 2 * (1 + np.vectorize(math.erf, otypes=[float])(x / math.sqrt(2)))


def _bounded(x: Array, max_value: float | None, alpha: float, threshold: float) -> Array:
    y = np.where(x < threshold, alpha * (x - threshold), x)
    return y if max_value is None else np.where(y > max_value, max_value, y)


def _clip(x: Array, *bounds: Any, low: Any = None, high: Any = None) -> Array:
    low, high = bounds or (low, high)
    return np.minimum(np.maximum(x, low), high)


_ELEMENTS: dict[str, Any] = {
    "abs": np.abs, "exp": np.exp, "sqrt": np.sqrt, "log": np.log, "cos": np.cos, "tanh": np.tanh, "trunc": np.trunc,
    "maximum": lambda *v: reduce(np.maximum, v), "minimum": lambda *v: reduce(np.minimum, v),
    "where": np.where, "logical_and": np.logical_and,
    "logical_or": np.logical_or, "logical_xor": np.logical_xor, "arctan2": np.arctan2, "not_equal": np.not_equal,
    "floor_divide": np.floor_divide,
    "relu": lambda x: np.maximum(x, 0), "bounded_relu": _bounded, "clip": _clip, "sigmoid": _sigmoid,
    "leaky_relu": lambda x, alpha: np.where(x < 0, alpha * x, x),
    "thresholded_relu": lambda x, threshold: np.where(x > threshold, x, 0), "elu": _elu,
    "selu": lambda x, alpha=1.6732632423543772, scale=1.0507009873554805: scale * _elu(x, alpha),
    "celu": lambda x, alpha: np.where(x > 0, x, alpha * (np.exp(np.minimum(x, 0) / alpha) - 1)), "gelu": _gelu,
    "silu": lambda x, beta=1.0: x * _sigmoid(beta * x), "softplus": _softplus,
    "mish": lambda x: x * np.tanh(_softplus(x)), "log_sigmoid": lambda x: -_softplus(-x),
    "hard_sigmoid": lambda x, slope, offset: np.minimum(np.maximum(slope * x + offset, 0), 1),
    "hard_silu": lambda x: x * np.minimum(np.maximum(x / 6 + 0.5, 0), 1),
    "sparse_sigmoid": lambda x: np.minimum(np.maximum((x + 1) / 2, 0), 1),
    "affine": lambda x, slope, offset: slope * x + offset,
    "scaled_tanh": lambda x, alpha, beta: alpha * np.tanh(beta * x),
    "hard_tanh": lambda x: np.minimum(np.maximum(x, -1), 1), "tanh_shrink": lambda x: x - np.tanh(x),
    "soft_shrink": lambda x, threshold: np.where(np.abs(x) > threshold, x - np.sign(x) * threshold, 0),
    "hard_shrink": lambda x, threshold: np.where((x > threshold) | (x < -threshold), x, 0),
    "shrink": lambda x, threshold, bias: np.where(x > threshold, x - bias, np.where(x < -threshold, x + bias, 0)),
    "sparse_plus": lambda x: np.where(x <= -1, 0, np.where(x >= 1, x, (x + 1) ** 2 / 4)),
    "squareplus": lambda x, b: (x + np.sqrt(x * x + b)) / 2, "softsign": lambda x: x / (1 + np.abs(x)),
    "exponential": np.exp, "logistic": _sigmoid,
}  # fmt: skip


# -- over an axis ------------------------------------------------------------------------------------------------------


def _axes(x: Value, axis: Any) -> tuple[int, ...]:
    if isinstance(axis, dict):  # all from there on, as if they were one
        return tuple(range(axis["from"], x.ndim))
    return tuple(i % x.ndim for i in (axis if isinstance(axis, tuple) else (axis,)))


def _rows(function: Any) -> Any:
    """A function of all elements along an axis, or several together."""

    def apply(call: Call, x: Value, axis: Any = -1, **parameters: Any) -> Value:
        axes = _axes(x, axis)
        rest = [i for i in range(x.ndim) if i not in axes]
        order = [*rest, *axes]
        moved = x.data.astype(np.float64).transpose(order)
        y = function(moved.reshape(*(x.data.shape[i] for i in rest), -1), **parameters)
        if y.size != moved.size:  # halves
            return value(np.moveaxis(y, -1, axes[0]))
        return value(y.reshape(moved.shape).transpose(np.argsort(order)), x.names, x.places)

    return apply


def _softmax(x: Array) -> Array:
    top = np.max(x, axis=-1, keepdims=True)
    e = np.exp(x - np.where(np.isinf(top), 0, top))
    total = e.sum(axis=-1, keepdims=True)
    return e / np.where(total == 0, 1, total)  # nothing to be seen at all gives zeros


def _sparsemax(x: Array, cumulated: bool = False) -> Array:
    result = np.zeros_like(x)
    for place in np.ndindex(x.shape[:-1]):
        z = sorted(x[place].tolist(), reverse=True)
        totals = [sum(z[: i + 1]) for i in range(len(z))]
        k = max(i + 1 for i in range(len(z)) if z[i] > (totals[i] - 1) / (i + 1))
        tau = (sum(totals[:k]) - 1 if cumulated else totals[k - 1] - 1) / k
        result[place] = np.maximum(x[place] - tau, 0)
    return result


def _hardmax(x: Array) -> Array:
    return np.asarray(np.arange(x.shape[-1]) == np.argmax(x, axis=-1)[..., None], np.float64)


def _glu(x: Array) -> Array:
    n = x.shape[-1] // 2
    return x[..., :n] * _sigmoid(x[..., n:])


_ROWS = {
    "softmax": _softmax, "hardmax": _hardmax, "sparsemax": _sparsemax, "glu": _glu,
    "log_softmax": lambda x: x - np.max(x, -1, keepdims=True)
    - np.log(np.sum(np.exp(x - np.max(x, -1, keepdims=True)), -1, keepdims=True)),
}  # fmt: skip


def _over(call: Call, x: Value, over: Any) -> tuple[int, ...]:
    if over == "space":
        return tuple(i for i in range(1, x.ndim) if i != call.entry["axis"] % x.ndim)
    if over == "rest":
        return tuple(i for i in range(x.ndim) if i not in [a % x.ndim for a in call.entry["axis"]])
    return (x.at(over),) if isinstance(over, str) else _axes(x, over)


def _mean(call: Call, x: Value, over: Any = None, groups: int | None = None) -> Value:
    if groups is None:
        return value(x.data.mean(axis=_over(call, x, over), keepdims=True))
    axis = call.entry["axis"] % x.ndim
    moved = np.moveaxis(x.data, axis, 1)
    n = moved.shape[1] // (groups if groups > 0 else moved.shape[1])
    y = np.empty((*moved.shape[:2], *(1,) * (x.ndim - 2)))
    for channel in range(moved.shape[1]):
        first = channel // n * n
        y[:, channel] = moved[:, first : first + n].reshape(len(y), -1).mean(axis=1).reshape(-1, *(1,) * (x.ndim - 2))
    return value(np.moveaxis(y, 1, axis))


def _variance(call: Call, x: Value, over: Any = None, groups: int | None = None) -> Value:
    away = value(x.data - _mean(call, x, over, groups).data)
    return _mean(call, value(away.data**2), over, groups)


def _sum(call: Call, x: Value, over: Any) -> Value:
    """A sum; the axis stays, of length one, where x itself is to be divided by it."""
    axes = _over(call, x, over)
    keep = call.entry["kind"] == "unit_norm"
    return value(x.data.sum(axis=axes, keepdims=keep))


def _any(call: Call, x: Value, over: Any) -> Value:
    return value(x.data.any(axis=_over(call, x, over)))


def _max(call: Call, x: Value, over: Any) -> Value:
    axes = _over(call, x, over)
    return value(x.data.max(axis=axes), [n for i, n in enumerate(x.names) if i not in axes])


# -- arrays put together -----------------------------------------------------------------------------------------------


def rows(base: Value, place: Value) -> Value:
    """`a[b]`: rows of a; of a scale in groups, the groups that b gives."""
    index = place.data.astype(int)
    if place.tensor and base.has("group"):
        axis = base.at("group")
        names = list(base.names)
        names[axis] = ("group", *place.names[0])
        return Value(np.take(base.data, index, axis), tuple(names), base.tensor)
    return value(base.data[index], (*((),) * index.ndim, *base.names[1:]))


def picked(base: Sequence[Any], place: Value) -> Value:
    """Entries of a list of the layer."""
    return value(np.asarray([base[i] for i in place.data.reshape(-1).tolist()]).reshape(place.data.shape))


def _repeat(call: Call, x: Value, times: int, over: Any) -> Value:
    axis = x.at(over) if isinstance(over, str) else over % x.ndim if x.ndim > 1 else 0
    names = list(x.names)
    if over == "group":
        names[axis] = ("group", str(call.entry["dequantize"].get("axis")))
    if over == "kv_head":
        names[axis] = ("head",)
    return Value(np.repeat(x.data, times, axis=axis), tuple(names), x.tensor, x.places)


def _first(call: Call, x: Value, n: int) -> Value:
    axis = x.at("group")
    return Value(np.take(x.data, range(n), axis), x.names, x.tensor)


def _concat(call: Call, *parts: Any, axis: int | None = None) -> Value:
    if axis is None:
        axis = call.inner["axis"] if call.inner["kind"] == "concat" else call.channels
    if isinstance(axis, int) and call.entry["kind"] in ("lstm", "gru", "rnn", "stacked_rnn"):
        axis = -1
    if call.entry["kind"] == "conv_lstm":
        axis = -1
    return value(np.concatenate([p.data for p in parts], axis=axis))


def _each_row(call: Call, x: Value) -> Value:
    return value(x.data[..., None] if x.ndim else x.data)


def _each_group(call: Call, x: Value) -> Value:
    """One for each group: for all channels of it."""
    channels = np.shape(call.args["x"])[call.entry["axis"]]
    return Value(np.repeat(x.data, channels // x.data.size), (("channel",),), True)


def _flat(call: Call, x: Value) -> Value:
    return value(x.data.reshape(-1))


def _argmax(call: Call, x: Value) -> Value:
    return value(x.data.argmax(axis=-1))


def _average(call: Call, *parts: Value) -> Value:
    return elementwise(call, lambda *v: sum(v[1:], v[0]) / len(v), *parts)


def _divide(call: Call, a: Value, b: Value) -> Value:
    whole = a.data.dtype.kind in "iu" and b.data.dtype.kind in "iu"
    return elementwise(call, lambda p, q: np.trunc(p / q).astype(a.data.dtype) if whole else p / q, a, b)


def _mod(call: Call, a: Value, b: Value) -> Value:
    return elementwise(call, np.fmod if call.entry.get("truncate") else np.mod, a, b)


def _lettered(call: Call, equation: str, x: Value, kernel: Value) -> Value:
    """A matrix of all inputs and all outputs, its elements in order as the equation's letters have them."""
    (left, own), right = equation.partition("->")[0].split(","), equation.partition("->")[2]
    lengths = dict(zip(reversed(left.replace("...", "")), reversed(x.data.shape), strict=False))
    lengths |= {c: n for c, n in zip(reversed(right), reversed(call.entry["output_shape"]), strict=False) if n}
    names = tuple((f"out_{c}",) if c in right else (f"in_{c}",) for c in own)
    return Value(kernel.data.reshape([lengths[c] for c in own]), names, True)


def _einsum(call: Call, equation: str, *operands: Value) -> Value:
    if len(operands) == 2 and operands[1].names == (("in",), ("out",)):
        operands = (operands[0], _lettered(call, equation, *operands))
    data = np.einsum(equation, *(o.data for o in operands))
    letters = equation.partition("->")[2].replace("...", "")
    if len(operands) != 2 or not operands[1].tensor or not letters:
        return value(data)
    of = dict(zip(equation.partition("->")[0].split(",")[1], operands[1].names, strict=False))
    names = [of.get(c, (f"out_{c}",)) for c in letters]
    free = [()] * (data.ndim - len(letters))
    return value(data, [*names, *free] if equation.endswith("...") else [*free, *names])


def _moved(call: Call, x: Value) -> Value:
    return value(np.moveaxis(x.data, 0, -2))


def _sequence(call: Call, *items: Value) -> Any:
    return items


# -- preprocessing -----------------------------------------------------------------------------------------------------


def _quantiles(call: Call, summary: Value, bins: int) -> Value:
    points, weights = summary.data
    share = [sum(weights[: i + 1]) / sum(weights) for i in range(len(weights))]
    found = []
    for k in range(1, bins):
        after = next(i for i, s in enumerate(share) if s >= k / bins)
        if after == 0:
            found.append(points[0])
            continue
        part = (k / bins - share[after - 1]) / (share[after] - share[after - 1])
        found.append(points[after - 1] + part * (points[after] - points[after - 1]))
    return value(np.asarray(found))


def _bin(call: Call, x: Value, edges: Value) -> Value:
    data = x.data.astype(np.float32)[..., None] >= edges.data.astype(np.float32)
    return value(data.sum(axis=-1))


def _counts(call: Call, x: Value) -> Value:
    """How often each token stands in a row; place 0 counts what the vocabulary lacks."""
    entry = call.entry
    table = {str(t): i for i, t in enumerate(entry["vocabulary"])}
    lead = entry.get("oov_tokens", 1)
    found = np.zeros((len(x.data), entry["depth"]))
    for row, text in enumerate(x.data.reshape(len(x.data), -1).tolist()):
        words = text if entry["kind"] == "lookup" else _words(str(text[0]), entry)
        for word in words:
            place = table.get(str(word))
            found[row, 0 if place is None else place + lead] += 1
    return value(found)


def _words(text: str, entry: Any) -> list[str]:
    text = text.lower() if "lower" in (entry["standardize"] or "") else text
    if "punctuation" in (entry["standardize"] or ""):
        text = "".join(c for c in text if c not in string.punctuation)
    return re.findall(r"\S+", text) if entry["split"] == "whitespace" else [text]


def _hot(call: Call, place: Value) -> Value:
    n = call.entry["bins"] if call.entry["boundaries"] is None else len(call.entry["boundaries"]) + 1
    return value((place.data[..., None] == np.arange(n)) * 1.0)


def _signal_frames(call: Call, x: Value) -> Value:
    how = call.entry["config"]
    data = x.data if how["data_format"] == "channels_first" else x.data.transpose(0, 2, 1)
    size = how["frame_length"]
    stride = how["frame_step"] or size // 2
    if how["padding"] == "same":
        lacking = max(((data.shape[-1] + stride - 1) // stride - 1) * stride + size - data.shape[-1], 0)
        data = np.pad(data, ((0, 0), (0, 0), (lacking // 2, lacking - lacking // 2)))
    starts = range(0, data.shape[-1] - size + 1, stride)
    return value(np.stack([data[..., i : i + size] for i in starts], axis=2))


def _one_sided(call: Call, power: Value) -> Value:
    inner = [1, *[2] * (power.data.shape[-1] - 2), 1]
    return value(power.data * np.asarray(inner))


def _as_spectrogram(call: Call, y: Value) -> Value:
    how, first = call.entry["config"], call.entry["config"]["data_format"] == "channels_first"
    if how["expand_dims"]:
        return value(y.data if first else np.moveaxis(y.data, 1, 3))
    channels = [y.data[:, c].transpose(0, 2, 1) for c in range(y.data.shape[1])]
    flat = np.concatenate(channels, axis=1)
    return value(flat if first else flat.transpose(0, 2, 1))


FUNCTIONS: dict[str, Any] = {
    **{name: _elements(f) for name, f in _ELEMENTS.items()},
    **{name: _rows(f) for name, f in _ROWS.items()},
    "mean": _mean, "variance": _variance, "sum": _sum, "max": _max, "any": _any, "repeat": _repeat, "first": _first,
    "concat": _concat, "each_row": _each_row, "each_group": _each_group, "flat": _flat,
    "argmax": _argmax, "average": _average,
    "divide": _divide, "mod": _mod, "einsum": _einsum, "moved": _moved, "sequence": _sequence,
    "frames": _signal_frames, "one_sided": _one_sided, "as_spectrogram": _as_spectrogram,
    "quantiles": _quantiles, "bin": _bin, "counts": _counts, "one_hot": _hot,
}  # fmt: skip
