"""The functions that layers compute with, in NumPy: activations, windows, convolutions.

This is the executable form of the definitions, written to be read, not to be fast. Images are taken with the
channels last; callers move the axis.

Sources: keras/src/activations/activations.py and backend/numpy/nn.py (3.15.1); for `same` padding and
transposed convolutions, TensorFlow's tf.nn documentation ("Notes on padding").
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

_erf = np.vectorize(math.erf, otypes=[np.float64])


def sigmoid(x: Array) -> Array:
    """1 / (1 + exp(-x)), without overflow."""
    e = np.exp(-np.abs(x))
    return np.where(x >= 0, 1 / (1 + e), e / (1 + e))


def softplus(x: Array) -> Array:
    """log(1 + exp(x))."""
    return np.logaddexp(x, 0)


def bounded_relu(x: Array, max_value: float | None, alpha: float, threshold: float) -> Array:
    """x from `threshold` up to `max_value`; below, `alpha` times the distance to the threshold."""
    y = np.where(x >= threshold, x, alpha * (x - threshold))
    return y if max_value is None else np.minimum(y, max_value)


def elu(x: Array, alpha: float) -> Array:
    """x, and below zero alpha * (exp(x) - 1)."""
    return np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0)))


def gelu(x: Array, approximate: bool) -> Array:
    """x times the normal distribution function of x, or its approximation by tanh."""
    if approximate:
        return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))
    return 0.5 * x * (1 + _erf(x / math.sqrt(2)))


def softmax(x: Array, axis: int | Sequence[int]) -> Array:
    """exp(x) over its sum along the axis (or axes)."""
    axes = axis if isinstance(axis, int) else tuple(axis)
    e = np.exp(x - x.max(axis=axes, keepdims=True))
    return np.asarray(e / e.sum(axis=axes, keepdims=True))


def log_softmax(x: Array, axis: int | Sequence[int]) -> Array:
    """The logarithm of softmax."""
    axes = axis if isinstance(axis, int) else tuple(axis)
    shifted = x - x.max(axis=axes, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=axes, keepdims=True)))


def hardmax(x: Array, axis: int | Sequence[int]) -> Array:
    """One at the first of the largest elements along the axis (or the last axes together), else zero."""
    n = x.ndim - 1 if isinstance(axis, int) else x.ndim - len(axis)
    moved = np.moveaxis(x, axis, -1) if isinstance(axis, int) else x
    rows = moved.reshape(*moved.shape[:n], -1)
    y = (np.arange(rows.shape[-1]) == rows.argmax(axis=-1)[..., None]).astype(x.dtype).reshape(moved.shape)
    return np.moveaxis(y, -1, axis) if isinstance(axis, int) else y


def sparsemax(x: Array, axis: int, cumulated: bool = False) -> Array:
    """The projection on the probability simplex (Martins & Astudillo 2016).

    `cumulated`: the threshold adds up the running totals instead of the values, as Keras has it up to 3.15.
    """
    z = np.moveaxis(x, axis, -1)
    ordered = -np.sort(-z, axis=-1)
    totals = ordered.cumsum(axis=-1)
    k = np.arange(1, z.shape[-1] + 1)
    support = ordered - (totals - 1) / k > 0
    count = support.sum(axis=-1, keepdims=True)
    summed = totals if cumulated else ordered
    tau = (np.where(support, summed, 0).sum(axis=-1, keepdims=True) - 1) / count
    return np.moveaxis(np.maximum(z - tau, 0), -1, axis)


def glu(x: Array, axis: int) -> Array:
    """The first half times the sigmoid of the second."""
    a, b = np.split(x, 2, axis)
    return np.asarray(a * sigmoid(b))


FUNCTIONS: dict[str, Callable[..., Array]] = {
    "linear": lambda x: x,
    "relu": lambda x: np.maximum(x, 0),
    "bounded_relu": bounded_relu,
    "clip": lambda x, low, high: np.clip(x, low, high),
    "leaky_relu": lambda x, alpha: np.where(x >= 0, x, alpha * x),
    "threshold": lambda x, threshold, default_value: np.where(x > threshold, x, float(default_value)),
    "thresholded_relu": lambda x, threshold: np.where(x > threshold, x, 0.0),
    "elu": elu,
    "selu": lambda x, alpha=1.6732632423543772, scale=1.0507009873554805: scale * elu(x, alpha),
    "celu": lambda x, alpha: np.maximum(x, 0) + alpha * np.expm1(np.minimum(x, 0) / alpha),
    "gelu": gelu,
    "silu": lambda x, beta=1.0: x * sigmoid(beta * x),
    "mish": lambda x: x * np.tanh(softplus(x)),
    "sigmoid": sigmoid,
    "log_sigmoid": lambda x: -softplus(-x),
    "hard_sigmoid": lambda x, slope, offset: np.clip(slope * x + offset, 0, 1),
    "hard_silu": lambda x: x * np.clip(x / 6 + 0.5, 0, 1),
    "sparse_sigmoid": lambda x: np.clip(0.5 * (x + 1), 0, 1),
    "tanh": np.tanh,
    "affine": lambda x, slope, offset: slope * x + offset,
    "scaled_tanh": lambda x, alpha, beta: alpha * np.tanh(beta * x),
    "hard_tanh": lambda x: np.clip(x, -1, 1),
    "tanh_shrink": lambda x: x - np.tanh(x),
    "soft_shrink": lambda x, threshold: np.sign(x) * np.maximum(np.abs(x) - threshold, 0),
    "hard_shrink": lambda x, threshold: np.where(np.abs(x) > threshold, x, 0.0),
    "shrink": lambda x, threshold, bias: np.where(x < -threshold, x + bias, np.where(x > threshold, x - bias, 0.0)),
    "softplus": softplus,
    "sparse_plus": lambda x: np.where(x <= -1, 0, np.where(x < 1, 0.25 * (x + 1) ** 2, x)),
    "squareplus": lambda x, b: (x + np.sqrt(x**2 + b)) / 2,
    "softsign": lambda x: x / (1 + np.abs(x)),
    "exponential": np.exp,
    "softmax": softmax,
    "log_softmax": log_softmax,
    "hardmax": hardmax,
    "sparsemax": sparsemax,
    "glu": glu,
}


def apply(activation: Mapping[str, Any], x: Array) -> Array:
    """An activation, as the manifest writes it; `axis: {from: n}` is all axes from the nth on, as if they were one."""
    parameters = {k: v for k, v in activation.items() if k != "name"}
    if isinstance(axis := parameters.get("axis"), Mapping):
        parameters["axis"] = list(range(axis["from"] - x.ndim, 0))
    return FUNCTIONS[activation["name"]](x, **parameters)


# -- windows -----------------------------------------------------------------------------------------------------------


def window_padding(padding: Any, n: int, size: int, stride: int, dilation: int = 1) -> tuple[int, int]:
    """Zeros before and after an axis of length n. `same`: the output has ceil(n / stride) positions, and the
    odd zero stands after (`same_lower`: before); `causal`: all before."""
    reach = (size - 1) * dilation + 1
    if padding in {"same", "same_lower"}:
        total = max((-(-n // stride) - 1) * stride + reach - n, 0)
        less, more = total // 2, total - total // 2
        return (less, more) if padding == "same" else (more, less)
    return (reach - 1, 0) if padding == "causal" else (0, 0)


def paddings(
    padding: Any, sizes: Sequence[int], kernel: Sequence[int], strides: Sequence[int], dilation: Sequence[int]
) -> list[tuple[int, int]]:
    """The zeros for every spatial axis; explicit ones are passed through."""
    if not isinstance(padding, str):
        return [(int(low), int(high)) for low, high in padding]
    return [window_padding(padding, *of) for of in zip(sizes, kernel, strides, dilation, strict=True)]


def windows(x: Array, kernel: Sequence[int], strides: Sequence[int], dilation: Sequence[int]) -> Array:
    """Every window of x `[batch, *spatial, channel]`: `[batch, *position, *offset, channel]`."""
    positions = [
        (n - (k - 1) * d - 1) // s + 1 for n, k, s, d in zip(x.shape[1:-1], kernel, strides, dilation, strict=True)
    ]
    steps = x.strides
    return np.lib.stride_tricks.as_strided(
        x,
        (x.shape[0], *positions, *kernel, x.shape[-1]),
        (
            steps[0],
            *(t * s for t, s in zip(steps[1:-1], strides, strict=True)),
            *(t * d for t, d in zip(steps[1:-1], dilation, strict=True)),
            steps[-1],
        ),
        writeable=False,
    )


def conv(
    x: Array, kernel: Array, strides: Sequence[int], padding: Any, dilation: Sequence[int], groups: int = 1
) -> Array:
    """Cross-correlation: x `[batch, *spatial, in]`, kernel `[*offset, in / groups, out]`."""
    rank = kernel.ndim - 2
    pads = paddings(padding, x.shape[1:-1], kernel.shape[:rank], strides, dilation)
    x = np.pad(x, [(0, 0), *pads, (0, 0)])
    inner, outer = kernel.shape[-2], kernel.shape[-1] // groups
    parts = []
    for g in range(groups):
        seen = windows(x[..., g * inner : (g + 1) * inner], kernel.shape[:rank], strides, dilation)
        axes = list(range(1 + rank, 2 + 2 * rank))
        parts.append(np.tensordot(seen, kernel[..., g * outer : (g + 1) * outer], (axes, list(range(rank + 1)))))
    return np.concatenate(parts, axis=-1)


def depthwise_conv(x: Array, kernel: Array, strides: Sequence[int], padding: Any, dilation: Sequence[int]) -> Array:
    """Every channel by kernels of its own: kernel `[*offset, in, multiplier]`, output channel `in * multiplier`."""
    rank = kernel.ndim - 2
    pads = paddings(padding, x.shape[1:-1], kernel.shape[:rank], strides, dilation)
    seen = windows(np.pad(x, [(0, 0), *pads, (0, 0)]), kernel.shape[:rank], strides, dilation)
    letters = "abc"[:rank]
    y = np.einsum(f"...{letters}i,{letters}im->...im", seen, kernel)
    return y.reshape(*y.shape[:-2], -1)


def transposed_length(
    n: int, size: int, stride: int, padding: Any, output_padding: int | None, dilation: int = 1
) -> int:
    """The length that a transposed convolution gives (keras/src/utils: deconv_output_length).

    A pair as `padding` says how much is cut off before and after.
    """
    reach = (size - 1) * dilation + 1
    if not isinstance(padding, str):
        return (n - 1) * stride + reach - sum(padding) + (output_padding or 0)
    if output_padding is None:
        return n * stride + (max(reach - stride, 0) if padding == "valid" else 0)
    pad = reach // 2 if padding == "same" else 0
    return (n - 1) * stride + reach - 2 * pad + output_padding


def transposed_conv(
    x: Array,
    kernel: Array,
    strides: Sequence[int],
    padding: Any,
    dilation: Sequence[int],
    output_padding: Sequence[int] | None = None,
    lengths: Sequence[int] | None = None,
) -> Array:
    """The gradient of a convolution: x `[batch, *spatial, in]`, kernel `[*offset, in, out]`.

    `lengths` are the output's, where a model states them; what is cut then counts `output_padding` in (ONNX'
    Operators.md, ConvTranspose: total_padding).
    """
    rank = kernel.ndim - 2
    spatial = x.shape[1:-1]
    full = [(n - 1) * s + (k - 1) * d + 1 for n, s, k, d in zip(spatial, strides, kernel.shape, dilation, strict=False)]
    y = np.zeros((x.shape[0], *full, kernel.shape[-1]), dtype=np.float64)
    for offset in itertools.product(*(range(k) for k in kernel.shape[:rank])):
        place = [
            slice(o * d, o * d + (n - 1) * s + 1, s)
            for o, d, n, s in zip(offset, dilation, spatial, strides, strict=True)
        ]
        y[(slice(None), *place)] += x @ kernel[offset]
    for axis in range(rank):
        want = lengths[axis] if lengths else transposed_length(
            spatial[axis], kernel.shape[axis], strides[axis], padding if isinstance(padding, str) else padding[axis],
            None if output_padding is None else output_padding[axis], dilation[axis],
        )  # fmt: skip
        extra = output_padding[axis] if lengths and output_padding else 0
        cut = max(full[axis] + extra - want, 0)
        before = {"same": cut // 2, "same_lower": cut - cut // 2}.get(padding, 0) if isinstance(padding, str) else (
            padding[axis][0]
        )  # fmt: skip
        lead, after = max(0, -before), max(0, before + want - full[axis])
        y = np.take(
            np.pad(y, [(lead, after) if i == axis + 1 else (0, 0) for i in range(y.ndim)]),
            range(before + lead, before + lead + want),
            axis + 1,
        )
    return y


def pool(
    x: Array,
    size: Sequence[int],
    strides: Sequence[int],
    padding: Any,
    average: bool,
    dilation: Sequence[int] | None = None,
    ceil: bool = False,
    include_padding: bool = False,
) -> Array:
    """The maximum or the mean of every window; zeros of the padding count only if they are said to.

    `ceil`: a last window that only begins within x (or the padding before it) is one, too.
    """
    steps = dilation or [1] * len(size)
    axes = tuple(range(1 + len(size), 1 + 2 * len(size)))

    def seen(values: Array, fill: float) -> Array:
        return windows(laid_out(values, size, strides, padding, steps, ceil, fill), size, strides, steps)

    if not average:
        return np.asarray(seen(x, -np.inf).max(axis=axes))
    ones = np.ones_like(x)
    if include_padding:
        pads = paddings(padding, x.shape[1:-1], size, strides, steps)
        ones = np.pad(ones, [(0, 0), *pads, (0, 0)], constant_values=1)
        beyond = laid_out(x, size, strides, padding, steps, ceil)
        room = [(0, m - n) for n, m in zip(ones.shape, beyond.shape, strict=True)]
        count = windows(np.pad(ones, room), size, strides, steps).sum(axis=axes)
    else:
        count = seen(ones, 0).sum(axis=axes)
    return np.asarray(seen(x, 0).sum(axis=axes) / count)


def laid_out(
    x: Array,
    size: Sequence[int],
    strides: Sequence[int],
    padding: Any,
    dilation: Sequence[int],
    ceil: bool = False,
    fill: float = 0.0,
) -> Array:
    """x with its padding, and (`ceil`) with what a last window needs that only begins within it."""
    lengths = x.shape[1:-1]
    pads = []
    for n, k, s, d, (low, high) in zip(
        lengths, size, strides, dilation, paddings(padding, lengths, size, strides, dilation), strict=True
    ):
        reach, more = (k - 1) * d + 1, 0
        if ceil:
            count = -(-(n + low + high - reach) // s) + 1
            count -= (count - 1) * s >= n + low
            more = max((count - 1) * s + reach - (n + low + high), 0)
        pads.append((low, high + more))
    return np.pad(x, [(0, 0), *pads, (0, 0)], constant_values=fill)
