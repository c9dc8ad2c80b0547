"""Convolutions: sums over the places of a window."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from equations.values import Array, Call, Value, value

_SPACE = ("length", "depth", "height", "width")


def _kernel(w: Value) -> Array:
    """`[*space, in, out]`."""
    last = [w.names[i] for i in (-2, -1)] if not w.has("out") else [("in",), ("out",)]
    order = [i for i, n in enumerate(w.names) if n not in last] + [w.names.index(n) for n in last]
    return w.data.astype(np.float64).transpose(order)


def _out(w: Value) -> tuple[str, ...]:
    return ("out",) if w.has("out") else w.names[-1]


def _pads(padding: Any, sizes: Sequence[int], kernel: Sequence[int], entry: Mapping[str, Any]) -> list[tuple[int, int]]:
    found = []
    for i, (n, k) in enumerate(zip(sizes, kernel, strict=True)):
        reach, stride = (k - 1) * entry["dilation"][i] + 1, entry["strides"][i]
        if not isinstance(padding, str):
            found.append((padding[i][0], padding[i][1]))
        elif padding.startswith("same"):
            outs = (n + stride - 1) // stride
            total = max(0, (outs - 1) * stride + reach - n)
            pair = (total // 2, total - total // 2)
            found.append(pair if padding == "same" else pair[::-1])
        else:
            found.append((reach - 1 if padding == "causal" else 0, 0))
    return found


def _windows(x: Array, kernel: Sequence[int], entry: Mapping[str, Any]) -> Iterator[tuple[tuple[int, ...], Array]]:
    """For every place of the window, the elements of x `[batch, *space, in]` that lie there, at all positions."""
    n = len(kernel)
    padded = np.pad(x, [(0, 0), *_pads(entry["padding"], x.shape[1 : 1 + n], kernel, entry), (0, 0)])
    for place in itertools.product(*(range(k) for k in kernel)):
        index: list[Any] = [slice(None)]
        for i, offset in enumerate(place):
            step, size = entry["strides"][i], padded.shape[1 + i]
            start, room = offset * entry["dilation"][i], (kernel[i] - 1) * entry["dilation"][i]
            count = (size - room - 1) // step + 1
            index.append(slice(start, start + (count - 1) * step + 1, step))
        yield place, padded[tuple(index)]


def _last(call: Call, x: Value) -> Array:
    return np.moveaxis(x.data.astype(np.float64), 1, -1) if call.channels == 1 else x.data.astype(np.float64)


def _back(call: Call, y: Array, out: tuple[str, ...]) -> Value:
    names = [(), *((),) * (y.ndim - 2)]
    if call.channels == 1:
        return value(np.moveaxis(y, -1, 1), [(), out, *names[1:]])
    return value(y, [*names, out])


def _convolved(call: Call, x: Value, w: Value, entry: Mapping[str, Any]) -> Value:
    kernel, groups = _kernel(w), entry.get("groups", 1)
    ins, outs = kernel.shape[-2], kernel.shape[-1] // groups
    total: Any = 0.0
    for place, seen in _windows(_last(call, x), kernel.shape[:-2], entry):
        parts = [
            seen[..., g * ins : (g + 1) * ins] @ kernel[place][:, g * outs : (g + 1) * outs] for g in range(groups)
        ]
        total = total + np.concatenate(parts, axis=-1)
    return _back(call, total, _out(w))


def _conv(call: Call, x: Value, w: Value) -> Value:
    return _convolved(call, x, w, call.inner)


def _state_conv(call: Call, h: Value, w: Value) -> Value:
    if h.ndim == 0:
        return value(0.0)
    ones = [1] * len(call.entry["kernel_size"])
    how = {"strides": ones, "dilation": ones, "padding": call.entry["recurrent_padding"]}
    return _convolved(call, h, w, how)


def _depthwise(call: Call, x: Value, w: Value) -> Value:
    kernel, total = w.data, 0.0
    for place, seen in _windows(_last(call, x), kernel.shape[:-2], call.inner):
        total = total + seen[..., None] * kernel[place]
    y = np.asarray(total)
    return _back(call, y.reshape(*y.shape[:-2], -1), ("in", "multiplier", "out"))


def _conv_transpose(call: Call, x: Value, w: Value) -> Value:
    """Every element of x adds the kernel, times itself, to the result; which is cut, or filled with zeros."""
    a, given, kernel, groups = call.inner, _last(call, x), _kernel(w), call.inner.get("groups", 1)
    n = kernel.ndim - 2
    sizes = given.shape[1:-1]
    full = [(m - 1) * a["strides"][i] + (kernel.shape[i] - 1) * a["dilation"][i] + 1 for i, m in enumerate(sizes)]
    ins = kernel.shape[-2] // groups
    y = np.zeros((len(given), *full, kernel.shape[-1] * groups))
    for place in np.ndindex(*sizes):
        for offset in np.ndindex(*kernel.shape[:n]):
            to = tuple(p * s + o * d for p, s, o, d in zip(place, a["strides"], offset, a["dilation"], strict=True))
            x_here = given[(slice(None), *place)]
            parts = [
                x_here[:, g * ins : (g + 1) * ins] @ kernel[offset][g * ins : (g + 1) * ins] for g in range(groups)
            ]
            y[(slice(None), *to)] += np.concatenate(parts, axis=-1)
    for i in range(n):
        low, length = _cut(a, i, sizes[i], kernel.shape[i], full[i])
        y = np.pad(y, [(max(0, -low), max(0, low + length - full[i])) if j == i + 1 else (0, 0) for j in range(y.ndim)])
        y = np.take(y, range(max(low, 0), max(low, 0) + length), axis=i + 1)
    return _back(call, y, ("out",))


def _cut(a: Mapping[str, Any], i: int, n: int, k: int, full: int) -> tuple[int, int]:
    """Where the result of a transposed convolution begins in all that was added up, and its length."""
    stride, reach = a["strides"][i], (k - 1) * a["dilation"][i] + 1
    more = None if a["output_padding"] is None else a["output_padding"][i]
    padding = a["padding"]
    if not isinstance(padding, str):
        low, high = padding[i]
        length = full - low - high + (more or 0)
    elif more is None:
        length = n * stride + (max(reach - stride, 0) if padding == "valid" else 0)
    else:
        length = full - (2 * (reach // 2) if padding == "same" else 0) + more
    if a["output_size"]:
        length = a["output_size"][i]
    if isinstance(padding, str):
        cut = max(full + (more or 0 if a["output_size"] else 0) - length, 0)
        low = {"same": cut // 2, "same_lower": (cut + 1) // 2}.get(padding, 0)
    return low, length


def _local(call: Call, x: Value, w: Value) -> Value:
    """A kernel of its own at every position."""
    a, given = call.entry, _last(call, x)
    sizes, n = given.shape[1:-1], len(a["kernel_size"])
    outs = [_count(m, k, s, a["padding"]) for m, k, s in zip(sizes, a["kernel_size"], a["strides"], strict=True)]
    y = np.zeros((len(given), *outs, a["filters"]))
    entries = _by_output(call, sizes, outs, given.shape[-1]) if a["implementation"] == 3 else {}
    for number, place in enumerate(np.ndindex(*outs)):
        starts = [p * s for p, s in zip(place, a["strides"], strict=True)]
        if a["padding"] != "valid":
            starts = [p - k // 2 for p, k in zip(starts, a["kernel_size"], strict=True)]
        for offset in np.ndindex(*a["kernel_size"]):
            at = tuple(s + o for s, o in zip(starts, offset, strict=True))
            if any(p < 0 or p >= m for p, m in zip(at, sizes, strict=True)):
                continue
            if a["implementation"] == 1:
                own = w.data[(number, *offset)]
            elif a["implementation"] == 2:
                own = w.data[(*at, slice(None), *place)]
            else:
                own = np.asarray([[w.data[entries[(*place, o), (*at, i)]] for o in range(a["filters"])]
                                  for i in range(given.shape[-1])])  # fmt: skip
            y[(slice(None), *place)] += given[(slice(None), *at)] @ own
    names = [("position",)] if n == 1 else [("position_height",), ("position_width",)]
    if call.channels == 1:
        return value(np.moveaxis(y, -1, 1), [(), ("out",), *names])
    return value(y, [(), *names, ("out",)])


def _count(n: int, k: int, stride: int, padding: str) -> int:
    return (n + stride - 1) // stride if padding == "same" else (n - k) // stride + 1


def _by_output(call: Call, sizes: Sequence[int], outs: Sequence[int], channels: int) -> dict[Any, int]:
    """The number of each entry: by the output's place in y, then by the input's in x, as the data format lays them."""
    a, first = call.entry, call.channels == 1
    found = []
    for place in np.ndindex(*outs):
        for at in np.ndindex(*sizes):
            away = [p - q * s for p, q, s in zip(at, place, a["strides"], strict=True)]
            low = [0 if a["padding"] == "valid" else k // 2 for k in a["kernel_size"]]
            if not all(0 <= d + b < k for d, b, k in zip(away, low, a["kernel_size"], strict=True)):
                continue
            for o, i in itertools.product(range(a["filters"]), range(channels)):
                keys = ((o, *place), (i, *at)) if first else ((*place, o), (*at, i))
                found.append((*keys, ((*place, o), (*at, i))))
    return {pair: number for number, (_, _, pair) in enumerate(sorted(found))}


def _causal(call: Call, x: Value, w: Value, past: Value | None = None) -> Value:
    """x `[batch, channel, length]`: every step sees those up to it; the past stands before the first, or zeros."""
    kernel = w.data if w.tensor else w.data[:, 0].T  # as an argument `[channel, 1, length]`
    k = len(kernel)
    before = np.zeros((*x.data.shape[:2], k - 1)) if past is None else past.data
    long = np.concatenate([before, x.data], axis=2)
    y = np.zeros(x.data.shape)
    for t in range(y.shape[2]):
        for i in range(k):
            y[:, :, t] += long[:, :, t + i] * kernel[i]
    return value(y, [(), ("channel",), ()])


def _deformable(call: Call, x: Value, w: Value, offset: Value, mask: Value | None = None) -> Value:
    """As `conv`, of elements that lie `offset` beside their places, between others; outside of x there are zeros."""
    a, data = call.entry, x.data
    kernel = np.transpose(w.data, (3, 2, 0, 1)) if w.tensor else w.data
    outs, ins, rows, columns = kernel.shape
    n, channels = data.shape[:2]
    high, wide = offset.data.shape[2:]
    shifts = offset.data.reshape(n, a["offset_groups"], rows * columns, 2, high, wide)
    factor = np.ones((n, a["offset_groups"], rows * columns, high, wide))
    factor = factor if mask is None else mask.data.reshape(factor.shape)
    y = np.zeros((n, outs, high, wide))
    for b, i, j, r, c in np.ndindex(n, high, wide, rows, columns):
        for channel in range(channels):
            g = channel // (channels // a["offset_groups"])
            v = i * a["strides"][0] - a["padding"][0] + r * a["dilation"][0] + shifts[b, g, r * columns + c, 0, i, j]
            h = j * a["strides"][1] - a["padding"][1] + c * a["dilation"][1] + shifts[b, g, r * columns + c, 1, i, j]
            seen = _between(data[b, channel], v, h) * factor[b, g, r * columns + c, i, j]
            group = channel // ins
            own = slice(group * (outs // a["groups"]), (group + 1) * (outs // a["groups"]))
            y[b, own, i, j] += seen * kernel[own, channel % ins, r, c]
    return value(y, [(), ("out",), (), ()])


def _between(x: Array, row: float, column: float) -> float:
    total = 0.0
    for i, j in itertools.product(
        (int(np.floor(row)), int(np.floor(row)) + 1), (int(np.floor(column)), int(np.floor(column)) + 1)
    ):
        if 0 <= i < x.shape[0] and 0 <= j < x.shape[1]:
            total += x[i, j] * (1 - abs(row - i)) * (1 - abs(column - j))
    return total


def _average_pool(call: Call, x: Value) -> Value:
    """The mean of every window; zeros of the padding count only where the entry says so."""
    a, given = call.inner, _last(call, x)
    n = given.ndim - 2
    how = {"dilation": [1] * n, **a}
    pads = [(0, 0), *_pads(a["padding"], given.shape[1:-1], a["size"], how), (0, 0)]
    outer = np.pad(given, pads)
    count = np.ones_like(outer) if a.get("include_padding") else np.pad(np.ones_like(given), pads)
    bare = {**how, "padding": "valid"}
    seen, counted = (sum(v for _, v in _windows(values, a["size"], bare)) for values in (outer, count))
    return _back(call, np.asarray(seen / counted), ())


def _global_pool(call: Call, x: Value) -> Value:
    given, keep = _last(call, x), call.inner["keepdims"]
    y = given.mean(axis=tuple(range(1, given.ndim - 1)), keepdims=keep)
    return _back(call, y, ()) if keep else value(y)


FUNCTIONS: dict[str, Any] = {
    "average_pool": _average_pool, "global_average_pool": _global_pool,
    "conv": _conv, "state_conv": _state_conv, "depthwise_conv": _depthwise, "conv_transpose": _conv_transpose,
    "local_conv": _local, "causal_conv": _causal, "deformable_conv": _deformable,
}  # fmt: skip
