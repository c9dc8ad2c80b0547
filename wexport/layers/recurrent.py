"""Recurrent layers: LSTM, GRU, simple RNN, stacks of cells, and both directions.

    Keras 2, 3   kernel "in (gate unit)", recurrent "hidden (gate unit)", bias "(gate unit)"
                 LSTM gates input forget cell output; GRU gates update reset candidate; GRU with reset_after:
                 bias "bias (gate unit)", the second row is the recurrent bias
    ONNX         `layers/onnx/recurrent.py`; the directions are an axis of y and of the states (merge_mode `stack`)
    CuDNN        the same shapes, but each gate's block is flattened with its rows fastest (`Refold`);
                 bias "(bias gate unit)"
    Keras 1      LSTM twelve arrays (i, c, f, o) x (W, U, b), GRU nine (z, r, h); three with consume_less="gpu"

A layer whose class and bias disagree (weights of a CuDNN layer under an LSTM's config, or the reverse) is read
by its bias, as Keras' own loader does. Refused: cells of a class that is not Keras' own.
Sources: keras/src/layers/rnn (3.15.1); keras/engine/saving.py, _convert_rnn_weights (2.2.4);
keras/layers/recurrent.py (1.2.2); Hochreiter & Schmidhuber 1997, Gers et al. 2000, Cho et al. 2014.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wexport.features import Dim, Value
from wexport.layers import computed
from wexport.layers.activation import activation
from wexport.layers.keras import Keras, Ruling, Shapes, Slot, Stored, keras, rule, stored, unknown
from wexport.layers.quantized import rounded_input
from wexport.layers.registry import (
    ACTIVATION,
    ANY,
    BOOL,
    INT,
    NUMBER,
    TEXT,
    Flow,
    computes,
    flow,
    kind,
    optional,
)  # fmt: skip
from wexport.layers.step import Step
from wexport.layout import Refold, Rule
from wexport.model import Json

Array = NDArray[Any]

GATES = {"lstm": ("input", "forget", "cell", "output"), "gru": ("update", "reset", "candidate")}
_OLD = {
    "lstm": {"i": "input", "c": "cell", "f": "forget", "o": "output"},
    "gru": {"z": "update", "r": "reset", "h": "candidate"},
}
BIASES = ("bias", "recurrent_bias")
STATES = {"lstm": ("state_h", "state_c"), "gru": ("state_h",), "rnn": ("state_h",), "conv_lstm": ("state_h", "state_c")}
_CLASSES = {"LSTM": "lstm", "GRU": "gru", "SimpleRNN": "rnn", "CuDNNLSTM": "lstm", "CuDNNGRU": "gru"}
_CELLS = {"LSTMCell": "lstm", "GRUCell": "gru", "SimpleRNNCell": "rnn"}


def last_axis(_: Mapping[str, Any]) -> int:
    """The kernel reads x's last axis."""
    return -1


_SEQUENCE: dict[str, Json] = {
    "return_sequences": BOOL, "return_state": BOOL, "go_backwards": BOOL, "masked_output": TEXT, "axes": ANY,
}  # fmt: skip
_WRAPPED: dict[str, Json] = {"direction": TEXT, "merge_mode": optional(TEXT), "backward": ANY}
_CELL: dict[str, Json] = {"units": INT, "activation": ACTIVATION}
# the inputs of all activations between -clip and clip; the forget gate is one minus the input gate; weights that are
# arguments (`computed.py`)
_WRAPPED |= {"clip": NUMBER, "computed": ANY}
_LSTM: dict[str, Json] = {**_WRAPPED, "coupled": BOOL, "output_activation": ACTIVATION}
kind("rnn", feature_axis=last_axis, maybe=_WRAPPED, **_CELL, **_SEQUENCE)
kind("lstm", feature_axis=last_axis, maybe=_LSTM, recurrent_activation=ACTIVATION, **_CELL, **_SEQUENCE)
kind(
    "gru",
    feature_axis=last_axis,
    maybe=_WRAPPED,
    recurrent_activation=ACTIVATION,
    reset_after=BOOL,
    **_CELL,
    **_SEQUENCE,
)
kind("cell_step", feature_axis=last_axis, cell=ANY)
kind("stacked_rnn", feature_axis=last_axis, maybe=_WRAPPED, cells=ANY, state_order=ANY, **_SEQUENCE)


