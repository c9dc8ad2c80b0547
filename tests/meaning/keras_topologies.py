"""Random graphs of Keras layers: branches that meet again, layers and models that are called twice, nested models.

Hypothesis draws every choice. A graph grows from its inputs, one step at a time; in the end all that nobody took is
flattened, concatenated and read by a Dense layer, so that its kernel has a part for each of them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from hypothesis import strategies as st
from keras_models import In, keras

L, ops = keras.layers, keras.ops
Draw = Callable[[st.SearchStrategy[Any]], Any]
Step = Callable[["Graph", Any], Any]
SHAPES: list[In] = [
    In((6,)), In((4,)), In((6, 4)), In((6, 3), padded=True), In((None, 4)), In((5, 6, 4)), In((6, 4, 2)), In((5,),
    below=7),
    In((3, 4, 5, 2)),
]  # fmt: skip
LARGE = 400


class Graph:
    """A model that is being built."""

    def __init__(self, draw: Draw, specs: list[In], depth: int = 0) -> None:
        self.draw, self.depth, self.specs = draw, depth, specs
        self.inputs = [s.tensor() for s in specs]
        self.free: list[Any] = list(self.inputs)  # what nobody took yet
        self.pool: list[Any] = list(self.inputs)
        self.called: list[tuple[Any, tuple[Any, ...]]] = []

    def pick(self, *choices: Any) -> Any:
        """One of these."""
        return self.draw(st.sampled_from(choices))

    def grow(self) -> None:
        """One more value."""
        x = self.draw(st.sampled_from(self.pool[-3:] if len(self.pool) > 3 else self.pool))
        steps = STEPS.get(len(x.shape), []) if x.dtype != "int32" else [embedding]
        if None not in x.shape[1:] and math.prod(x.shape[1:]) > LARGE:
            steps = SHRINK[len(x.shape)]
        elif None in x.shape[1:]:
            steps = FREE
        elif x.dtype != "int32":
            steps = [*steps, *ANY]
        self.give(self.draw(st.sampled_from(steps))(self, x), x)

    def give(self, y: Any, *taken: Any) -> None:
        """Note a new value, and what it is made of."""
        self.free = [v for v in self.free if not any(v is t for t in taken)]
        for v in keras.tree.flatten(y):
            self.pool.append(v)
            self.free.append(v)

    def call(self, layer: Any, x: Any) -> Any:
        """A layer applied; it may be applied again elsewhere."""
        self.called.append((layer, tuple(x.shape[1:])))
        return layer(x)

    def model(self) -> Any:
        """The whole, with a head over all that is left."""
        ends = [v for v in self.free if v.dtype == "float32"] or [L.Embedding(7, 2)(v) for v in self.free]
        flat = [L.GlobalMaxPooling1D()(v) if None in v.shape[1:] else v for v in ends]
        flat = [L.Flatten()(v) if len(v.shape) != 2 else v for v in flat]
        head = L.Concatenate()(flat) if len(flat) > 1 else flat[0]
        head = self.pick(L.Dense(3), L.Dense(2, activation="tanh"), L.RepeatVector(2))(head)
        head = L.GRU(3)(head) if len(head.shape) == 3 else head
        return keras.Model(self.inputs, [head, *ends[: self.pick(0, 1, 2)]])


def random_model(draw: Draw) -> tuple[Any, list[In]]:
    """A model, and its inputs. Keras uses `random` as it builds, which a strategy must not."""
    specs = draw(st.lists(st.sampled_from(SHAPES), min_size=1, max_size=3))
    graph = Graph(draw, specs)
    for _ in range(draw(st.integers(2, 9))):
        graph.grow()
    return graph.model(), specs


# -- steps that every shape has ----------------------------------------------------------------------------------------


def embedding(g: Graph, x: Any) -> Any:
    return g.call(L.Embedding(7, g.pick(3, 4), mask_zero=g.pick(True, False)), x)


def activation(g: Graph, x: Any) -> Any:
    return g.call(g.pick(L.Activation("gelu"), L.LeakyReLU(), L.PReLU(), L.ELU(), L.Activation("tanh"), L.Softmax(),
                         L.ReLU(), L.Activation("hard_sigmoid")), x)  # fmt: skip


def normalization(g: Graph, x: Any) -> Any:
    make = g.pick(L.BatchNormalization, L.LayerNormalization, L.RMSNormalization, lambda: L.BatchNormalization(axis=1),
                  lambda: L.Dropout(0.2), lambda: L.GaussianNoise(0.1), lambda: L.Rescaling(0.5, 0.1))  # fmt: skip
    return g.call(make(), x)


def dense(g: Graph, x: Any) -> Any:
    return g.call(L.Dense(g.pick(4, 3, 6), use_bias=g.pick(True, False), activation=g.pick(None, "tanh")), x)


def again(g: Graph, x: Any) -> Any:
    """A layer that was called before, on another value of the same shape."""
    fits = [(layer, v) for layer, shape in g.called for v in g.pool if tuple(v.shape[1:]) == shape]
    fits = [(layer, v) for layer, v in fits if "int" not in v.dtype or isinstance(layer, L.Embedding)]
    if not fits:
        return dense(g, x)
    layer, value = g.draw(st.sampled_from(fits))
    return layer(value)


def merge(g: Graph, x: Any) -> Any:
    same = [v for v in g.pool if v.shape == x.shape and v.dtype == x.dtype]
    y = g.draw(st.sampled_from(same))
    make = g.pick(L.Add, L.Multiply, L.Average, L.Maximum, L.Subtract, L.Concatenate, lambda: L.Concatenate(axis=1))
    return make()([x, y])


def join(g: Graph, x: Any) -> Any:
    """Channels next to each other."""
    fits = [v for v in g.pool if v.shape[:-1] == x.shape[:-1] and len(v.shape) == len(x.shape) and v.dtype == x.dtype]
    picked = g.draw(st.lists(st.sampled_from(fits), min_size=1, max_size=3))
    return g.pick(L.Concatenate(), lambda v: ops.concatenate(v, axis=-1))([x, *picked])


def cut(g: Graph, x: Any) -> Any:
    n = x.shape[-1]
    if n < 2:
        return dense(g, x)
    return g.pick(lambda: x[..., : n // 2], lambda: x[..., 1:], lambda: x[:, ::2], lambda: x[..., ::-1],
                  lambda: ops.concatenate(ops.split(x, [1], axis=-1)[::-1], axis=-1),
                  lambda: L.Concatenate()([x[..., n // 2 :], x[..., : n // 2]]))()  # fmt: skip


def arithmetic(g: Graph, x: Any) -> Any:
    return g.pick(lambda: x * 0.5 + 1, lambda: 1 - x, lambda: ops.tanh(x),
        lambda: x + ops.mean(x, axis=-1, keepdims=True),
                  lambda: ops.maximum(x, 0.1), lambda: ops.sigmoid(x) * x, lambda: ops.flip(x, 1))()  # fmt: skip


def nested(g: Graph, x: Any) -> Any:
    """A model of its own, called; perhaps again later."""
    if g.depth > 1 or None in x.shape[1:]:
        return dense(g, x)
    return g.call(_inner(g, tuple(x.shape[1:])), x)


def _inner(g: Graph, shape: tuple[int, ...]) -> Any:
    if g.pick(True, False):
        layers = [L.Dense(4), L.BatchNormalization(), L.Activation("relu"), L.Flatten(), L.Dense(3)]
        return keras.Sequential([L.Input(shape), *layers[: g.pick(3, 5)]])
    graph = Graph(g.draw, [In(shape)], g.depth + 1)
    for _ in range(g.pick(1, 2, 3)):
        graph.grow()
    outputs = graph.free[-1] if g.pick(True, False) else L.Concatenate()([L.Flatten()(v) for v in graph.free])
    return keras.Model(graph.inputs, outputs)


def distributed(g: Graph, x: Any) -> Any:
    if len(x.shape) < 3 or g.depth > 1:
        return dense(g, x)
    if g.pick(True, False):
        return g.call(L.TimeDistributed(_inner(g, tuple(x.shape[2:]))), x)
    inner = [L.Dense(3)] if len(x.shape) == 3 else [L.Conv1D(3, 2, padding="same"), L.LSTM(3), L.Flatten(), L.Dense(2)]
    return g.call(L.TimeDistributed(g.pick(*inner)), x) if len(x.shape) < 5 else dense(g, x)


ANY: list[Step] = [
    activation,
    normalization,
    dense,
    again,
    merge,
    join,
    cut,
    arithmetic,
    nested,
    distributed,
    join,
    again,
]

# -- vectors -----------------------------------------------------------------------------------------------------------


def folded(g: Graph, x: Any) -> Any:
    n = math.prod(x.shape[1:])
    k = g.pick(*(k for k in range(1, n + 1) if n % k == 0))
    shape = g.pick((k, n // k), (n // k, 1, k), (-1, k))
    return g.pick(L.Reshape(shape), lambda v: ops.reshape(v, (-1, *(n // k if s == -1 else s for s in shape))))(x)


def repeated(g: Graph, x: Any) -> Any:
    return L.RepeatVector(g.pick(2, 6))(x)


# -- sequences ---------------------------------------------------------------------------------------------------------


def recurrent(g: Graph, x: Any) -> Any:
    more = {"return_sequences": g.pick(True, False), "go_backwards": g.pick(False, True)}
    make = g.pick(L.LSTM, L.GRU, L.SimpleRNN, lambda n, **o: L.GRU(n, reset_after=False, **o),
                  lambda n, **o: L.RNN(L.StackedRNNCells([L.GRUCell(3), L.LSTMCell(n)]), **o))  # fmt: skip
    layer = make(g.pick(3, 4), **more)
    if g.pick(False, True):
        x = L.Masking()(x)
    if g.pick(False, True) and not more["go_backwards"]:
        layer = L.Bidirectional(layer, merge_mode=g.pick("concat", "sum"))
    return g.call(layer, x)


def stateful(g: Graph, x: Any) -> Any:
    """One layer's states begin another's."""
    y, *states = L.LSTM(4, return_sequences=True, return_state=True)(x)
    return L.LSTM(4, return_sequences=g.pick(True, False))(y, initial_state=states)


def attention(g: Graph, x: Any) -> Any:
    others = [v for v in g.pool if len(v.shape) == 3 and v.shape[-1] == x.shape[-1] and v.dtype == x.dtype]
    y = g.draw(st.sampled_from(others))
    causal = g.pick(False, True)
    if g.pick(True, False):
        return L.MultiHeadAttention(2, 3)(x, y, use_causal_mask=causal)
    return g.pick(L.Attention(), L.AdditiveAttention(), L.Attention(use_scale=True))([x, y], use_causal_mask=causal)


def conv1(g: Graph, x: Any) -> Any:
    n, c = x.shape[1:]
    same = g.pick("same", "valid") if n and n > 3 else "same"
    make = g.pick(
        lambda: L.Conv1D(4, 3, padding=same), lambda: L.Conv1D(3, 2, padding="causal", dilation_rate=2),
        lambda: L.SeparableConv1D(4, 3, padding=same), lambda: L.DepthwiseConv1D(2, padding=same, depth_multiplier=2),
        lambda: L.Conv1DTranspose(3, 3, strides=2, padding=same), lambda: L.Conv1D(4, 2, strides=2, padding="same"),
        lambda: L.Conv1D(2 * c, 2, groups=c, padding="same"),
    )  # fmt: skip
    return g.call(make(), x)


def pool1(g: Graph, x: Any) -> Any:
    make = g.pick(lambda: L.MaxPooling1D(2, padding="same"), lambda: L.AveragePooling1D(3, strides=1, padding="same"),
                  L.GlobalAveragePooling1D, L.GlobalMaxPooling1D, lambda: L.ZeroPadding1D((1, 0)),
                  lambda: L.UpSampling1D(2),
                  lambda: L.SpatialDropout1D(0.1))  # fmt: skip
    return g.call(make(), x)


def turned(g: Graph, x: Any) -> Any:
    rank = len(x.shape) - 1
    order = g.draw(st.permutations(range(1, rank + 1)))
    return g.pick(L.Permute(tuple(order)), lambda v: ops.transpose(v, (0, *order)))(x)


def flat(g: Graph, x: Any) -> Any:
    return L.Flatten()(x)


# -- images ------------------------------------------------------------------------------------------------------------


def conv2(g: Graph, x: Any) -> Any:
    make = g.pick(
        lambda: L.Conv2D(4, 3, padding="same"), lambda: L.Conv2D(4, (2, 1), strides=2, padding="same"),
        lambda: L.SeparableConv2D(4, 3, padding="same"), lambda: L.DepthwiseConv2D(2, padding="same",
        depth_multiplier=2),
        lambda: L.Conv2DTranspose(3, 3, strides=2, padding="same"),
        lambda: L.Conv2D(3, 2, dilation_rate=2, padding="same"),
        lambda: L.Conv2D(3, 1), lambda: L.ConvLSTM1D(2, 2, padding="same", return_sequences=True),
        lambda: L.ConvLSTM1D(2, 1),
        lambda: L.Conv2D(x.shape[1], 2, padding="same", data_format="channels_first"),
    )  # fmt: skip
    return g.call(make(), x)


def pool2(g: Graph, x: Any) -> Any:
    make = g.pick(
        lambda: L.MaxPooling2D(2, padding="same"), lambda: L.AveragePooling2D((1, 2), strides=1, padding="same"),
        L.GlobalAveragePooling2D, L.GlobalMaxPooling2D, lambda: L.ZeroPadding2D(((1, 0), (0, 1))),
        lambda: L.UpSampling2D(2),
        lambda: L.Cropping2D(((0, 0), (0, 0))), lambda: L.Resizing(3, 4),
        lambda: L.GlobalAveragePooling2D(keepdims=True),
        lambda: L.MaxPooling2D(2, padding="same", data_format="channels_first"),
        lambda: L.Flatten(data_format="channels_first"),
    )  # fmt: skip
    return g.call(make(), x)


def volume(g: Graph, x: Any) -> Any:
    make = g.pick(lambda: L.Conv3D(2, 2, padding="same"), lambda: L.ConvLSTM2D(2, 2), L.GlobalAveragePooling3D,
                  lambda: L.MaxPooling3D(2, padding="same"), lambda: L.TimeDistributed(L.Conv2D(2, 2)))  # fmt: skip
    return g.call(make(), x)


STEPS: dict[int, list[Step]] = {
    2: [folded, repeated, folded], 3: [recurrent, recurrent, stateful, attention, conv1, pool1, turned, flat, folded],
    4: [conv2, conv2, pool2, turned, flat, folded], 5: [volume, volume, turned, flat, folded],
}  # fmt: skip
FREE: list[Step] = [  # a length that is not known stays what it is, or goes
    recurrent,
    dense,
    attention,
    join,
    lambda g, x: L.Conv1D(4, 3, padding="same")(x),
    lambda g, x: L.GlobalAveragePooling1D()(x),
    lambda g, x: L.Activation("tanh")(x),
]
SHRINK: dict[int, list[Step]] = {
    2: [dense], 3: [lambda g, x: L.GlobalMaxPooling1D()(x), lambda g, x: L.LSTM(3)(x)], 4: [lambda g,
    x: L.GlobalMaxPooling2D()(x)],
    5: [lambda g, x: L.GlobalMaxPooling3D()(x)],
}  # fmt: skip
