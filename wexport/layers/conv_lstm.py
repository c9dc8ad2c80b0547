"""ConvLSTM: an LSTM whose products are convolutions (Shi et al. 2015).

    Keras 2, 3   kernel "height width in (gate unit)", recurrent "height width hidden (gate unit)", bias "(gate unit)"
    Keras 1      twelve arrays (i, c, f, o) x (W, U, b): "height width in unit", or "unit in height width" with `th`

The convolution of x has the layer's strides, padding and dilation; that of the state is always `same`.
Sources: keras/src/layers/rnn/conv_lstm.py (3.15.1); keras/layers/convolutional_recurrent.py (1.2.2, 2.2.4).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wexport.features import SPATIAL, Dim, Value, drop_axis
from wexport.layers.activation import activation
from wexport.layers.conv import each_axis, padding_of, rank_of, spatial, spatial_attributes, window_length
from wexport.layers.keras import Keras, Slot, Stored, keras, rule
from wexport.layers.numerics import conv
from wexport.layers.recurrent import GATES, STATES, both, run
from wexport.layers.recurrent_equations import Cells, directed
from wexport.layers.registry import (
    ACTIVATION,
    ANY,
    BOOL,
    FORMAT,
    INT,
    INTS,
    PADDING,
    TEXT,
    Flow,
    computes,
    equations,
    flow,
    kind,
    optional,
)
from wexport.layers.step import Step, Terms
from wexport.layout import Flip

Array = NDArray[Any]


def _channels(attributes: Mapping[str, Any]) -> int:
    return 2 if attributes["data_format"] == "channels_first" else -1


kind(
    "conv_lstm", feature_axis=_channels, maybe={"direction": TEXT, "merge_mode": optional(TEXT), "backward": ANY},
    units=INT, kernel_size=INTS, strides=INTS, padding=PADDING, recurrent_padding=PADDING, dilation=INTS,
    data_format=FORMAT, activation=ACTIVATION, recurrent_activation=ACTIVATION, return_sequences=BOOL,
    return_state=BOOL, go_backwards=BOOL, masked_output=TEXT, axes=ANY,
)  # fmt: skip


@keras("ConvLSTM1D", "ConvLSTM2D", "ConvLSTM3D", "ConvRecurrent2D")
def _conv_lstm(layer: Keras) -> Stored:
    n = rank_of(layer)
    space = SPATIAL[n]
    attributes = {"units": layer.integer("filters", "nb_filter"), **spatial_attributes(layer)}
    attributes["activation"] = activation(layer, "activation", default="tanh")
    default = "sigmoid" if layer.era.major > 2 else "hard_sigmoid"
    attributes["recurrent_activation"] = activation(layer, "recurrent_activation", "inner_activation", default=default)
    sequences = layer.flag("return_sequences", default=False)
    ones = [1] * n
    state = replace(layer, config={"padding": "same"})
    attributes["recurrent_padding"] = padding_of(state, attributes["kernel_size"], ones, ones)
    inner = list(space)
    inner.insert(0 if attributes["data_format"] == "channels_first" else n, "channel")
    attributes |= {
        "return_sequences": sequences,
        "return_state": layer.flag("return_state", default=False),
        "go_backwards": layer.flag("go_backwards", default=False),
        "masked_output": "state" if layer.era.major < 3 and not layer.era.tf else "previous",
        "axes": {"x": ["batch", "time", *inner], "y": ["batch", *(["time"] if sequences else []), *inner]},
    }
    slots = _old_slots(layer, attributes) if layer.era.major == 1 else _slots(layer, space)
    roles = ("y", *STATES["conv_lstm"]) if attributes["return_state"] else ("y",)
    return Stored("conv_lstm", attributes, slots, ("x", "initial_state*"), roles, mask="sequence", takes_mask=True)


def _slots(layer: Keras, space: tuple[str, ...]) -> tuple[Slot, ...]:
    axes, gates = " ".join(space), GATES["lstm"]
    flips = (Flip(space),) if layer.era.theano else ()
    slots = [
        Slot(
            "kernel", rule(f"{axes} in (gate unit) -> {{gate}}.kernel: {axes} in unit", *flips, gate=gates), splits=True
        ),
        Slot(
            "recurrent_kernel",
            rule(f"{axes} hidden (gate unit) -> {{gate}}.recurrent: {axes} hidden unit", *flips, gate=gates),
        ),
    ]
    if layer.flag("use_bias", default=True):
        slots.append(Slot("bias", rule("(gate unit) -> {gate}.bias: unit", gate=gates)))
    return tuple(s.below("cell") for s in slots)


def _old_slots(layer: Keras, attributes: Mapping[str, Any]) -> tuple[Slot, ...]:
    first = attributes["data_format"] == "channels_first"
    flips = (Flip(SPATIAL[2]),) if layer.era.theano else ()
    slots = []
    for letter, gate in {"i": "input", "c": "cell", "f": "forget", "o": "output"}.items():
        for name, axis, role in (("W", "in", "kernel"), ("U", "hidden", "recurrent")):
            kept = f"height width {axis} unit"
            stored = f"unit {axis} height width" if first else kept
            made = rule(f"{stored} -> {{gate}}.{role}: {kept}", *flips, at={"gate": gate})
            slots.append(Slot(f"{name}_{letter}", made, splits=name == "W"))
        slots.append(Slot(f"b_{letter}", rule("unit -> {gate}.bias: unit", at={"gate": gate})))
    return tuple(slots)


@flow("conv_lstm")
def _flow(f: Flow) -> Mapping[str, Value]:
    a = f.attributes
    both_ways = a.get("direction") == "bidirectional"
    x = drop_axis(f.x, 1) if f.x.shape else f.x
    batch, *time = (f.x.shape or (None, None))[:2]
    unknown: list[Dim] = [None] * len(a["kernel_size"])
    pads = each_axis(a["padding"], len(a["kernel_size"]))
    of = zip(spatial(x, a) if x.shape else unknown, a["kernel_size"], a["strides"], pads, a["dilation"], strict=True)
    lengths = [window_length(*item) for item in of]
    first = a["data_format"] == "channels_first"

    def shape(channels: int, *lead: Dim) -> tuple[Dim, ...]:
        return (batch, *lead, channels, *lengths) if first else (batch, *lead, *lengths, channels)

    units = 2 * a["units"] if both_ways and a["merge_mode"] == "concat" else a["units"]
    lead = time if a["return_sequences"] else ()
    channel = 1 if first else -1
    found = {"y": f.source(shape(units, *lead), channel=None if lead else channel)}
    if both_ways and a["merge_mode"] is None:
        found["y_backward"] = f.source(shape(units, *lead), "y_backward", channel=None if lead else channel)
    if a["return_state"]:
        for direction in ("forward.", "backward.") if both_ways else ("",):
            for role in STATES["conv_lstm"]:
                found[direction + role] = f.source(shape(a["units"]), direction + role, channel=channel)
    return found


@equations("conv_lstm")
def _equations(terms: Terms) -> list[str]:
    states = [(state, state[-1]) for state in STATES["conv_lstm"]]
    return directed(terms, lambda t: Cells(_lines(t), "h", states))


def _lines(terms: Terms) -> list[str]:
    def term(gate: str) -> str:
        x = terms.product(f"{gate}.kernel", "conv({x}, {w})")
        return f"{x} + state_conv(h_prev, {terms.ref(f'{gate}.recurrent')}){terms.plus(f'{gate}.bias')}"

    def gated(gate: str) -> str:
        return terms.activation("recurrent_activation", term(gate))

    return [
        f"i = {gated('input')}",
        f"f = {gated('forget')}",
        f"g = {terms.activation('activation', term('cell'))}",
        f"o = {gated('output')}",
        "c = f * c_prev + i * g",
        f"h = o * {terms.activation('activation', 'c')}",
    ]


@computes("conv_lstm")
def _compute(step: Step) -> dict[str, Array]:
    first = step.attributes["data_format"] == "channels_first"

    def last(v: Array) -> Array:
        return np.moveaxis(v, 1, -1) if first else v

    def one(inner: Step, a: Mapping[str, Any], initial: list[Array] | None) -> tuple[Array, dict[str, Array]]:
        kernel = {g: inner.kernel(f"{g}.kernel") for g in GATES["lstm"]}
        recurrent = {g: inner.weight(f"{g}.recurrent") for g in GATES["lstm"]}
        ones = [1] * len(a["kernel_size"])

        def term(gate: str, v: Array, h: Array) -> Array:
            y = inner.bias(conv(last(v), kernel[gate], a["strides"], a["padding"], a["dilation"]), f"{gate}.bias")
            y = y + conv(last(h), recurrent[gate], ones, a["recurrent_padding"], ones)
            return np.moveaxis(y, -1, 1) if first else y

        def advance(v: Array, states: list[Array]) -> tuple[Array, list[Array]]:
            h, c = states
            i, f, o = (inner.activate("recurrent_activation", term(g, v, h)) for g in ("input", "forget", "output"))
            c = f * c + i * inner.activate("activation", term("cell", v, h))
            h = o * inner.activate("activation", c)
            return h, [h, c]

        x = inner.x
        if initial is None:
            probe = conv(last(x[:, 0]), kernel["input"], a["strides"], a["padding"], a["dilation"])
            zero = np.zeros_like(np.moveaxis(probe, -1, 1) if first else probe)
            initial = [zero, zero]
        y, states = run(inner, a, x, advance, initial, step.args.get("mask"))
        return y, dict(zip(STATES["conv_lstm"], states, strict=True))

    return both(step, one)