# -- how Keras stores a cell -------------------------------------------------------------------------------------------


def _cell(layer: Keras, what: str, cudnn: bool = False) -> tuple[dict[str, Json], tuple[Slot, ...]]:
    """A cell's attributes and variables."""
    attributes: dict[str, Json] = {"units": layer.integer("units", "output_dim")}
    attributes["activation"] = activation(layer, "activation", default="tanh")
    if what != "rnn":
        default = (
            "sigmoid" if cudnn or layer.era.major > 2 or (layer.era.tf and layer.era.since(2, 3)) else "hard_sigmoid"
        )
        attributes["recurrent_activation"] = activation(
            layer, "recurrent_activation", "inner_activation", default=default
        )
    if what == "gru":
        attributes["reset_after"] = cudnn or layer.flag("reset_after", default=False)
    if layer.era.major == 1:
        return attributes, _old_slots(layer, what)
    slots = [
        Slot("kernel", _block("in", "kernel", what, cudnn), splits=True),
        Slot("recurrent_kernel", _block("hidden", "recurrent", what, cudnn)),
    ]
    if cudnn or layer.flag("use_bias", default=True):
        slots.append(Slot("bias", _bias(what, attributes.get("reset_after", False))))
    return attributes, tuple(slots)


def _block(axis: str, role: str, what: str, cudnn: bool) -> Ruling:
    if what == "rnn":
        return rule(f"{axis} unit -> {role}: {axis} unit")
    plain = rule(f"{axis} (gate unit) -> {{gate}}.{role}: {axis} unit", gate=GATES[what])

    def make(shape: tuple[int, ...], shapes: Shapes) -> Rule:
        bias = shapes.get("bias")
        folded = cudnn if bias is None else _is_cudnn_bias(bias, shapes["recurrent_kernel"][0], what)
        return plain.with_steps(Refold((axis,))) if folded else plain

    return make


def _is_cudnn_bias(bias: tuple[int, ...], units: int, what: str) -> bool:
    return bias == (2 * len(GATES[what]) * units,)


def _bias(what: str, reset_after: bool) -> Ruling:
    if what == "rnn":
        return rule("unit -> bias: unit")
    gates = GATES[what]

    def make(shape: tuple[int, ...], shapes: Shapes) -> Rule:
        units = shapes["recurrent_kernel"][0]
        if _is_cudnn_bias(shape, units, what):
            return rule("(bias gate unit) -> {gate}.{bias}: unit", gate=gates, bias=BIASES)
        if len(shape) == 2:
            return rule("bias (gate unit) -> {gate}.{bias}: unit", gate=gates, bias=BIASES)
        return rule("(gate unit) -> {gate}.bias: unit", gate=gates)

    return make


def _old_slots(layer: Keras, what: str) -> tuple[Slot, ...]:
    """Keras 1: an array for each gate, or one for all with consume_less="gpu"."""
    parts = {"W": ("in unit", "kernel", "in (gate unit)"), "U": ("hidden unit", "recurrent", "hidden (gate unit)")}
    parts["b"] = ("unit", "bias", "(gate unit)")
    if what == "rnn":
        return tuple(
            Slot(n, rule(f"{axes} -> {role}: {axes}"), splits=n == "W") for n, (axes, role, _) in parts.items()
        )
    if layer.get("consume_less") == "gpu":
        return tuple(
            Slot(n, rule(f"{fused} -> {{gate}}.{role}: {axes}", gate=GATES[what]), splits=n == "W")
            for n, (axes, role, fused) in parts.items()
        )
    return tuple(
        Slot(f"{n}_{letter}", rule(f"{axes} -> {{gate}}.{role}: {axes}", at={"gate": gate}), splits=n == "W")
        for letter, gate in _OLD[what].items()
        for n, (axes, role, _) in parts.items()
    )


