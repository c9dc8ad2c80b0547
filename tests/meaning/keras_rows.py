"""Keras' layers, each with options to choose from, and the inputs to call it on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from keras_models import SINCE, In, Row, keras

L, ops = keras.layers, keras.ops
ROWS: dict[str, Row] = {}
FORMATS = ["channels_last", "channels_first"]
ACTIVATIONS = [
    "celu", "elu", "exponential", "gelu", "glu", "hard_shrink", "hard_sigmoid", "hard_silu", "hard_swish", "hard_tanh",
    "leaky_relu", "linear", "log_sigmoid", "log_softmax", "mish", "relu", "relu6", "selu", "sigmoid", "silu",
    "soft_shrink", "softmax", "softplus", "softsign", "sparse_plus", "sparse_sigmoid", "sparsemax", "squareplus",
    "swish", "tanh", "tanh_shrink",
]  # fmt: skip
BOTH = [True, False]


Shape = tuple[int | None, ...]


def row(title: str, /, *inputs: In | Shape, make: Callable[..., Any] | None = None, **options: Any) -> None:
    """A row for a class; further rows of the same class have a word behind its name."""
    made = make or getattr(L, title, None)
    if made is not None:  # an older Keras lacks it
        specs = tuple(s if isinstance(s, In) else In(s) for s in inputs)
        ROWS[title] = Row(made, specs, options.pop("also", {}) | options)


def reversed_by(layer: Any) -> Callable[[Any], Any]:
    """An embedding, and the way back."""
    return lambda x: [layer(x), layer(L.Dense(3)(layer(x)), reverse=True)]


# -- dense, embedding, activations -------------------------------------------------------------------------------------

row("Dense", (6,), units=[4, 1], use_bias=BOTH, activation=[None, "relu", "gelu", "softmax"],
    inputs=[(In((6,)),), (In((3, 6)),), (In((2, 3, 6)),)])  # fmt: skip
row("EinsumDense", (4, 6), also={"equation, output_shape, bias_axes, inputs": [
    ("ab,bc->ac", 5, "c", (In((6,)),)), ("abc,cd->abd", (None, 5), "d", (In((4, 6)),)),
    ("abc,bcd->ad", 5, None, (In((4, 6)),)), ("abc,cde->abde", (None, 2, 3), "de", (In((4, 6)),)),
    ("abc,bcd->abd", (4, 3), "bd", (In((4, 6)),)), ("...x,xy->...y", 4, "y", (In((2, 3, 5)),)),
    ("abc,dc->abd", (None, 5), "d", (In((4, 6)),)), ("btnh,nhd->btd", (None, 7), "d", (In((4, 2, 3)),)),
    ("abc,cbd->adb", (5, 4), "db", (In((4, 6)),)),
]}, activation=[None, "tanh"])  # fmt: skip
row("Embedding", In((5,), below=7), input_dim=[7], output_dim=[3, 1], mask_zero=BOTH,
    inputs=[(In((5,), below=7),), (In((2, 4), below=7),)])  # fmt: skip
if hasattr(L, "ReversibleEmbedding"):
    row("ReversibleEmbedding", In((5,), below=7), tie_weights=BOTH, mask_zero=BOTH, logit_soft_cap=[None, 3.0],
        make=lambda **o: reversed_by(L.ReversibleEmbedding(7, 3, **o)))  # fmt: skip
row("Activation", (3, 6), activation=ACTIVATIONS)
row("Dense with an activation layer", (6,), make=lambda a: L.Dense(4, activation=a()),
    a=[lambda: L.LeakyReLU(0.1), lambda: L.ReLU(2.0), lambda: L.ELU(0.3), lambda: "hard_sigmoid"])  # fmt: skip
row("ReLU", (5, 6), max_value=[None, 1.5], negative_slope=[0.0, 0.2], threshold=[0.0, 0.3])
row("LeakyReLU", (5, 6), negative_slope=[0.3, 0.05])
row("ELU", (5, 6), alpha=[1.0, 0.4])
row("PReLU", (3, 4, 5), shared_axes=[None, [1], [1, 2], [2], [3], [1, 3], [1, 2, 3]])
row("Softmax", (3, 4, 5), axis=[-1, 1, 2, (1, 2), (2, 3)])
row("Softmax with a mask", (4, 5), In((4, 5), mask=True), make=lambda **o: lambda x: L.Softmax(**o)(x[0], mask=x[1]),
    axis=[-1, 1])  # fmt: skip
for name, options in {"Dropout": {"rate": [0.3]}, "AlphaDropout": {"rate": [0.3]}, "GaussianDropout": {"rate": [0.3]},
                      "GaussianNoise": {"stddev": [0.3]}, "Identity": {}, "SpatialDropout1D": {"rate": [0.3]},
                      "ActivityRegularization": {"l1": [0.1]}}.items():  # fmt: skip
    row(name, (4, 5), **options)
row("SpatialDropout2D", (4, 5, 3), rate=[0.3])
row("SpatialDropout3D", (2, 4, 5, 3), rate=[0.3])

# -- convolutions ------------------------------------------------------------------------------------------------------

MAPS = {1: (13, 4), 2: (9, 8, 4), 3: (6, 7, 5, 4)}
KERNELS = {1: [3, 2, 1, 4], 2: [(3, 2), (1, 4), 3, 2], 3: [(3, 2, 1), 2, (1, 2, 3)]}
STRIDES = {1: [(1, 1), (2, 1), (3, 1), (1, 2), (1, 3)], 2: [(1, 1), ((2, 1), 1), (2, 1), (1, (2, 1)), (1, 2),
    ((2, 3), 1)],
           3: [(1, 1), ((2, 1, 3), 1), (1, (1, 2, 1)), (2, 1)]}  # fmt: skip
# kernel, stride, output padding, dilation; Keras up to 3.12 does not write the output padding down
TRANSPOSED = [
    (3, 1, None, 1), (3, 2, None, 1), (2, 2, None, 1), (2, 3, None, 1), (1, 2, None, 1), (3, 1, None, 2),
    (2, 1, None, 3),
]  # fmt: skip
if "output_padding" in L.Conv1DTranspose(1, 1).get_config():
    TRANSPOSED += [(4, 3, 1, 1), (3, 2, 1, 1), (5, 3, 2, 1), (4, 2, 0, 1)]
for n in (1, 2, 3):
    common: dict[str, Any] = {"kernel_size": KERNELS[n], "also": {"strides, dilation_rate": STRIDES[n]},
                              "data_format": FORMATS, "use_bias": BOTH}  # fmt: skip
    padded = ["valid", "same", "causal"] if n == 1 else ["valid", "same"]
    row(f"Conv{n}D", MAPS[n], **common, padding=padded, filters=[6, 2], groups=[1, 2], activation=[None, "relu"])
    row(f"Conv{n}DTranspose", MAPS[n], padding=["valid", "same"], filters=[5, 1], activation=[None, "tanh"],
        use_bias=BOTH, data_format=FORMATS,
        also={"kernel_size, strides, output_padding, dilation_rate": TRANSPOSED})  # fmt: skip
    if n < 3:
        even = [s for s in STRIDES[n] if not isinstance(s[0], tuple)]
        own = {**common, "also": {"strides, dilation_rate": even}}
        row(f"DepthwiseConv{n}D", MAPS[n], **own, padding=["valid", "same"], depth_multiplier=[1, 3])
        row(f"SeparableConv{n}D", MAPS[n], **own, padding=["valid", "same"], depth_multiplier=[1, 2], filters=[5])

# -- recurrent ---------------------------------------------------------------------------------------------------------

RUN: dict[str, Any] = {"return_sequences": BOTH, "return_state": BOTH, "go_backwards": BOTH, "stateful": [False, True],
                       "unroll": [False, False, True]}  # fmt: skip
CELLS: dict[str, dict[str, Any]] = {
    "LSTM": {"units": [4, 1], "use_bias": BOTH, "unit_forget_bias": BOTH, "activation": ["tanh", "relu", "softsign"],
             "recurrent_activation": ["sigmoid", "hard_sigmoid", "tanh"]},
    "GRU": {"units": [4, 1], "use_bias": BOTH, "reset_after": BOTH, "activation": ["tanh", "relu"],
            "recurrent_activation": ["sigmoid", "hard_sigmoid"]},
    "SimpleRNN": {"units": [4, 1], "use_bias": BOTH, "activation": ["tanh", "relu", "sigmoid"]},
}  # fmt: skip
MASKS = ["none", "masking", "explicit", "embedding"]


def sequence(layer: Any, mask: str) -> Callable[[Any], Any]:
    """A layer on a sequence that is masked in one of the ways that there are."""

    def call(x: Any) -> Any:
        if mask == "masking":
            return layer(L.Masking()(x[0]))
        if mask == "embedding":
            return layer(L.Embedding(5, 3, mask_zero=True)(x[2]))
        return layer(x[0], mask=x[1]) if mask == "explicit" else layer(x[0])

    return call


MASKED = (In((6, 3), padded=True), In((6,), mask=True), In((6,), below=5))


def cell(name: str, **options: Any) -> Any:
    """A cell of a layer's class."""
    return getattr(L, f"{name}Cell")(**options)


