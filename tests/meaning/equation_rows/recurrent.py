"""Recurrent layers: masks, states, directions, stacks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from equation_rows.row import MASK, SIGMOID, TANH, Array, Row, X, f

GATES = {"lstm": ("input", "forget", "cell", "output"), "gru": ("update", "reset", "candidate"), "rnn": ("",)}
STATES = {"lstm": 2, "gru": 1, "rnn": 1}


def cell(kind: str, prefix: str = "", inner: int = 3, units: int = 4, *extra: str) -> dict[str, tuple[str, Array]]:
    found = {}
    for gate in GATES[kind]:
        name = f"{prefix}{gate}." if gate else prefix
        found[f"{name}kernel"] = ("in unit", f(inner, units))
        found[f"{name}recurrent"] = ("hidden unit", f(units, units))
        found |= {
            f"{name}{role}": ("unit", f(units)) for role in ("bias", *extra) if role != "peephole" or gate != "cell"
        }
    return found


def cell_attributes(kind: str, units: int = 4, **other: Any) -> dict[str, Any]:
    found: dict[str, Any] = {"units": units, "activation": TANH}
    if kind != "rnn":
        found["recurrent_activation"] = SIGMOID
    return {**found, **({"reset_after": False} if kind == "gru" else {}), **other}


def steps(sequences: bool = True, **other: Any) -> dict[str, Any]:
    y = ["batch", "length", "channel"] if sequences else ["batch", "channel"]
    found = {"return_sequences": sequences, "return_state": True, "go_backwards": False, "masked_output": "previous"}
    return {**found, "axes": {"x": ["batch", "length", "channel"], "y": y}, **other}


def both(mode: str | None, **other: Any) -> dict[str, Any]:
    return {"direction": "bidirectional", "merge_mode": mode, "backward": {"go_backwards": True}, **other}


def _recurrent() -> Iterator[Row]:
    for kind in GATES:
        a, tensors = cell_attributes(kind), cell(kind)
        states = tuple(f(2, 4) for _ in range(STATES[kind]))
        for masked in ("previous", "zero", "state"):
            for sequences in (True, False):
                how = steps(sequences, masked_output=masked)
                yield Row(kind, {**a, **how}, tensors, {"x": X, "mask": MASK}, note=f"masked-{masked}-{sequences}")
        how = steps(go_backwards=True)
        yield Row(
            kind, {**a, **how}, tensors, {"x": X, "initial_state": states, "mask": MASK}, note="backwards-from-states"
        )
        major = {"axes": {"x": ["length", "batch", "channel"], "y": ["length", "batch", "channel"]}}
        for mask in ({}, {"mask": MASK.T}):
            args = {"x": np.swapaxes(X, 0, 1), **mask}
            yield Row(kind, {**a, **steps(**major)}, tensors, args, note=f"time-major-{len(mask)}")
        sides = {**cell(kind, "forward."), **cell(kind, "backward.")}
        for mode in ("concat", "sum", "ave", "mul", None):
            for sequences in (True, False):
                for args in ({"x": X}, {"x": X, "mask": MASK, "initial_state": (*states, *(f(2, 4) for _ in states))}):
                    how = steps(sequences, **both(mode))
                    yield Row(kind, {**a, **how}, sides, args, note=f"{mode}-{sequences}-{len(args)}")
        how = steps(**both("concat", **major))
        yield Row(kind, {**a, **how}, sides, {"x": np.swapaxes(X, 0, 1)}, note="both-time-major")
        how = steps(**both("concat", go_backwards=True, backward={}))
        yield Row(kind, {**a, **how}, sides, {"x": X}, note="both-from-the-last")
        given = states if len(states) > 1 else states[0]
        yield Row(
            "cell_step", {"cell": {"kind": kind, **a}}, tensors, {"x": X[:, 0], "initial_state": given}, note=kind
        )
        yield Row(kind, {**a, "clip": 1.5, **steps()}, cell(kind, "", 3, 4, "recurrent_bias"), {"x": X}, note="clip")
    peepholes = cell("lstm", "", 3, 4, "peephole")
    lstm = cell_attributes("lstm", output_activation={"name": "relu"})
    yield Row("lstm", {**lstm, **steps()}, peepholes, {"x": X}, note="peepholes")
    yield Row("lstm", {**lstm, "coupled": True, **steps()}, peepholes, {"x": X}, note="coupled")
    after = cell_attributes("gru", reset_after=True)
    yield Row("gru", {**after, **steps()}, cell("gru", "", 3, 4, "recurrent_bias"), {"x": X}, note="reset-after")


def _stacked() -> Iterator[Row]:
    cells = [{"kind": "lstm", **cell_attributes("lstm")}, {"kind": "gru", **cell_attributes("gru", 2)}]
    tensors = {**cell("lstm", "0."), **cell("gru", "1.", 4, 2)}
    states = {"0.state_h": f(2, 4), "0.state_c": f(2, 4), "1.state_h": f(2, 2)}
    for order in (list(states), ["1.state_h", "0.state_h", "0.state_c"]):
        a = {"cells": cells, "state_order": order, **steps()}
        args = {"x": X, "mask": MASK, "initial_state": tuple(states[s] for s in order)}
        yield Row("stacked_rnn", a, tensors, args, note=f"from-{order[0]}")
        sides = {
            f"{d}.{n}": (t[0], t[1] + i) for i, d in enumerate(("forward", "backward")) for n, t in tensors.items()
        }
        yield Row("stacked_rnn", {**a, **both("sum")}, sides, {"x": X, "mask": MASK}, note=f"both-from-{order[0]}")
        major = {"axes": {"x": ["length", "batch", "channel"], "y": ["length", "batch", "channel"]}}
        yield Row(
            "stacked_rnn",
            {**a, **both("concat"), **major},
            sides,
            {"x": np.swapaxes(X, 0, 1)},
            note=f"time-major-{order[0]}",
        )


def _conv_lstm() -> Iterator[Row]:
    tensors = {}
    for gate in GATES["lstm"]:
        tensors[f"{gate}.kernel"] = ("height width in unit", f(2, 3, 2, 4))
        tensors[f"{gate}.recurrent"] = ("height width hidden unit", f(2, 3, 4, 4))
        tensors[f"{gate}.bias"] = ("unit", f(4))
    for first in (False, True):
        for sequences in (True, False):
            how = steps(sequences, masked_output="state", axes={"x": ["batch", "time"], "y": ["batch"]})
            a = {
                **cell_attributes("lstm"), "kernel_size": [2, 3], "strides": [2, 1], "padding": "valid",
                "recurrent_padding": "same", "dilation": [1, 1], **how,
                "data_format": "channels_first" if first else "channels_last",
            }  # fmt: skip
            x = f(2, 3, 2, 5, 6) if first else f(2, 3, 5, 6, 2)
            yield Row("conv_lstm", a, tensors, {"x": x, "mask": MASK[:, :3]}, note=f"{first}-{sequences}")
            h = f(2, 4, 2, 4) if first else f(2, 2, 4, 4)
            states = (h, h + 1)
            yield Row("conv_lstm", a, tensors, {"x": x, "initial_state": states}, note=f"{first}-{sequences}-states")


def rows() -> Iterator[Row]:
    for part in (_recurrent, _stacked, _conv_lstm):
        yield from part()