def _sequence(layer: Keras) -> dict[str, Json]:
    """What a layer does with its cell, step by step."""
    era = layer.era
    masked = "previous"
    if layer.flag("zero_output_for_mask", default=False):
        masked = "zero"
    elif era.major <= 2 and not era.tf and not era.theano and not era.since(2, 3):
        masked = "state"  # K.rnn of the TensorFlow backend repeats the first state, not the output
    sequences = layer.flag("return_sequences", default=False)
    time = layer.flag("time_major", default=False)
    order = ["length", "batch"] if time else ["batch", "length"]
    return {
        "return_sequences": sequences,
        "return_state": layer.flag("return_state", default=False),
        "go_backwards": layer.flag("go_backwards", default=False),
        "masked_output": masked,
        "axes": {"x": [*order, "channel"], "y": [*order, "channel"] if sequences else ["batch", "channel"]},
    }


@keras(*_CLASSES)
def _layer(layer: Keras) -> Stored:
    what = _CLASSES[layer.class_name]
    cudnn = layer.class_name.startswith("CuDNN")
    attributes, slots = _cell(layer, what, cudnn)
    if not cudnn:
        slots = tuple(s.below("cell") for s in slots)
    sequence = _sequence(layer)
    roles = ("y", *STATES[what]) if sequence["return_state"] else ("y",)
    return Stored(
        what, {**attributes, **sequence}, slots, ("x", "initial_state*"), roles,
        mask="stop" if cudnn else "sequence", takes_mask=not cudnn,
    )  # fmt: skip


def _inner_cell(layer: Keras) -> Stored | None:
    """The cell of another layer; None if its class is not Keras' own."""
    if layer.class_name not in _CELLS or not layer.known_class:
        return None
    what = _CELLS[layer.class_name]
    attributes, slots = _cell(layer, what)
    return Stored(what, attributes, slots)


@keras(*_CELLS)
def _bare_cell(layer: Keras) -> Stored:
    """A cell that is called itself: one step."""
    what = _CELLS[layer.class_name]
    attributes, slots = _cell(layer, what)
    cell = {"kind": what, **attributes}
    return Stored("cell_step", {"cell": cell}, slots, ("x", "initial_state*"), ("y", *STATES[what]))


@keras("RNN")
def _rnn(layer: Keras) -> Stored:
    found = layer.need("cell")
    inner = layer.child(found)
    if inner.class_name == "StackedRNNCells" and inner.known_class:
        return _stacked(layer, inner)
    cell = _inner_cell(inner)
    if cell is None:
        return replace(unknown(layer), slots=())
    sequence = _sequence(layer)
    roles = ("y", *STATES[cell.kind]) if sequence["return_state"] else ("y",)
    slots = tuple(s.below("cell") for s in cell.slots)
    attributes = {**cell.attributes, **sequence}
    return Stored(cell.kind, attributes, slots, ("x", "initial_state*"), roles, mask="sequence", takes_mask=True)


def _stacked(layer: Keras, inner: Keras) -> Stored:
    children = [layer.child(c) for c in inner.need("cells")]
    cells = [cell for c in children if (cell := _inner_cell(c)) is not None]
    if len(cells) < len(children):
        return unknown(layer)
    slots: list[Slot] = []
    seen: dict[str, int] = {}
    for number, (cell, child) in enumerate(zip(cells, children, strict=True)):
        word = {"lstm": "lstm_cell", "gru": "gru_cell", "rnn": "simple_rnn_cell"}[cell.kind]
        count = seen.get(child.class_name, 0)
        seen[child.class_name] = count + 1
        path = f"cell/cells/{word}{f'_{count}' if count else ''}"
        label = str(number)
        for slot in cell.slots:  # only the first cell reads x
            inner_slot = replace(slot, splits=slot.splits and number == 0)
            slots.append(inner_slot.below(path).mapped(lambda r, label=label: r.prefixed("cell", label)))  # type: ignore[misc]
    order = [f"{i}.{state}" for i, cell in enumerate(cells) for state in STATES[cell.kind]]
    old = layer.era.major == 2 and not layer.era.tf and bool(layer.era.version) and not layer.era.since(2, 2)
    if inner.get("reverse_state_order", default=old):
        order = [f"{i}.{state}" for i, cell in reversed(list(enumerate(cells))) for state in STATES[cell.kind]]
    sequence = _sequence(layer)
    attributes: dict[str, Json] = {
        "cells": [{"kind": c.kind, **c.attributes} for c in cells],
        "state_order": order,
        **sequence,
    }
    roles = ("y", *order) if sequence["return_state"] else ("y",)
    return Stored(
        "stacked_rnn", attributes, tuple(slots), ("x", "initial_state*"), roles, mask="sequence", takes_mask=True
    )


