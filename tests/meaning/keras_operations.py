"""Rows for `keras.ops` between layers, and for layers of preprocessing.

Left out: lookups and hashing, which Keras computes with TensorFlow alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
from keras_models import In, keras
from keras_rows import BOTH, FORMATS, MAPS, L, reversed_by, row

ops = keras.ops


def rows(title: str, *inputs: In | tuple[int | None, ...], calls: Sequence[Callable[..., Any]]) -> None:
    """Operations on these inputs."""
    row(title, *inputs, call=calls, make=lambda call: lambda x: call(*x) if isinstance(x, list) else call(x))


def named(*names: str, **options: Any) -> list[Callable[..., Any]]:
    """These operations, as far as the installed Keras has them."""
    return [partial(getattr(ops, n), **options) for n in names if hasattr(ops, n)]


rows("ops: functions", (4, 5), calls=named(
    "abs", "absolute", "arctan", "arcsinh", "ceil", "cos", "cosh", "erf", "exp", "exp2", "expm1", "floor", "negative",
    "round", "sign", "sin", "sinh", "square", "tan", "tanh", "zeros_like", "ones_like", "isnan", "isfinite", "isinf",
    "stop_gradient", "trunc", "cbrt", "deg2rad", "rad2deg", "sinc", "copy",
))  # fmt: skip
rows("ops: functions of positive numbers", In((4, 5), positive=True), calls=named(
    "log", "log10", "log1p", "log2", "sqrt", "rsqrt", "reciprocal",
))  # fmt: skip
rows("ops: functions below one", (4, 5), calls=[
    lambda x: ops.arcsin(ops.tanh(x)), lambda x: ops.arccos(ops.tanh(x)), lambda x: ops.arctanh(0.9 * ops.tanh(x)),
    lambda x: ops.arccosh(1.5 + ops.square(x)), lambda x: ops.logical_not(x > 0),
])  # fmt: skip
rows("ops: activations", (4, 6), calls=[*named(
    "celu", "elu", "gelu", "glu", "hard_shrink", "hard_sigmoid", "hard_silu", "hard_swish", "hard_tanh", "leaky_relu",
    "log_sigmoid", "log_softmax", "relu", "relu6", "selu", "sigmoid", "silu", "soft_shrink", "softmax", "softplus",
    "softsign", "sparse_plus", "sparse_sigmoid", "sparsemax", "squareplus", "swish", "tanh_shrink",
), lambda x: ops.softmax(x, axis=1), lambda x: ops.gelu(x, approximate=False), lambda x: ops.leaky_relu(x, 0.4),
    lambda x: ops.elu(x, alpha=0.3), lambda x: ops.celu(x, 0.7), lambda x: ops.glu(x, axis=1),
    lambda x: ops.log_softmax(x, 1),
    lambda x: ops.squareplus(x, 2), lambda x: ops.soft_shrink(x, 0.2), lambda x: ops.hard_shrink(x, threshold=0.2),
    lambda x: ops.softmax(x, axis=(1, 2)), lambda x: ops.threshold(x, 0.2, -1.0),
])  # fmt: skip
PAIR = ((4, 5), (4, 5))
rows("ops: of two", *PAIR, calls=[*named(
    "add", "subtract", "multiply", "maximum", "minimum", "equal", "not_equal", "greater", "greater_equal", "less",
    "less_equal",
), lambda a, b: ops.logical_and(a > 0, b > 0), lambda a, b: ops.logical_or(a > 0, b > 0),
    lambda a, b: ops.logical_xor(a > 0, b > 0), lambda a, b: ops.where(a > b, a, b), lambda a, b: a - b,
    lambda a, b: a * b,
    lambda a, b: ops.matmul(a, ops.transpose(b, (0, 2, 1))), lambda a, b: a @ ops.swapaxes(b, 1, 2),
    lambda a, b: ops.einsum("bij,bkj->bik", a, b), lambda a, b: ops.stack([a, b], axis=1),
    lambda a, b: ops.stack([a, b], -1),
    lambda a, b: ops.concatenate([a, b], axis=-1), lambda a, b: ops.concatenate([a, b], 1),
    lambda a, b: ops.hstack([a, b]),
    lambda a, b: ops.add(a, ops.expand_dims(b[:, 0], 1)), lambda a, b: ops.where(ops.greater(a, 0), b, 0.0),
])  # fmt: skip
rows("ops: divisions", In((4, 5)), In((4, 5), positive=True), calls=[*named(
    "divide", "true_divide", "floor_divide", "mod", "divide_no_nan",
), lambda a, b: ops.power(b, a), lambda a, b: a / b, lambda a, b: b ** 0.5, lambda a, b: a / 3.0, lambda a, b: 1.0 / b,
    lambda a, b: 2.0 - a, lambda a, b: b % 0.7, lambda a, b: a // 0.3, lambda a, b: 2.0 ** a, lambda a, b: -a,
    lambda a, b: abs(a),
])  # fmt: skip
rows("ops: reductions", (4, 5, 3), calls=[
    *[partial(getattr(ops, n), **o) for n in ("mean", "sum", "max", "min", "amax", "amin", "prod",
    "std", "var",
                                                            "logsumexp", "any", "all", "count_nonzero", "median")
      for o in ({"axis": -1}, {"axis": 1, "keepdims": True}, {"axis": (1,
      2)}) if n != "count_nonzero" or "keepdims" not in o],
    lambda x: ops.argmax(x, axis=-1), lambda x: ops.argmin(x, axis=1),
    lambda x: ops.argmax(x, axis=1, keepdims=True), lambda x: ops.average(x, axis=1),
])  # fmt: skip
rows(
    "ops: of the whole",
    (4, 5),
    calls=[lambda x: x * ops.mean(x), lambda x: x + ops.max(x), lambda x: x - ops.sum(x, axis=0)],
)
rows("ops: shapes", (4, 6), calls=[
    lambda x: x[:, 1], lambda x: x[:, 1:3], lambda x: x[..., -1], lambda x: x[:, ::2, 1:], lambda x: x[:, :, None],
    lambda x: x[:, ::-1], lambda x: x[:, -2:, :3], lambda x: x[..., 1:2], lambda x: x[:, None, ..., 0],
    lambda x: ops.reshape(x, (-1, 24)), lambda x: ops.reshape(x, (-1, 2, 12)), lambda x: ops.reshape(x, [-1, 6, 2, 2]),
    lambda x: ops.transpose(x, (0, 2, 1)), lambda x: ops.swapaxes(x, 1, 2), lambda x: ops.moveaxis(x, 1, -1),
    lambda x: ops.expand_dims(x, 1), lambda x: ops.expand_dims(x, -1), lambda x: ops.squeeze(x[:, :1], 1),
    lambda x: ops.split(x, 2, axis=1), lambda x: ops.split(x, [1, 4], axis=-1), lambda x: ops.split(x, 3, -1)[1],
    lambda x: ops.repeat(x, 2, axis=1), lambda x: ops.repeat(x, 3, -1),
    lambda x: ops.tile(x, (1, 2, 1)), lambda x: ops.tile(x, [1, 1, 3]), lambda x: ops.flip(x, 1),
    lambda x: ops.flip(x, axis=-1),
    lambda x: ops.pad(x, ((0, 0), (1, 2), (0, 1))),
    lambda x: ops.pad(x, [[0, 0], [1, 1], [2, 0]], constant_values=3.0),
    lambda x: ops.pad(x, ((0, 0), (1, 2), (2, 1)), "reflect"),
    lambda x: ops.cumsum(x, axis=1), lambda x: ops.cumsum(x, -1),
    lambda x: ops.clip(x, -0.5, 0.7), lambda x: ops.cast(x > 0, "float32"),
    lambda x: ops.cast(x, "int32"), lambda x: ops.take(x, [2, 0], axis=1), lambda x: ops.take(x, 3, axis=-1),
    lambda x: ops.normalize(x, axis=-1), lambda x: ops.ravel(x),
])  # fmt: skip
rows("ops: tensor products", (4, 5), (5, 3), calls=[
    lambda a, b: ops.einsum("bij,bjk->bik", a, b), lambda a, b: ops.einsum("bij,bjk->bk", a, b),
    lambda a, b: ops.matmul(a, b),
    lambda a, b: ops.einsum("...ij,...jk->...ik", a, b), lambda a, b: a @ np.arange(10, dtype="float32").reshape(5, 2),
])  # fmt: skip
rows("ops: constants", (4, 5), calls=[
    lambda x: x * np.arange(5, dtype="float32"), lambda x: ops.add(x, np.ones((4, 1), "float32")), lambda x: x + 1,
    lambda x: ops.maximum(x, 0.2), lambda x: ops.multiply(2.0, x), lambda x: ops.power(x, 2), lambda x: x > 0.5,
])  # fmt: skip
rows("ops: of tokens", In((4,), below=6), calls=[
    lambda x: ops.one_hot(x, 6), lambda x: ops.one_hot(x, num_classes=8), lambda x: x + 1, lambda x: x // 2,
    lambda x: x % 4,
    lambda x: ops.not_equal(x, 0), lambda x: ops.cast(x, "float32") / 2, lambda x: ops.sum(x, -1),
    lambda x: ops.mean(x, axis=-1), lambda x: L.Embedding(8, 3)(x * 1), lambda x: ops.max(x, 1),
    lambda x: ops.take(np.arange(12, dtype="float32").reshape(6, 2), x, axis=0), lambda x: ops.cumsum(x, 1),
])  # fmt: skip
# what makes a layer that wexport does not know: the bundle says so
REFUSED: list[Callable[..., Any]] = [
    lambda x: ops.sort(x, axis=1), lambda x: ops.roll(x, 2, axis=1), lambda x: ops.tril(x),
    lambda x: ops.diff(x, axis=1),
    lambda x: ops.cumprod(x, axis=1), lambda x: ops.normalize(x, axis=1, order=1), lambda x: ops.logaddexp(x, x),
    lambda x: ops.pad(x, ((0, 0), (1, 2), (2, 1)), mode="symmetric"), lambda x: ops.broadcast_to(x, (3, 4, 6)),
    lambda x: ops.average(x, axis=1, weights=np.ones(4, "float32")), lambda x: ops.top_k(x, 3),
    lambda x: ops.bitwise_and(ops.cast(x, "int32"), ops.cast(x, "int32")), lambda x: ops.max_pool(x, 2),
]  # fmt: skip

# -- preprocessing -----------------------------------------------------------------------------------------------------

row("Rescaling", (4, 3), scale=[2.0, [1.0, 2.0, 0.5]], offset=[0.0, 1.5, [1.0, 0.0, -1.0]])
row("Normalization", (4, 3), axis=[-1, 1, (1, 2)], invert=BOTH)
row(
    "Normalization of given numbers",
    (4, 3),
    axis=[-1, None],
    mean=[0.3],
    variance=[2.0],
    invert=BOTH,
    make=L.Normalization,
)
row("Normalization of given lists", (4, 3), axis=[-1], mean=[[0.1, 0.2, 0.3]], variance=[[2.0, 1.0, 0.5]], invert=BOTH,
    make=L.Normalization)  # fmt: skip
row("CategoryEncoding", In((4,), below=6), num_tokens=[6, 8, 7], output_mode=["multi_hot", "one_hot", "count"],
    inputs=[(In((4,), below=6),), (In((3, 4), below=6),), (In((2, 3, 1), below=6),)])  # fmt: skip
row("CategoryEncoding that counts", In((4,), below=6), make=lambda: L.CategoryEncoding(6, output_mode="count"))
row("CategoryEncoding with weights", In((4,), below=6), (4,), make=lambda: lambda x: L.CategoryEncoding(
    6, output_mode="count")(x[0], count_weights=x[1]))  # fmt: skip
row(
    "Discretization",
    (4,),
    bin_boundaries=[[-1.0, 0.0, 0.5], [0.0]],
    output_mode=["int", "one_hot", "multi_hot", "count"],
)
row("Resizing", MAPS[2], height=[5, 9, 12], width=[5, 8, 15], antialias=BOTH, data_format=FORMATS,
    interpolation=["bilinear", "nearest", "bicubic", "lanczos3", "lanczos5"],
    also={"crop_to_aspect_ratio, pad_to_aspect_ratio, fill_value": [(False, False, 0.0), (True, False, 0.0),
                                                                   (False, True, 0.0),
                                                                   (False, True, 2.5)]})  # fmt: skip
row("CenterCrop", MAPS[2], height=[5, 9, 4], width=[3, 8, 5], data_format=FORMATS)
row(
    "CenterCrop of a small image", (5, 7, 2), height=[9, 4, 3], width=[8, 10, 9], data_format=FORMATS, make=L.CenterCrop
)
for name, value in {
    "RandomFlip": {}, "RandomRotation": {"factor": 0.2}, "RandomZoom": {"height_factor": 0.2},
    "RandomContrast": {"factor": 0.2}, "RandomTranslation": {"height_factor": 0.2, "width_factor": 0.1},
}.items():  # fmt: skip
    row(name, MAPS[2], **{k: [v] for k, v in value.items()})

# -- other types -------------------------------------------------------------------------------------------------------

TYPES = ["float16", "bfloat16", "mixed_float16", "mixed_bfloat16"]
for name, make, spec in [
    ("Dense", lambda **o: L.Dense(4, activation="relu", **o), In((6,))),
    ("Conv2D", lambda **o: L.Conv2D(4, 2, padding="same", **o), In((5, 6, 3))),
    ("LSTM", lambda **o: L.LSTM(3, return_sequences=True, **o), In((4, 3))),
    ("GRU", lambda **o: L.GRU(3, **o), In((4, 3))),
    ("Bidirectional", lambda dtype: L.Bidirectional(L.SimpleRNN(3, dtype=dtype), dtype=dtype), In((4, 3))),
    ("BatchNormalization", lambda **o: L.BatchNormalization(**o), In((4, 5))),
    ("LayerNormalization", lambda **o: L.LayerNormalization(**o), In((4, 5))),
    ("GroupNormalization", lambda **o: L.GroupNormalization(2, **o), In((4, 6))),
    ("EinsumDense", lambda **o: L.EinsumDense("abc,cd->abd", (None, 5), bias_axes="d", **o), In((4, 5))),
    ("Embedding", lambda **o: L.Embedding(7, 3, **o), In((4,), below=7)),
    ("PReLU", lambda **o: L.PReLU(**o), In((4, 5))),
    ("AveragePooling1D", lambda **o: L.AveragePooling1D(2, **o), In((6, 5))),
    ("Softmax", lambda **o: L.Softmax(**o), In((6, 5))),
    ("Rescaling", lambda **o: L.Rescaling(0.3, 0.1, **o), In((6, 5))),
    ("MultiHeadAttention", lambda **o: lambda x: L.MultiHeadAttention(2, 3, **o)(x, x), In((4, 5))),
    ("Attention", lambda **o: lambda x: L.Attention(**o)([x, x]), In((4, 5))),
]:
    half = TYPES if name != "MultiHeadAttention" else TYPES[1::2]  # JAX has no such products of float16 on a CPU
    row(f"{name} of other types", spec, make=make, dtype=half)

# layers that Keras quantizes; MultiHeadAttention is missing: Keras itself cannot load the file that it then writes
QUANTIZED: dict[str, tuple[Callable[[], Any], In]] = {
    "Dense": (lambda: lambda x: L.Dense(4)(L.Dense(5, activation="relu")(x)), In((7,))),
    "EinsumDense": (lambda: L.EinsumDense("abc,cde->abde", (None, 2, 3), bias_axes="de"), In((4, 6))),
    "EinsumDense, odd": (lambda: L.EinsumDense("abcd,cde->abe", (None, 5)), In((4, 2, 3))),
    "EinsumDense, outputs first": (lambda: L.EinsumDense("abc,dc->abd", (None, 5), bias_axes="d"), In((4, 6))),
    "EinsumDense, shared": (lambda: L.EinsumDense("abc,cbd->adb", (5, 4)), In((4, 6))),
    "Embedding": (lambda: L.Embedding(7, 4), In((5,), below=7)),
}
if hasattr(L, "ReversibleEmbedding"):
    for tied in (True, False):
        QUANTIZED[f"ReversibleEmbedding, {tied=}"] = (
            lambda tied=tied: reversed_by(L.ReversibleEmbedding(7, 3, tie_weights=tied)),
            In((5,), below=7),
        )

_SIGNAL = {
    "frame_length": [8, 6], "frame_step": [None, 3, 8], "fft_length": [None, 16], "padding": ["valid", "same"],
    "window": ["hann", "hamming"], "scaling": [None, "density", "spectrum"], "expand_dims": BOTH,
    "data_format": FORMATS, "periodic": BOTH,
}  # fmt: skip
row("STFTSpectrogram", (21, 2), mode=["log", "magnitude", "psd", "real", "imag", "stft", "angle"], **_SIGNAL)
row("MelSpectrogram", (40,), fft_length=[16], sequence_stride=[4, 7], sequence_length=[None, 12],
    window=["hann", "hamming", None], sampling_rate=[8000], num_mel_bins=[5, 3], min_freq=[20.0, 300.0],
    max_freq=[None, 3000.0], power_to_db=BOTH, mag_exp=[1.0, 2.0], top_db=[80.0, 5.0], min_power=[1e-10, 1e-3],
    ref_power=[1.0, 2.0])  # fmt: skip