# Unrolled, JAX and NumPy leave `zero_output_for_mask` out (TensorFlow and Torch do not). Bidirectional cannot be built
# with states of a known batch and a sum.
UNROLLED = {"unroll, zero_output_for_mask": [(False, True), (False, False), (True, False)]}
RUN_ONCE = {k: v for k, v in RUN.items() if k != "unroll"}
BOTH_WAYS = {
    "return_sequences": BOTH,
    "return_state, stateful, merge_mode": [
        (False, True, "concat"), (True, False, "sum"), (False, False, "mul"), (True, False, "ave"), (True, False, None),
        (True, False, "concat"), (False, False, None),
    ],
}  # fmt: skip
ONE_OUTPUT = {"return_sequences": BOTH, "merge_mode": ["concat", "sum", "mul", "ave", None]}
for name, options in CELLS.items():
    row(name, *MASKED, make=lambda mask="none", name=name, **o: sequence(getattr(L, name)(**o), mask),
        mask=MASKS, **options, **RUN)  # fmt: skip
    row(f"RNN of {name}Cell", *MASKED, mask=MASKS, also=UNROLLED, **RUN_ONCE, **options,
        make=lambda mask, return_sequences, return_state, go_backwards, stateful, unroll, zero_output_for_mask,
        name=name,
        **o: sequence(L.RNN(cell(name, **o), return_sequences, return_state, go_backwards, stateful, unroll,
                            zero_output_for_mask), mask))  # fmt: skip
    row(f"Bidirectional of {name}", *MASKED, mask=MASKS, also=BOTH_WAYS if name != "SimpleRNN" else ONE_OUTPUT,
        **options,
        make=lambda mask, merge_mode, name=name, **o:
        sequence(L.Bidirectional(getattr(L, name)(**o), merge_mode=merge_mode), mask))  # fmt: skip