# -- both directions ---------------------------------------------------------------------------------------------------


@keras("Bidirectional")
def _bidirectional(layer: Keras) -> Stored:
    front = layer.child(layer.need("layer"))
    one = stored(front)
    given = layer.get("backward_layer")
    if given is None:
        back = replace(front, config={**front.config, "go_backwards": not front.flag("go_backwards", default=False)})
    else:
        back = layer.child(given)
    two = stored(back)
    if not (one.known and two.known and "return_sequences" in one.attributes and one.kind == two.kind):
        return unknown(layer)
    attributes = dict(one.attributes)
    forced = layer.era.tf or layer.era.major > 2  # wrappers.py: force_zero_output_for_mask
    if forced:
        attributes["masked_output"] = "zero" if attributes["return_sequences"] else "previous"
    theirs = {**two.attributes, "masked_output": attributes["masked_output"]}
    attributes["direction"] = "bidirectional"
    attributes["merge_mode"] = layer.get("merge_mode")
    attributes["backward"] = {k: v for k, v in theirs.items() if attributes.get(k) != v}
    slots = [s.below("forward_layer").mapped(lambda r: r.prefixed("direction", "forward")) for s in one.slots]
    slots += [s.below("backward_layer").mapped(lambda r: r.prefixed("direction", "backward")) for s in two.slots]
    roles: tuple[str, ...] = ("y",) if attributes["merge_mode"] else ("y", "y_backward")
    if attributes["return_state"]:
        roles += tuple(f"{d}.{r}" for d in ("forward", "backward") for r in one.roles[1:])
    return Stored(one.kind, attributes, tuple(slots), one.call, roles, one.mask, one.takes_mask)


# -- shapes ------------------------------------------------------------------------------------------------------------


def sequence_flow(f: Flow, units: int, states: list[tuple[str, int]]) -> Mapping[str, Value]:
    """The outputs of a layer that runs along x's steps."""
    a = f.attributes
    steps: tuple[Dim, ...] = (f.x.shape or (None, None))[:2]
    batch = (steps[a["axes"]["x"].index("batch")],) if len(steps) > 1 else steps
    both = a.get("direction") == "bidirectional"
    last = 2 * units if both and a["merge_mode"] == "concat" else units
    lead = steps if a["return_sequences"] else batch
    found = {"y": f.source((*lead, last), "y", channel=-1)}
    if both and a["merge_mode"] is None:
        found["y_backward"] = f.source((*lead, units), "y_backward", channel=-1)
    if a["return_state"]:
        for direction in ("forward.", "backward.") if both else ("",):
            for role, n in states:
                found[direction + role] = f.source((*batch, n), direction + role, channel=-1)
    return found


@flow("lstm", "gru", "rnn")
def _cell_flow(f: Flow) -> Mapping[str, Value]:
    a = f.attributes
    what = "lstm" if "recurrent_activation" in a and "reset_after" not in a else "gru"
    if a.get("merge_mode") == "stack":
        return _directed_flow(f, STATES[what])
    return sequence_flow(f, a["units"], [(s, a["units"]) for s in STATES[what]])


def _directed_flow(f: Flow, states: Sequence[str]) -> Mapping[str, Value]:
    """Outputs whose directions are an axis."""
    a, shape = f.attributes, f.x.shape
    sizes: dict[str, Dim] = dict.fromkeys(a["axes"]["x"])
    if shape is not None and len(shape) == len(sizes):
        sizes = dict(zip(sizes, shape, strict=True))
    sizes |= {"direction": 2 if a["direction"] == "bidirectional" else 1, "channel": a["units"]}
    axes = {"y": a["axes"]["y"], **dict.fromkeys(states, a["axes"]["state"])}
    return {role: f.source([sizes[word] for word in words], role, axes=words) for role, words in axes.items()}


