"""Locally connected layers: a kernel of its own at every position.

    Keras 1, 2  implementation 1  kernel "position (length in) out"; patches are (height width in), and
                                  (in height width) with channels first; bias "length out"
                implementation 2  kernel "in_position.. in position.. out" (channels first: channels before),
                                  dense, of which only what a window sees is used
                implementation 3  kernel "entry": only that, in the order of (output, input) pairs

With channels first, Keras adds the bias *reshaped* to (out, height, width), not transposed: its bytes mean that.
Sources: keras/layers/local.py (1.2.2, 2.2.4), keras/src/layers/locally_connected (2.15), K.bias_add (2.2.4).
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wexport.features import SPATIAL, Value
from wexport.layers.conv import channels_last, mapped, rank_of, restored, spatial, spatial_attributes, window_length
from wexport.layers.keras import Keras, Slot, Stored, keras, rule
from wexport.layers.numerics import windows
from wexport.layers.registry import ACTIVATION, FORMAT, INT, INTS, PADDING, Flow, computes, equations, flow, kind
from wexport.layers.step import Step, Terms
from wexport.layout import Refold

Array = NDArray[Any]

kind(
    "locally_connected", filters=INT, kernel_size=INTS, strides=INTS, padding=PADDING, data_format=FORMAT,
    implementation=INT, activation=ACTIVATION,
)  # fmt: skip


@keras("LocallyConnected1D", "LocallyConnected2D")
def _local(layer: Keras) -> Stored:
    n = rank_of(layer)
    attributes = spatial_attributes(layer)
    attributes.pop("dilation")
    attributes["padding"] = str(layer.get("padding", "border_mode", default="valid"))  # Keras' own, on any backend
    attributes["filters"] = layer.integer("filters", "nb_filter")
    attributes["implementation"] = layer.integer("implementation") if layer.get("implementation") else 1
    first = attributes["data_format"] == "channels_first"
    space = SPATIAL[n]
    offset = " ".join(space)
    if attributes["implementation"] == 1:
        sizes = dict(zip(space, attributes["kernel_size"], strict=True))
        patch = f"(in {offset})" if first else f"({offset} in)"
        kernel = rule(f"position {patch} out -> kernel: position {offset} in out", sizes=sizes)
    elif attributes["implementation"] == 2:
        inner, outer = [f"in_{a}" for a in _places(n)], _places(n)
        stored = ["in", *inner, "out", *outer] if first else [*inner, "in", *outer, "out"]
        kernel = rule(f"{' '.join(stored)} -> kernel: {' '.join([*inner, 'in', *outer, 'out'])}")
    else:
        kernel = rule("entry -> kernel: entry")
    old = layer.era.major == 1
    slots = [Slot("W" if old else "kernel", kernel)]
    if layer.flag("use_bias", "bias", default=True):
        axes = " ".join([*_places(n), "out"])
        steps = (Refold(_places(n)),) if first else ()
        slots.append(Slot("b" if old else "bias", rule(f"{axes} -> bias: {axes}", *steps)))
    return Stored("locally_connected", attributes, tuple(slots))


def _places(n: int) -> tuple[str, ...]:
    return ("position",) if n == 1 else ("position_height", "position_width")


@flow("locally_connected")
def _local_flow(f: Flow) -> Mapping[str, Value]:
    a = f.attributes
    if f.x.shape is None:
        return {"y": f.source(None)}
    of = zip(spatial(f.x, a), a["kernel_size"], a["strides"], strict=True)
    return mapped(f, a["filters"], [window_length(n, k, s, a["padding"]) for n, k, s in of])


@equations("locally_connected")
def _local_equations(terms: Terms) -> list[str]:
    product = f"local_conv(x, {terms.ref('kernel')}){terms.plus('bias')}"
    return [f"y = {terms.activation('activation', product)}"]


@computes("locally_connected")
def _compute_local(step: Step) -> Array:
    a = step.attributes
    x = channels_last(step)
    if a["implementation"] == 1:
        kernel = step.weight("kernel")
        n = len(a["kernel_size"])
        seen = windows(x, a["kernel_size"], a["strides"], [1] * n)
        flat = seen.reshape(len(x), kernel.shape[0], -1)
        y = np.einsum("bpi,pio->bpo", flat, kernel.reshape(kernel.shape[0], -1, kernel.shape[-1]))
        y = y.reshape(*seen.shape[: 1 + n], -1)
    else:
        y = _by_matrix(step, x)
    return step.activate("activation", restored(step, step.bias(y, "bias")))


def _by_matrix(step: Step, x: Array) -> Array:
    a = step.attributes
    sizes, filters = x.shape[1:-1], a["filters"]
    lengths = [
        window_length(n, k, s, a["padding"]) or 0 for n, k, s in zip(sizes, a["kernel_size"], a["strides"], strict=True)
    ]
    matrix = np.zeros((*sizes, x.shape[-1], *lengths, filters))
    if a["implementation"] == 2:
        mask = np.zeros((*sizes, *lengths), dtype=bool)
        for inside, outside in _pairs(sizes, lengths, a):
            mask[(*inside, *outside)] = True
        n = len(sizes)
        matrix = step.weight("kernel") * np.expand_dims(np.expand_dims(mask, n), -1)
    else:
        entries = sorted(_entries(sizes, lengths, x.shape[-1], filters, a))
        values = iter(step.weight("kernel"))
        for _, _, inside, outside in entries:
            matrix[(*inside, *outside)] = next(values)
    n = len(sizes) + 1
    return np.tensordot(x, matrix, (list(range(1, n + 1)), list(range(n))))


def _pairs(sizes: Sequence[int], lengths: Sequence[int], a: Mapping[str, Any]) -> Any:
    for outside in itertools.product(*(range(n) for n in lengths)):
        ranges = []
        for place, n, k, s in zip(outside, sizes, a["kernel_size"], a["strides"], strict=True):
            left = k // 2
            center = place * s + (left if a["padding"] == "valid" else 0)
            ranges.append(range(max(0, center - left), min(n, center + k - left)))
        for inside in itertools.product(*ranges):
            yield inside, outside


def _entries(sizes: Sequence[int], lengths: Sequence[int], channels: int, filters: int, a: Mapping[str, Any]) -> Any:
    first = a["data_format"] == "channels_first"
    for inside, outside in _pairs(sizes, lengths, a):
        for i, o in itertools.product(range(channels), range(filters)):
            out = np.ravel_multi_index(
                (o, *outside) if first else (*outside, o), (filters, *lengths) if first else (*lengths, filters)
            )
            inner = np.ravel_multi_index(
                (i, *inside) if first else (*inside, i), (channels, *sizes) if first else (*sizes, channels)
            )
            yield int(out), int(inner), (*inside, i), (*outside, o)