STACKS: list[list[tuple[str, dict[str, Any]]]] = [
    [("LSTM", {"units": 3}), ("LSTM", {"units": 4})],
    [("GRU", {"units": 3}), ("LSTM", {"units": 2}), ("SimpleRNN", {"units": 4, "use_bias": False})],
    [("GRU", {"units": 3, "reset_after": False}), ("GRU", {"units": 2})],
    [("SimpleRNN", {"units": 3}), ("SimpleRNN", {"units": 3})],
]


def stack(cells: Sequence[tuple[str, dict[str, Any]]]) -> Any:
    """Cells on top of each other."""
    return L.StackedRNNCells([cell(name, **o) for name, o in cells])


row("RNN of StackedRNNCells", *MASKED, cells=STACKS, mask=MASKS, **RUN,
    make=lambda cells, mask, **o: sequence(L.RNN(stack(cells), **o), mask))  # fmt: skip
row("RNN of a list of cells", *MASKED, cells=STACKS, mask=MASKS,
    make=lambda cells, mask, **o: sequence(L.RNN([cell(n, **c) for n, c in cells], **o), mask))  # fmt: skip
row("Bidirectional of StackedRNNCells", *MASKED, cells=STACKS, mask=MASKS, merge_mode=["concat", "sum", None],
    return_sequences=BOTH, make=lambda cells, mask, merge_mode, **o:
    sequence(L.Bidirectional(L.RNN(stack(cells), **o), merge_mode=merge_mode), mask))  # fmt: skip