@flow("cell_step")
def _step_flow(f: Flow) -> Mapping[str, Value]:
    cell = f.attributes["cell"]
    lead = (f.x.shape or (None,))[:-1]
    return {role: f.source((*lead, cell["units"]), role, channel=-1) for role in ("y", *STATES[cell["kind"]])}


@flow("stacked_rnn")
def _stacked_flow(f: Flow) -> Mapping[str, Value]:
    cells = f.attributes["cells"]
    states = [(role, cells[int(role.split(".")[0])]["units"]) for role in f.attributes["state_order"]]
    return sequence_flow(f, cells[-1]["units"], states)


# -- computing ---------------------------------------------------------------------------------------------------------


def kind_of_cell(attributes: Mapping[str, Any]) -> str:
    """Which cell has these attributes."""
    if "reset_after" in attributes:
        return "gru"
    return "lstm" if "recurrent_activation" in attributes else "rnn"


class Cell:
    """A cell's weights, put together once, and its step: `(x, states) -> states`; the first state is the output."""

    def __init__(self, step: Step, attributes: Mapping[str, Any]) -> None:
        self.a, self.step, self.what = attributes, step, kind_of_cell(attributes)
        gates = GATES.get(self.what, ("",))
        prefix = {g: f"{g}." if g else "" for g in gates}
        self.kernel = {g: step.kernel(f"{p}kernel") for g, p in prefix.items()}
        self.recurrent = {g: step.weight(f"{p}recurrent") for g, p in prefix.items()}
        self.bias = {g: step.get(f"{p}bias") for g, p in prefix.items()}
        self.second = {g: step.get(f"{p}recurrent_bias") for g, p in prefix.items()}
        self.peephole = {g: step.get(f"{p}peephole") for g, p in prefix.items()}
        self.units = next(iter(self.recurrent.values())).shape[-1]
        self.states = len(STATES[self.what])

    def _term(self, gate: str, x: Array, h: Array) -> Array:
        return self._x(gate, x) + self._h(gate, h)

    def _x(self, gate: str, x: Array) -> Array:
        bias = self.bias[gate]
        return x @ self.kernel[gate] + (0 if bias is None else bias)

    def _h(self, gate: str, h: Array) -> Array:
        bias = self.second[gate]
        return rounded_input(self.step, h) @ self.recurrent[gate] + (0 if bias is None else bias)

    def _act(self, key: str, x: Array) -> Array:
        clip = self.a.get("clip")
        return Step(self.a, {}, {}).activate(key, x if clip is None else np.clip(x, -clip, clip))

    def _gate(self, gate: str, x: Array, h: Array, c: Array) -> Array:
        peephole = self.peephole[gate]
        return self._act("recurrent_activation", self._term(gate, x, h) + (0 if peephole is None else peephole * c))

    def __call__(self, x: Array, states: list[Array]) -> list[Array]:
        """The states after a step of x, `[batch, in]`; the first of them is the output."""
        h = states[0]
        if self.what == "rnn":
            return [self._act("activation", self._term("", x, h))]
        if self.what == "gru":
            z = self._act("recurrent_activation", self._term("update", x, h))
            r = self._act("recurrent_activation", self._term("reset", x, h))
            inner = r * self._h("candidate", h) if self.a["reset_after"] else self._h("candidate", r * h)
            return [z * h + (1 - z) * self._act("activation", self._x("candidate", x) + inner)]
        i = self._gate("input", x, h, states[1])
        f = 1 - i if self.a.get("coupled") else self._gate("forget", x, h, states[1])
        c = f * states[1] + i * self._act("activation", self._term("cell", x, h))
        last = "output_activation" if "output_activation" in self.a else "activation"
        return [self._gate("output", x, h, c) * Step(self.a, {}, {}).activate(last, c), c]


