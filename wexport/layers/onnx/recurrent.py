"""Recurrent layers as ONNX stores them.

    LSTM  W "direction (gate unit) in", R "direction (gate unit) hidden", B "direction (bias gate unit)",
          gates input output forget cell; P "direction (gate unit)", gates input output forget
    GRU   the same, gates update reset candidate; `linear_before_reset` is reset_after
    RNN   without gates

One direction has no axis of its own in the tensors. Steps come first (`layout` 0) or the batch does (`layout` 1), and
y has an axis for the directions: merge_mode `stack`. A weight that is computed when the model runs is an argument
(`layers/computed.py`). Refused: activations that a cell of wexport cannot have.
Source: onnx/docs/Operators.md, LSTM-22, GRU-22, RNN-22.
"""

from __future__ import annotations

from typing import Any

from wexport.layers.computed import told
from wexport.layers.onnx import Argument, Lowered, Node, Operand, Own, UnclearError, onnx
from wexport.layers.recurrent import BIASES
from wexport.layout import Rule
from wexport.model import Json

_GATES = {"LSTM": ("input", "output", "forget", "cell"), "GRU": ("update", "reset", "candidate"), "RNN": ()}
_DIRECTIONS = ("forward", "backward")
_DEFAULTS = {"LSTM": ["Sigmoid", "Tanh", "Tanh"], "GRU": ["Sigmoid", "Tanh"], "RNN": ["Tanh"]}
_ACTIVATIONS: dict[str, tuple[str, tuple[tuple[str, float], ...]]] = {
    "sigmoid": ("sigmoid", ()), "tanh": ("tanh", ()), "relu": ("relu", ()), "softsign": ("softsign", ()),
    "softplus": ("softplus", ()), "elu": ("elu", (("alpha", 1.0),)), "leakyrelu": ("leaky_relu", (("alpha", 0.01),)),
    "thresholdedrelu": ("thresholded_relu", (("threshold", 1.0),)),
    "hardsigmoid": ("hard_sigmoid", (("slope", 0.2), ("offset", 0.5))),
    "affine": ("affine", (("slope", 1.0), ("offset", 0.0))),
    "scaledtanh": ("scaled_tanh", (("alpha", 1.0), ("beta", 1.0))),
}  # fmt: skip


@onnx("LSTM", "GRU", "RNN")
def _recurrent(node: Node) -> Lowered:
    what = node.op
    direction = node.get("direction", "forward")
    if direction not in {"forward", "reverse", "bidirectional"}:
        raise UnclearError(f"{node.op}: has the direction {direction!r}")
    both = direction == "bidirectional"
    recurrent = node.need(2)
    units = node.get("hidden_size") or (recurrent.shape or (None,))[-1]
    if not units:
        raise UnclearError(f"{what}: the number of its units is not known")
    attributes: dict[str, Json] = {"units": units, **_functions(node, 0)}
    if what == "GRU":
        attributes["reset_after"] = bool(node.get("linear_before_reset", 0))
    attributes |= _sequence(node, direction)
    if both:
        own = _functions(node, 1)
        attributes["backward"] = {"go_backwards": True} | {k: v for k, v in own.items() if attributes.get(k) != v}
    args: dict[str, Argument] = {"x": node.need(0)}
    if (lengths := node.operand(4)) is not None:
        args["lengths"] = lengths
    states = tuple(node.operand(i) for i in ((5, 6) if what == "LSTM" else (5,)))
    if any(s is not None and s.uniform != 0 for s in states):
        args["initial_state"] = states
    roles = ("y", "state_h", "state_c") if what == "LSTM" else ("y", "state_h")
    weights = _weights(node, what, both)
    if computed := [own for own in weights if not own.operand.stored]:
        attributes["computed"] = {own.role: told(own.rule) for own in computed if own.rule is not None}
        args |= {own.role: own.operand for own in computed}
    return Lowered(what.lower(), attributes, args, tuple(own for own in weights if own.operand.stored), roles)


def _weights(node: Node, what: str, both: bool) -> tuple[Own, ...]:
    gates = _GATES[what]
    left, name = ("direction", "{direction}.") if both else ("1", "")
    block, gate = ("(gate unit)", "{gate}.") if gates else ("unit", "")
    labels: dict[str, Any] = {"direction": _DIRECTIONS} if both else {}
    bias = f"{left} (bias gate unit)" if gates else f"{left} (bias unit)"
    peephole = ("input", "output", "forget")
    rows: list[tuple[int, str, str, dict[str, Any]]] = [
        (1, "kernel", f"{left} {block} in -> {name}{gate}kernel: in unit", {"gate": gates}),
        (2, "recurrent", f"{left} {block} hidden -> {name}{gate}recurrent: hidden unit", {"gate": gates}),
        (3, "bias", f"{bias} -> {name}{gate}{{bias}}: unit", {"gate": gates, "bias": BIASES}),
        (7, "peephole", f"{left} (gate unit) -> {name}{{gate}}.peephole: unit", {"gate": peephole}),
    ]
    found = []
    for i, role, text, own in rows:
        operand = node.operand(i) if i != 7 or what == "LSTM" else None
        if operand is None:
            continue
        used = {k: v for k, v in {**labels, **own}.items() if v}
        found.append(Own(operand, role, Rule.parse(text, **used), splits=role == "kernel"))
    return tuple(found)


def _sequence(node: Node, direction: str) -> dict[str, Json]:
    order = ["batch", "length"] if node.get("layout", 0) else ["length", "batch"]
    y = ["batch", "length", "direction"] if node.get("layout", 0) else ["length", "direction", "batch"]
    state = ["batch", "direction"] if node.get("layout", 0) else ["direction", "batch"]
    found: dict[str, Json] = {
        "return_sequences": True,
        "return_state": True,
        "go_backwards": direction == "reverse",
        "masked_output": "zero",
        "axes": {"x": [*order, "channel"], "y": [*y, "channel"], "state": [*state, "channel"]},
        "direction": {"forward": "forward", "reverse": "backward"}.get(direction, "bidirectional"),
        "merge_mode": "stack",
    }
    if (clip := node.number("clip")) is not None:
        found["clip"] = clip
    if node.get("input_forget", 0):
        found["coupled"] = True
    return found


def _functions(node: Node, direction: int) -> dict[str, Json]:
    """The activations of a direction, with their parameters."""
    given = [str(a) for a in node.get("activations") or _DEFAULTS[node.op] * 2]
    n = len(_DEFAULTS[node.op])
    alphas, betas = (list(node.get(k) or []) for k in ("activation_alpha", "activation_beta"))
    found = []
    for i, name in enumerate(given):
        word, parameters = _ACTIVATIONS.get(name.lower().replace("_", ""), (None, ()))
        if word is None:
            raise UnclearError(f"{node.op}: the activation {name!r} is not known")
        made: dict[str, Json] = {"name": word}
        for (key, default), values in zip(parameters, (alphas, betas), strict=False):
            # the lists have an entry for each function that has such a parameter
            made[key] = float(values.pop(0)) if values else default
        found.append((i, made))
    own = [made for i, made in found if i // n == (direction if len(given) > n else 0)]
    if len(own) != n:
        raise UnclearError(f"{node.op}: {len(given)} activations for cells that have {n}")
    if node.op == "RNN":
        return {"activation": own[0]}
    result = {"activation": own[1], "recurrent_activation": own[0]}
    if node.op == "LSTM" and own[2] != own[1]:
        result["output_activation"] = own[2]
    return result


_ = Operand