row("Bidirectional of two layers", *MASKED, mask=MASKS, return_sequences=BOTH, merge_mode=["concat", "mul"],
    turned=BOTH, make=lambda mask, merge_mode, return_sequences, turned: sequence(L.Bidirectional(
        L.LSTM(4, return_sequences=return_sequences, go_backwards=turned),
        backward_layer=L.LSTM(4, activation="relu", go_backwards=not turned, return_sequences=return_sequences),
        merge_mode=merge_mode), mask))  # fmt: skip
row("LSTM with states", (6, 3), (4,), (4,), make=lambda **o: lambda x: L.LSTM(4, **o)(x[0], initial_state=x[1:]),
    return_sequences=BOTH, return_state=BOTH)  # fmt: skip
row("GRU with states", (6, 3), (4,), make=lambda **o: lambda x: L.GRU(4, **o)(x[0], initial_state=x[1]),
    return_state=BOTH, reset_after=BOTH)  # fmt: skip
row("Bidirectional with states", (6, 3), (4,), (4,), (4,), (4,), return_state=BOTH, return_sequences=BOTH,
    make=lambda **o: lambda x: L.Bidirectional(L.LSTM(4, **o))(x[0], initial_state=x[1:]))  # fmt: skip
row("RNN of StackedRNNCells with states", (6, 3), (3,), (3,), (4,), (4,), return_state=BOTH,
    make=lambda **o: lambda x: L.RNN(stack(STACKS[0]), **o)(x[0], initial_state=[x[1:3], x[3:]]))  # fmt: skip
row("LSTM from states of another", (6, 3), (5, 2), make=lambda name: lambda x: getattr(L, name)(4)(
    x[1], initial_state=getattr(L, name)(4, return_state=True)(x[0])[1:]),
    name=["LSTM", "GRU", "SimpleRNN"])  # fmt: skip
row("LSTMCell", (3,), (4,), (4,), use_bias=BOTH, make=lambda **o: lambda x: L.LSTMCell(4, **o)(x[0], x[1:]))
row("GRUCell", (3,), (4,), reset_after=BOTH, make=lambda **o: lambda x: L.GRUCell(4, **o)(x[0], x[1]))
row("SimpleRNNCell", (3,), (4,), make=lambda: lambda x: L.SimpleRNNCell(4)(x[0], states=x[1]))

RUN2 = {k: RUN[k] for k in ("return_sequences", "return_state", "go_backwards", "stateful")}
for n in (1, 2, 3):
    shape = (4, *{1: (7,), 2: (6, 8), 3: (4, 3, 5)}[n], 2)
    row(f"ConvLSTM{n}D", shape, filters=[3, 1], kernel_size=KERNELS[n][:3], padding=["valid", "same"],
        activation=["tanh", "relu"], recurrent_activation=["sigmoid", "hard_sigmoid"], use_bias=BOTH, **RUN2,
        also={"strides, dilation_rate": [(1, 1), (2, 1), (1, 2)] if n < 3 else [(1, 1), (2, 1)]})  # fmt: skip
row("ConvLSTM2D with the channels first", (4, 2, 6, 5), filters=[3], kernel_size=[2], padding=["valid", "same"],
    return_sequences=BOTH, make=lambda **o: L.ConvLSTM2D(data_format="channels_first", **o))  # fmt: skip
row("Bidirectional of ConvLSTM2D", (4, 6, 5, 2), merge_mode=["concat", "sum"], return_sequences=BOTH,
    make=lambda merge_mode, **o: L.Bidirectional(L.ConvLSTM2D(3, 2, **o), merge_mode=merge_mode))  # fmt: skip

# -- TimeDistributed ---------------------------------------------------------------------------------------------------