class Stack:
    """Several cells, each fed by the one before; their states in order, the last cell's output."""

    def __init__(self, step: Step, attributes: Mapping[str, Any]) -> None:
        reads = [step.attributes.get("reads")] + [None] * (len(attributes["cells"]) - 1)
        own = [{**c, "reads": r} for c, r in zip(attributes["cells"], reads, strict=True)]
        self.cells = [Cell(step.below(str(i), c), c) for i, c in enumerate(own)]
        self.order = attributes["state_order"]
        names = [f"{i}.{s}" for i, c in enumerate(self.cells) for s in STATES[c.what]]
        self.place = [names.index(n) for n in self.order]

    def zeros(self, batch: int) -> list[Array]:
        """States to begin with, `[batch, unit]` each."""
        sizes = [c.units for c in self.cells for _ in range(c.states)]
        return [np.zeros((batch, sizes[i])) for i in self.place]

    def __call__(self, x: Array, states: list[Array]) -> tuple[Array, list[Array]]:
        """The output of a step of x, `[batch, in]`, and the states after it."""
        inner = [states[self.place.index(i)] for i in range(len(states))]
        result: list[Array] = []
        for cell in self.cells:
            new = cell(x, inner[len(result) : len(result) + cell.states])
            result += new
            x = new[0]
        return x, [result[i] for i in self.place]


def run(
    step: Step, attributes: Mapping[str, Any], x: Array, advance: Any, states: list[Array], mask: Array | None
) -> tuple[Array, list[Array]]:
    """Run along the first axis behind the batch; `advance(x, states)` gives the output and the new states.

    Returns the output (of all steps or of the last) and the last states.
    """
    steps = list(range(x.shape[1]))
    if attributes["go_backwards"]:
        steps.reverse()
    how = attributes["masked_output"]
    outputs: list[Array] = []
    for t in steps:
        y, new = advance(x[:, t], states)
        if mask is not None:
            m = mask[:, t].reshape((-1,) + (1,) * (y.ndim - 1)).astype(bool)
            before = states[0] if how == "state" else outputs[-1] if outputs and how != "zero" else np.zeros_like(y)
            y = np.where(m, y, before)
            new = [np.where(m.reshape((-1,) + (1,) * (n.ndim - 1)), n, s) for n, s in zip(new, states, strict=True)]
        outputs.append(y)
        states = new
    return np.stack(outputs, axis=1) if attributes["return_sequences"] else outputs[-1], states


def both(step: Step, one: Any) -> dict[str, Array]:
    """A layer's outputs by role, from `one(step, attributes, initial states) -> y, {role: state}`."""
    a = step.attributes
    given = step.args.get("initial_state")
    initial = None if given is None else [given] if not isinstance(given, tuple) else list(given)
    if a.get("direction") != "bidirectional":
        y, states = one(step, a, initial)
        return {"y": y, **states}
    half = None if initial is None else len(initial) // 2
    found: dict[str, Array] = {}
    ys = []
    none: Mapping[str, Json] = {}
    for name, theirs in (("forward", none), ("backward", a["backward"])):
        own = {**a, **theirs}
        mine = None if initial is None else (initial[:half] if name == "forward" else initial[half:])
        y, states = one(step.below(name, own), own, mine)
        ys.append(np.flip(y, a["axes"]["y"][0] == "batch") if name == "backward" and a["return_sequences"] else y)
        found |= {f"{name}.{role}": s for role, s in states.items()}
    merge = {"sum": lambda p, q: p + q, "mul": lambda p, q: p * q, "ave": lambda p, q: (p + q) / 2}
    merge["concat"] = lambda p, q: np.concatenate([p, q], axis=-1)
    if a["merge_mode"] is None:
        return {"y": ys[0], "y_backward": ys[1], **found}
    return {"y": merge[a["merge_mode"]](*ys), **found}


def batch_first(step: Step) -> Array:
    """x with the batch before the steps."""
    return step.x if step.attributes["axes"]["x"][0] == "batch" else np.swapaxes(step.x, 0, 1)


def batch_first_mask(step: Step) -> Array | None:
    """The mask of x's steps, with the batch before them."""
    mask = step.args.get("mask")
    return mask if mask is None or step.attributes["axes"]["x"][0] == "batch" else np.swapaxes(mask, 0, 1)


def _as_stated(a: Mapping[str, Any], y: Array) -> Array:
    """y with its axes in the order that the layer has them."""
    return np.swapaxes(y, 0, 1) if a["return_sequences"] and a["axes"]["y"][0] != "batch" else y


