"""Random layers: products, convolutions, recurrent ones, normalizations, embeddings."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import assume
from onnx_models import Builder, family


@family()
def _gemm(b: Builder) -> None:
    x = b.x(2)
    turned, m = b.flag(), b.size()
    rows, k = b.of(x)[::-1] if turned else b.of(x)
    transposed = b.flag()
    inputs = [x, b.weight(*((m, k) if transposed else (k, m)))]
    shape = b.one_of((m,), (1, m), (rows, m), (rows, 1), ())
    if b.opset < 11 or b.flag():
        inputs.append(b.weight(*shape))
    b.add("Gemm", inputs, transA=int(turned), transB=int(transposed), **b.maybe(alpha=0.5, beta=1.5))


@family()
def _matmul(b: Builder) -> None:
    x = b.x(range(2, 5))
    k, m = b.of(x)[-1], b.size()
    way = b.one_of("weight", "batched", "left", "values", "vector")
    if way == "batched":
        y = b.add("MatMul", [x, b.weight(*b.of(x)[:-2], k, m, scale=0.5)])
    elif way == "left":
        y = b.add("MatMul", [b.weight(m, b.of(x)[-2]), x])
    elif way == "values":
        y = b.add("MatMul", [x, b.x(2, first=k)] if b.flag() else [x, b.weight(k, m)])
    elif way == "vector":
        y = b.add("MatMul", [x, b.weight(k)])
    else:
        y = b.add("MatMul", [x, b.weight(k, m)])
    if b.flag():
        bias = b.weight(*b.of(y)[-1:]) if b.of(y) else b.weight(1)
        b.add("Add", [y, bias] if b.flag() else [bias, y])


def window(b: Builder, rank: int, biggest: int = 3) -> dict[str, Any]:
    """Kernel, strides, dilations and padding of a window."""
    kernel = [b.size(1, biggest) for _ in range(rank)]
    found: dict[str, Any] = {"kernel_shape": kernel}
    found |= b.maybe(strides=[b.size(1, 3) for _ in range(rank)])
    way = b.one_of("pads", "SAME_UPPER", "SAME_LOWER", "VALID", "none")
    if way == "pads":
        found["pads"] = [b.size(0, k - 1) for k in kernel * 2]
    elif way != "none":
        found["auto_pad"] = way
    if not way.startswith("SAME"):
        found |= b.maybe(dilations=[b.size(1, 2) for _ in range(rank)])
    return found


def _covers(kernel: list[int], settings: dict[str, Any]) -> Any:
    """Whether a window fits into an image."""
    reach = [(k - 1) * d + 1 for k, d in zip(kernel, settings.get("dilations", [1] * len(kernel)), strict=True)]
    return lambda shape: all(n >= r for n, r in zip(shape[2:], reach, strict=True))


def image(b: Builder, rank: int, settings: dict[str, Any]) -> str:
    """A value that a window fits into."""
    covers = _covers(settings["kernel_shape"], settings)
    found = [n for n in b.pool if len(b.of(n)) == rank + 2 and covers(b.of(n))]
    choice = b.one_of(*found, None)
    return choice or b.input(b.noise(b.size(1, 2), b.size(), *(b.size(5, 7) for _ in range(rank))))


@family()
def _conv(b: Builder) -> None:
    rank = b.one_of(1, 2, 2, 3)
    settings = window(b, rank)
    x = image(b, rank, settings)
    channels = b.of(x)[1]
    group = b.one_of(1, *(g for g in range(2, channels + 1) if channels % g == 0))
    out = group * b.size(1, 2)
    w = b.weight(out, channels // group, *settings["kernel_shape"])
    if b.flag():
        del settings["kernel_shape"]
    b.add("Conv", [x, w, *([b.weight(out)] if b.flag() else [])], group=group, **settings)


@family()
def _conv_transpose(b: Builder) -> None:
    rank = b.one_of(1, 2, 2, 3)
    settings = window(b, rank)
    x = image(b, rank, {"kernel_shape": [1] * rank})
    channels = b.of(x)[1]
    group = b.one_of(1, *(g for g in range(2, channels + 1) if channels % g == 0))
    out = b.size(1, 2)
    strides = settings.get("strides", [1] * rank)
    way = b.one_of("plain", "padding", "shape")
    # onnxruntime's result is shorter than the operator says, where a stride is longer than the kernel
    assume("auto_pad" not in settings or all(s <= k for s, k in zip(strides, settings["kernel_shape"], strict=True)))
    if way == "padding" and max(strides) > 1 and "auto_pad" not in settings:
        settings["output_padding"] = [b.size(0, s - 1) for s in strides]
    dilations = settings.get("dilations", [1] * rank)
    reach = [(k - 1) * d + 1 for k, d in zip(settings["kernel_shape"], dilations, strict=True)]
    full = [(n - 1) * s + r for n, s, r in zip(b.of(x)[2:], strides, reach, strict=True)]
    pads = settings.get("pads", [0] * 2 * rank)
    assume(all(n > p + q for n, p, q in zip(full, pads[:rank], pads[rank:], strict=True)))
    if way == "shape" and "pads" not in settings:
        # at most so large that a convolution of it has x's length
        settings["output_shape"] = [
            b.size(max(n - r + 1, 1), n + s - 1) for n, r, s in zip(full, reach, strides, strict=True)
        ]
        settings.pop("auto_pad", None)
        settings |= b.maybe(auto_pad=b.one_of("SAME_UPPER", "SAME_LOWER"))
    w = b.weight(channels, out, *settings["kernel_shape"])
    b.add("ConvTranspose", [x, w, *([b.weight(out * group)] if b.flag() else [])], group=group, **settings)


_PARAMETERS = {
    "Sigmoid": 0, "Tanh": 0, "Relu": 0, "Softsign": 0, "Softplus": 0, "LeakyRelu": 1, "ThresholdedRelu": 1, "Elu": 1,
    "HardSigmoid": 2, "Affine": 2, "ScaledTanh": 2,
}  # fmt: skip


def _activations(b: Builder, count: int) -> dict[str, Any]:
    """Activations of cells, with parameters for those that have some."""
    names = [b.one_of(*_PARAMETERS) for _ in range(count)]
    found: dict[str, Any] = {"activations": names}
    alphas = [0.3 for n in names if _PARAMETERS[n] > 0]
    betas = [0.6 for n in names if _PARAMETERS[n] > 1]
    if alphas:
        found["activation_alpha"] = alphas
    if betas:
        found["activation_beta"] = betas
    return found


_CELLS = {"LSTM": (4, 3), "GRU": (3, 2), "RNN": (1, 1)}


@family()
def _recurrent(b: Builder) -> None:
    """With batches behind steps: onnxruntime has no `layout` 1."""
    what = b.one_of(*_CELLS)
    gates, functions = _CELLS[what]
    way = b.one_of("forward", "reverse", "bidirectional")
    d = 2 if way == "bidirectional" else 1
    x, h = b.x(3), b.size()
    steps, batch, features = b.of(x)
    inputs = [x, b.weight(d, gates * h, features, scale=0.5), b.weight(d, gates * h, h, scale=0.5)]
    inputs.append(b.weight(d, 2 * gates * h) if b.flag() else "")
    inputs.append(b.input(np.asarray([b.size(1, steps) for _ in range(batch)], np.int32)) if b.flag() else "")
    for _ in range(2 if what == "LSTM" else 1):
        given, state = b.one_of(None, b.input, b.constant), b.noise(d, batch, h)
        inputs.append("" if given is None else given(state))
    if what == "LSTM":
        inputs.append(b.weight(d, 3 * h) if b.flag() else "")
    settings: dict[str, Any] = {"hidden_size": h, "direction": way}
    if b.flag():
        settings |= _activations(b, functions * d)
    if b.flag():
        settings["clip"] = 0.7
    if what == "LSTM" and b.flag():
        settings["input_forget"] = 1
    if what == "GRU" and b.flag():
        settings["linear_before_reset"] = 1
    b.many(what, inputs, 3 if what == "LSTM" else 2, **settings)


@family()
def _batch_norm(b: Builder) -> None:
    x = b.x(range(2, 5))
    c = b.of(x)[1]
    b.add("BatchNormalization", [x, b.weight(c), b.weight(c), b.weight(c), b.weight(c, positive=True)],
          **b.maybe(epsilon=1e-2))  # fmt: skip


@family()
def _instance_norm(b: Builder) -> None:
    x = b.x(range(3, 5), lambda s: int(np.prod(s[2:])) > 1)
    c = b.of(x)[1]
    b.add("InstanceNormalization", [x, b.weight(c), b.weight(c)], epsilon=1e-1)


@family(17)
def _layer_norm(b: Builder) -> None:
    x = b.x(range(2, 5), lambda s: s[-1] > 1)
    rank = len(b.of(x))
    axis = b.size(-rank, rank - 1)
    shape = b.of(x)[axis:]
    outputs = b.size(1, 3)
    b.many("LayerNormalization", [x, b.weight(*shape), *([b.weight(*shape)] if b.flag() else [])], outputs,
           epsilon=1e-1, axis=axis)  # fmt: skip


@family(21)
def _group_norm(b: Builder) -> None:
    x = b.x(range(3, 5), lambda s: int(np.prod(s[2:])) > 1)
    c = b.of(x)[1]
    group = b.one_of(1, *(g for g in range(2, c + 1) if c % g == 0))
    b.add("GroupNormalization", [x, b.weight(c), b.weight(c)], epsilon=1e-1, num_groups=group)


@family(23)
def _rms_norm(b: Builder) -> None:
    x = b.x(range(2, 5))
    axis = b.size(-len(b.of(x)), -1)
    b.add("RMSNormalization", [x, b.weight(*b.of(x)[axis:])], axis=axis, epsilon=1e-2)


@family()
def _old_norms(b: Builder) -> None:
    way = b.one_of("LRN", "LpNormalization", "MeanVarianceNormalization")
    if way == "LRN":
        b.add("LRN", [b.x(4)], size=b.one_of(1, 3, 5), **b.maybe(alpha=0.1, beta=0.5, bias=2.0))
    elif way == "LpNormalization":
        x = b.x(range(1, 5))
        b.add("LpNormalization", [x], p=b.one_of(1, 2), axis=b.size(-len(b.of(x)), len(b.of(x)) - 1))
    else:
        b.add("MeanVarianceNormalization", [b.x(4, lambda s: s[0] * s[2] * s[3] > 2)])


@family()
def _layer_norm_by_hand(b: Builder) -> None:
    """As exporters write it before opset 17."""
    x = b.x(range(2, 5), lambda s: s[-1] > 1)
    axes, attributes = ([], {"axes": [-1]}) if b.opset < 18 else ([b.ints(-1)], {})
    mean = b.add("ReduceMean", [x, *axes], **attributes)
    off = b.add("Sub", [x, mean])
    square = b.add("Pow", [off, b.constant(np.float32(2))])
    spread = b.add("ReduceMean", [square, *axes], **attributes)
    root = b.add("Sqrt", [b.add("Add", [spread, b.constant(np.float32(0.1))])])
    y = b.add("Div", [off, root])
    n = b.of(x)[-1]
    b.add("Add", [b.add("Mul", [y, b.weight(n)]), b.weight(n)])


@family()
def _embedding(b: Builder) -> None:
    rows, n = b.size(2, 6), b.size()
    ids = np.asarray(np.random.default_rng(b.count).integers(-rows, rows, b.shape(b.size(1, 2))), b.one_of("i4", "i8"))
    b.add("Gather", [b.weight(rows, n, scale=1.0), b.input(ids)], axis=0)