row("TimeDistributed", (4, 6, 5), layer=[
    lambda: L.Dense(3), lambda: L.Conv1D(3, 2), lambda: L.LSTM(3), lambda: L.Bidirectional(L.GRU(2)),
    lambda: L.Flatten(),
    lambda: L.BatchNormalization(), lambda: L.LayerNormalization(), lambda: L.GlobalMaxPooling1D(),
    lambda: L.Reshape((3, 10)), lambda: L.Permute((2, 1)), lambda: L.Softmax(axis=1), lambda: L.PReLU(),
    lambda: L.PReLU(shared_axes=[1]),
    lambda: L.AveragePooling1D(2, padding="same"), lambda: L.ZeroPadding1D(1), lambda: L.UpSampling1D(2),
    lambda: L.TimeDistributed(L.Dense(2)), lambda: L.GroupNormalization(5), lambda: L.SeparableConv1D(3, 2),
    lambda: L.Conv1DTranspose(3, 2, strides=2), lambda: L.EinsumDense("abc,cd->abd", (None, 2)),
    lambda: L.Activation("gelu"),
    lambda: L.BatchNormalization(axis=1), lambda: L.UnitNormalization(), lambda: L.RMSNormalization(),
    lambda: L.Cropping1D(1), lambda: L.Dropout(0.1), lambda: L.Softmax(axis=-1), lambda: L.UnitNormalization(axis=1),
], make=lambda layer: L.TimeDistributed(layer()))  # fmt: skip
row("TimeDistributed then masks", *MASKED, mask=MASKS, make=lambda mask: lambda x: L.LSTM(3)(
    sequence(L.TimeDistributed(L.Dense(4)), mask)(x)))  # fmt: skip

# -- attention ---------------------------------------------------------------------------------------------------------

QKV = ((4, 6), (5, 6), (5, 6))


def attention(layer: Any, masks: str, causal: bool, scores: bool = False) -> Callable[[Any], Any]:
    """Dot-product or additive attention; `q`, `v`: there is a mask for these."""

    def call(x: Any) -> Any:
        mask = [x[3] if "q" in masks else None, x[4] if "v" in masks else None]
        more = {"mask": mask} if masks else {}
        return layer(x[:3], use_causal_mask=causal, return_attention_scores=scores, **more)

    return call


SEEN = (*QKV, In((4,), mask=True), In((5,), mask=True))
row("Attention", *SEEN, masks=["", "q", "v", "qv"], causal=BOTH, scores=BOTH, use_scale=BOTH,
    score_mode=["dot", "concat"],
    make=lambda masks, causal, scores, **o: attention(L.Attention(**o), masks, causal, scores))  # fmt: skip
row("AdditiveAttention", *SEEN, masks=["", "q", "v", "qv"], causal=BOTH, scores=BOTH, use_scale=BOTH,
    make=lambda masks, causal, scores, **o: attention(L.AdditiveAttention(**o), masks, causal, scores))  # fmt: skip
row("Attention of two", (4, 6), (5, 6), make=lambda: L.Attention())
row("Attention with implicit masks", In((4, 6), padded=True), In((5, 6), padded=True), layer=[
    lambda: L.Attention(), lambda: L.AdditiveAttention(), lambda: L.MultiHeadAttention(2, 3)],
    make=lambda layer: lambda x: _pair(layer(), *map(L.Masking(), x)))  # fmt: skip


def _pair(layer: Any, q: Any, v: Any) -> Any:
    alone = isinstance(layer, L.Attention)  # AdditiveAttention is one
    return L.GlobalAveragePooling1D()(layer([q, v]) if alone else layer(q, v))


def heads(layer: Any, masks: str, causal: bool, scores: bool, key: bool) -> Callable[[Any], Any]:
    """Attention with heads; `a`: an attention mask, `q`, `v`, `k`: a mask for these."""

    def call(x: Any) -> Any:
        words = {"a": ("attention_mask", 5), "q": ("query_mask", 3), "v": ("value_mask", 4), "k": ("key_mask", 4)}
        more = {words[m][0]: x[words[m][1]] for m in masks}
        args = x[:3] if key else x[:2]
        return layer(*args, use_causal_mask=causal, return_attention_scores=scores, **more)

    return call