def _directions(step: Step) -> dict[str, Array]:
    """A layer whose directions are an axis of y and of the states; sequences end at their own `lengths`."""
    a = step.attributes
    step = replace(step, tensors={**step.tensors, **computed.tensors(a.get("computed") or {}, step.args)})
    x, axes = rounded_input(step, batch_first(step)), a["axes"]
    first = step.args.get("initial_state") or ()
    order = [axes["state"].index(word) for word in ("direction", "batch", "channel")]
    initial = [None if s is None else np.transpose(s, order) for s in (first if isinstance(first, tuple) else (first,))]
    runs = [(step, a)]
    if a["direction"] == "bidirectional":
        back = {**a, **a["backward"]}
        runs = [(step.below("forward"), a), (step.below("backward", back), back)]
    ys, states = [], []
    for i, (inner, own) in enumerate(runs):
        cell = Cell(inner, own)
        zeros = [np.zeros((len(x), cell.units)) for _ in range(cell.states)]
        begin = [z if s is None else s[i] for z, s in zip(zeros, initial, strict=True)] if initial else zeros
        y, last = _run_each(cell, x, begin, step.args.get("lengths"), own["go_backwards"])
        ys.append(y)
        states.append(last)
    found = {"y": _ordered(np.stack(ys), ("direction", "batch", "length", "channel"), axes["y"])}
    for role, parts in zip(STATES[cell.what], zip(*states, strict=True), strict=True):
        found[role] = _ordered(np.stack(parts), ("direction", "batch", "channel"), axes["state"])
    return found


def _ordered(x: Array, axes: Sequence[str], wanted: Sequence[str]) -> Array:
    return np.transpose(x, [axes.index(word) for word in wanted])


def _run_each(cell: Cell, x: Array, states: list[Array], lengths: Any, backwards: bool) -> tuple[Array, list[Array]]:
    """Run over sequences `[batch, length, in]`, each as far as it goes; backwards from its own end.

    Behind its end a sequence's y is zero, and its states stay.
    """
    batch, steps = x.shape[:2]
    rows = np.arange(batch)
    ends = np.full(batch, steps) if lengths is None else np.asarray(lengths).astype(int)
    y = np.zeros((batch, steps, cell.units))
    for t in range(steps):
        alive = t < ends
        place = np.where(alive & backwards, ends - 1 - t, t)
        new = cell(x[rows, place], states)
        states = [np.where(alive[:, None], n, s) for n, s in zip(new, states, strict=True)]
        y[rows, place] = np.where(alive[:, None], new[0], 0)
    return y, states


@computes("lstm", "gru", "rnn")
def _compute_cell(step: Step) -> dict[str, Array]:
    if step.attributes.get("merge_mode") == "stack":
        return _directions(step)

    def one(inner: Step, a: Mapping[str, Any], initial: list[Array] | None) -> tuple[Array, dict[str, Array]]:
        cell = Cell(inner, a)
        x = batch_first(inner)
        states = initial or [np.zeros((len(x), cell.units)) for _ in range(cell.states)]

        def advance(v: Array, s: list[Array]) -> tuple[Array, list[Array]]:
            new = cell(v, s)
            return new[0], new

        y, last = run(inner, a, x, advance, states, batch_first_mask(step))
        return _as_stated(a, y), dict(zip(STATES[cell.what], last, strict=True))

    return both(step, one)


@computes("stacked_rnn")
def _compute_stacked(step: Step) -> dict[str, Array]:
    def one(inner: Step, a: Mapping[str, Any], initial: list[Array] | None) -> tuple[Array, dict[str, Array]]:
        stack = Stack(inner, a)
        x = batch_first(inner)
        y, last = run(inner, a, x, stack, initial or stack.zeros(len(x)), batch_first_mask(step))
        return _as_stated(a, y), dict(zip(stack.order, last, strict=True))

    return both(step, one)


@computes("cell_step")
def _compute_step(step: Step) -> dict[str, Array]:
    a = {**step.attributes["cell"], "reads": step.attributes.get("reads")}
    given = step.args["initial_state"]
    states = Cell(step, a)(step.x, list(given) if isinstance(given, tuple) else [given])
    return {"y": states[0], **dict(zip(STATES[a["kind"]], states, strict=True))}
