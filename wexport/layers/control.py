"""Control flow: bodies that run once, or many times.

`if`: the body `then` or `else`. `loop`: the body takes the number of the turn, whether it goes on, and what it
carries; it gives whether to go on, what it carries, and what is collected. `scan`: the body takes what it carries and
a slice of each x; it gives what it carries and slices to collect. `batched`: so for every item of a batch, each as far
as `lengths` says, with zeros behind what it collects. `sequence_map`: the body makes of an item of every sequence (of
other values as they are) an item of every result.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wexport.features import Value
from wexport.layers.registry import INT, INTS, Flow, computes, flow, kind
from wexport.layers.step import Items, Step

Array = NDArray[Any]

kind("if", "sequence_map")
kind("loop", carried=INT)
_FLAGS = {"type": "array", "items": {"type": "boolean"}}
kind(
    "scan",
    maybe={"batched": {"type": "boolean"}},
    carried=INT,
    input_axes=INTS,
    input_backwards=_FLAGS,
    output_axes=INTS,
    output_backwards=_FLAGS,
)


@flow("if", "loop", "scan", "sequence_map")
def _flow(f: Flow) -> Mapping[str, Value]:
    return {role: Value(None) for role in f.names}


def _roles(values: list[Any]) -> dict[str, Any]:
    return {"y" if i == 0 else f"y_{i}": v for i, v in enumerate(values)}


@computes("if")
def _compute_if(step: Step) -> dict[str, Any]:
    return _roles(step.run("then" if np.asarray(step.args["condition"]).reshape(-1)[0] else "else", []))


@computes("loop")
def _compute_loop(step: Step) -> dict[str, Any]:
    n = step.attributes["carried"]
    times, condition = step.args.get("times"), step.args.get("condition")
    state = list(step.args.get("state") or ())
    collected: list[list[Array]] = []
    turn, going = 0, condition is None or bool(np.asarray(condition).reshape(-1)[0])
    while going and (times is None or turn < int(np.asarray(times).reshape(-1)[0])):
        given = step.run("body", [np.asarray(turn, np.int64), np.asarray(going), *state])
        going = bool(np.asarray(given[0]).reshape(-1)[0])
        state = given[1 : 1 + n]
        collected.append(given[1 + n :])
        turn += 1
    columns = zip(*collected, strict=True) if collected else []
    return _roles([*state, *(np.stack(column) for column in columns)])


@computes("scan")
def _compute_scan(step: Step) -> dict[str, Any]:
    state, xs = list(step.args.get("state") or ()), list(step.args["x"])
    if not step.attributes.get("batched"):
        return _roles(_scanned(step, state, xs))
    lengths, steps = step.args.get("lengths"), xs[0].shape[1]
    rows = []
    for i in range(len(xs[0])):
        n = steps if lengths is None else int(np.asarray(lengths).reshape(-1)[i])
        found = _scanned(step, [s[i] for s in state], [x[i, :n] for x in xs])
        rows.append([y if k < len(state) else _filled(y, steps) for k, y in enumerate(found)])
    return _roles([np.stack(column) for column in zip(*rows, strict=True)])


def _filled(y: Array, steps: int) -> Array:
    return np.pad(y, [(0, steps - len(y)), *[(0, 0)] * (y.ndim - 1)])


def _scanned(step: Step, state: list[Any], given: list[Array]) -> list[Any]:
    a = step.attributes
    xs = [
        np.flip(np.moveaxis(x, axis, 0), 0) if back else np.moveaxis(x, axis, 0)
        for x, axis, back in zip(given, a["input_axes"], a["input_backwards"], strict=True)
    ]
    collected: list[list[Array]] = []
    for t in range(len(xs[0])):
        made = step.run("body", [*state, *(x[t] for x in xs)])
        state = made[: a["carried"]]
        collected.append(made[a["carried"] :])
    found = []
    for i, column in enumerate(zip(*collected, strict=True)):
        y = np.stack(column[::-1] if a["output_backwards"][i] else column)
        found.append(np.moveaxis(y, 0, a["output_axes"][i]))
    return [*state, *found]


@computes("sequence_map")
def _compute_map(step: Step) -> dict[str, Any]:
    others = step.args.get("others") or ()
    rows = []
    for i, item in enumerate(step.args["sequence"]):
        rows.append(step.run("body", [item, *(o[i] if isinstance(o, Items) else o for o in others)]))
    return _roles([Items(np.asarray(y) for y in column) for column in zip(*rows, strict=True)])