HEADS = (*SEEN, In((4, 5), mask=True))
CALLED: dict[str, Any] = {"masks": ["", "a", "v", "q", "avq", "k", "qk"], "causal": BOTH, "scores": BOTH, "key": BOTH}
row("MultiHeadAttention", *HEADS, **{k: v for k, v in CALLED.items() if k != "scores"}, num_heads=[2, 1, 3],
    key_dim=[3, 4], use_bias=BOTH, output_shape=[None, 5, (2, 3)],
    also={"scores, value_dim": [(True, 2), (True, None), (False, None)]},  # without scores, JAX wants equal lengths
    make=lambda masks, causal, scores, key, **o:
    heads(L.MultiHeadAttention(**o), masks, causal, scores, key))  # fmt: skip
row("MultiHeadAttention of images", (3, 4, 6), attention_axes=[None, (1,), (2,), (1, 2)], num_heads=[2], key_dim=[3],
    make=lambda **o: lambda x: L.MultiHeadAttention(**o)(x, x))  # fmt: skip
row("GroupQueryAttention", *HEADS, **CALLED, head_dim=[3, 2], use_bias=BOTH,
    also={"num_query_heads, num_key_value_heads": [(4, 2), (4, 4), (6, 2), (3, 1)]},
    make=lambda masks, causal, scores, key, **o:
    heads(L.GroupQueryAttention(**o), masks, causal, scores, key))  # fmt: skip
NEWER: list[dict[str, Any]] = [{}, *([{"use_gate": True}, {"sliding_window": 2}] if SINCE >= (3, 15) else [])]
row(
    "MultiHeadAttention of this Keras",
    (5, 6),
    options=NEWER,
    causal=BOTH,
    make=lambda options, causal: lambda x: L.MultiHeadAttention(2, 3, **options)(x, x, use_causal_mask=causal),
)
row(
    "GroupQueryAttention of this Keras",
    (5, 6),
    options=NEWER,
    causal=BOTH,
    make=lambda options, causal: lambda x: L.GroupQueryAttention(3, 4, 2, **options)(x, x, use_causal_mask=causal),
)

# -- normalization -----------------------------------------------------------------------------------------------------

row("BatchNormalization", (4, 5, 3), axis=[-1, 1, 2], center=BOTH, scale=BOTH, epsilon=[1e-3, 0.1])
row("BatchNormalization of vectors", (5,), center=BOTH, scale=BOTH, make=L.BatchNormalization)
row("BatchNormalization with a mask", *MASKED, mask=MASKS, make=lambda mask: sequence(L.BatchNormalization(), mask))
if SINCE >= (3, 15):
    row("BatchNormalization, renormalized", (4, 3), make=lambda: L.BatchNormalization(renorm=True))
row("LayerNormalization", (4, 5, 3), axis=[-1, 1, 2, (1, 2), (2, 3), (1, 2, 3), [-2, -1], (1, 3)], center=BOTH,
    scale=BOTH, epsilon=[1e-3, 0.1])  # fmt: skip
row("RMSNormalization", (4, 5, 3), axis=[-1, 3, *([(2, 3)] if SINCE >= (3, 15) else [])], epsilon=[1e-6, 0.1])
row("GroupNormalization", (4, 5, 6), axis=[-1, 3], groups=[2, 3, 1, 6, -1], center=BOTH, scale=BOTH)
row("GroupNormalization of other axes", (6, 4, 6), axis=[1, 3, -1, -3], groups=[2, 3],
    make=L.GroupNormalization)  # fmt: skip
row("UnitNormalization", (4, 5, 3), axis=[-1, 1, (1, 2), (2, 3)])
row("SpectralNormalization", (6, 5, 4), layer=[lambda: L.Dense(3), lambda: L.Conv2D(3, 2), lambda: L.DepthwiseConv2D(2),
                                               lambda: L.Conv2DTranspose(3, 2)],
    make=lambda layer: L.SpectralNormalization(layer()))  # fmt: skip

# -- pooling -----------------------------------------------------------------------------------------------------------

for n in (1, 2, 3):
    for word in ("Max", "Average"):
        row(f"{word}Pooling{n}D", MAPS[n], pool_size=KERNELS[n], strides=[None, 1, 2, 3], padding=["valid", "same"],
            data_format=FORMATS)  # fmt: skip
        row(f"Global{word}Pooling{n}D", MAPS[n], keepdims=BOTH, data_format=FORMATS)
        row(f"Adaptive{word}Pooling{n}D", MAPS[n], output_size=[3, 1, 5, 4], data_format=FORMATS)
row("GlobalAveragePooling1D with a mask", *MASKED, mask=MASKS, keepdims=BOTH,
    make=lambda mask, **o: sequence(L.GlobalAveragePooling1D(**o), mask))  # fmt: skip

# -- shapes ------------------------------------------------------------------------------------------------------------

for n, pads in {
    1: [1, (2, 1), (0, 3)],
    2: [1, (2, 1), ((0, 3), (1, 2))],
    3: [1, (2, 1, 0), ((0, 1), (1, 2), (2, 0))],
}.items():
    row(f"ZeroPadding{n}D", MAPS[n], padding=pads, data_format=FORMATS)
    row(f"Cropping{n}D", MAPS[n], cropping=pads, **({"data_format": FORMATS} if n > 1 else {}))
row("UpSampling1D", MAPS[1], size=[2, 3])
row("UpSampling2D", MAPS[2], size=[2, (1, 3), (3, 2)], data_format=FORMATS,
    interpolation=["nearest", "bilinear", "bicubic", "lanczos3", "lanczos5"])  # fmt: skip
row("UpSampling3D", MAPS[3], size=[2, (1, 3, 2)], data_format=FORMATS)
row("Flatten", MAPS[2], data_format=FORMATS, inputs=[(In(MAPS[2]),), (In((4, 3)),)])
row("Flatten of vectors", (5,), make=L.Flatten)
row("Flatten of numbers", In(()), make=L.Flatten)
row("Reshape", (4, 6), target_shape=[(24,), (6, 4), (2, -1), (-1, 3, 2), (2, 2, 6), (-1,), (1, 24, 1)])
row("Permute", (3, 4, 5), dims=[(1, 2, 3), (3, 1, 2), (2, 1, 3), (3, 2, 1)])
row("RepeatVector", (5,), n=[1, 3])

# -- merging -----------------------------------------------------------------------------------------------------------

for name in ("Add", "Subtract", "Multiply", "Average", "Maximum", "Minimum"):
    three = [(In((4, 5)),) * 3] if name != "Subtract" else []
    row(name, (4, 5), (4, 5), inputs=[(In((4, 5)), In((4, 5))), (In((4, 5)), In((1, 5))), (In((4, 5)), In((5,))),
                                      (In((4, 5)), In((4, 1))), *three])  # fmt: skip
row("Concatenate", (4, 5), (4, 5), axis=[-1, 1, 2, -2])
row("Dot", (4, 5), (4, 5), axes=[1, 2, (1, 1), -1], normalize=BOTH)
row("Dot along unequal axes", (4, 5), (6, 4), axes=[(1, 2), (-2, -1)], normalize=BOTH, make=L.Dot)
row("Dot of vectors", (5,), (5,), axes=[1, -1, (1, 1)], normalize=BOTH, make=L.Dot)
row("Dot of more axes", (2, 3, 5), (4, 5), axes=[(3, 2)], make=L.Dot)
row("Merging with masks", *MASKED, layer=[L.Add, L.Multiply, L.Average, L.Maximum, L.Concatenate,
                                          lambda: L.Concatenate(axis=1)],
    make=lambda layer: lambda x: L.GRU(3)(layer()([L.Masking()(x[0]),
    L.Embedding(5, 3, mask_zero=True)(x[2])])))  # fmt: skip
row("Merging where one is masked", *MASKED, layer=[L.Add, L.Multiply, L.Average, L.Subtract, L.Minimum, L.Concatenate,
                                                   lambda: L.Concatenate(axis=1)],
    make=lambda layer: lambda x: L.GRU(3)(layer()([L.Dense(3)(x[0]),
    L.Embedding(5, 3, mask_zero=True)(x[2])])))  # fmt: skip
