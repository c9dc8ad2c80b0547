"""Lines that hold for each step: in which order, from which states on, and what masks do."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from equations.attention import split_heads
from equations.values import Array, Call, Value, value

_HEADED = ("query", "key", "value", "decay", "beta")  # what linear attention takes step by step


@dataclass
class Block:
    """The lines of a direction; then, for each name, its value after every step taken, and after the last."""

    name: str
    backwards: bool
    lines: list[str]
    every: dict[str, list[Array]] = field(default_factory=dict)
    last: dict[str, Value] = field(default_factory=dict)
    ends: Array | None = None


class Steps(Value):
    """A name after its block: its last value, which knows the ones before."""

    block: Block
    name: str


def after(block: Block) -> dict[str, Steps]:
    """The names of a block."""
    found = {}
    for name, last in block.last.items():
        found[name] = Steps(last.data, last.names)
        found[name].block, found[name].name = block, name
    return found


def run(call: Call, block: Block, assign: Callable[[Call, str], None]) -> None:
    """Take the steps of a block."""
    before = list(dict.fromkeys(re.findall(r"\b(\w+)_prev\b", "\n".join(block.lines))))
    before += [n for n in re.findall(r"^(c\d*) = ", "\n".join(block.lines), re.MULTILINE) if n not in before]
    states = _initial(call, block, before)
    parts = _sequences(call)
    x = next(iter(parts.values()))
    batch, steps = x.shape[:2]
    mask, ends = call.args.get("mask"), call.args.get("lengths")
    alive = np.ones((batch, steps), bool)
    if mask is not None:
        alive = np.asarray(mask).astype(bool)
        alive = alive if call.entry["axes"]["x"][0] == "batch" else alive.T
    if ends is not None:
        block.ends = np.asarray(ends).astype(int)
        alive = np.arange(steps) < block.ends[:, None]
    rows, outputs = np.arange(batch), _outputs(block)
    for t in range(steps):
        place = np.full(batch, steps - 1 - t if block.backwards else t)
        if block.ends is not None:  # backwards from each sequence's own last step
            place = np.where(t < block.ends, block.ends - 1 - t, t) if block.backwards else np.full(batch, t)
        here = Call(call.entry, call.tensors, call.args, dict(call.found))
        here.found |= {name: value(v[rows, place]) for name, v in parts.items()}
        here.found |= {f"{name}_prev": v for name, v in states.items()}
        for line in block.lines:
            assign(here, line)
        seen = alive[rows, place] if ends is None else t < block.ends
        how = call.entry.get("masked_output")
        for name in outputs:
            new = here.found[name].data
            kept = block.every.setdefault(name, [])
            old = kept[-1] if kept and how != "zero" else np.zeros_like(new)
            old = next(iter(states.values())).data if how == "state" else old
            kept.append(_where(seen, new, old))
            block.last[name] = here.found[name]
        for name in states:
            states[name] = value(_where(seen, here.found[name].data, states[name].data))
            block.last[name] = states[name]


def _outputs(block: Block) -> list[str]:
    return [line.split(" = ")[0] for line in block.lines]


def _where(seen: Array, new: Array, old: Array) -> Array:
    return np.asarray(new) if seen.all() else np.where(seen.reshape((-1,) + (1,) * (new.ndim - 1)), new, old)


def _sequences(call: Call) -> dict[str, Array]:
    """What is taken apart by steps, `[batch, step, ...]`."""
    if call.entry["kind"] == "linear_attention":
        heads = {"query": call.entry["heads"], "key": call.entry["kv_heads"], "value": call.entry["kv_heads"]}
        found = {}
        for role in _HEADED:
            if (x := call.args.get(role)) is not None:
                x = np.asarray(x)
                n = heads.get(role, x.shape[-1] if role == "beta" else call.entry["kv_heads"])
                found[role] = np.swapaxes(split_heads(x, n), 1, 2)[:, :, :, None]  # a row a step, so that `@` applies
        return found
    x = call.found["x"].data if "x" in call.found else np.asarray(call.args["x"])
    axes = call.entry["axes"]["x"]
    return {"x": x if axes[0] == "batch" else np.swapaxes(x, 0, 1)}


def _initial(call: Call, block: Block, names: list[str]) -> dict[str, Value]:
    """The states before the first step: given in the order of the entry, or zeros."""
    entry = call.entry
    if entry["kind"] == "linear_attention":
        past = call.args.get("past_state")
        return {"s": value(0.0 if past is None else past)}
    order = sorted(names, key="hc".index) if "state_order" not in entry else [_state(s) for s in entry["state_order"]]
    given = call.args.get("initial_state")
    if given is None:
        return {name: value(0.0) for name in order}
    given = list(given) if isinstance(given, tuple) else [given]
    if entry.get("merge_mode") == "stack":
        axes = [entry["axes"]["state"].index(w) for w in ("direction", "batch", "channel")]
        number = int(block.name == "backward")
        given = [None if s is None else np.transpose(s, axes)[number] for s in given]
    elif block.name:
        half = len(given) // 2
        given = given[half:] if block.name == "backward" else given[:half]
    return {name: value(0.0 if s is None else s) for name, s in zip(order, given, strict=True)}


def _state(role: str) -> str:
    number, state = role.split(".")
    return f"{state[-1]}{number}"


# -- what becomes of the steps -----------------------------------------------------------------------------------------


def every(call: Call, steps: Steps) -> Value:
    """All values of a name, in the order in which the steps were taken."""
    found = np.stack(steps.block.every[steps.name], axis=1)
    if call.entry["kind"] == "linear_attention":  # heads joined again
        return value(found.reshape(*found.shape[:2], -1))
    result = Sequence(found, ((),) * found.ndim)
    result.ends = steps.block.ends
    return result


class Sequence(Value):
    """All steps of a direction, which may end at different lengths."""

    ends: Array | None = None


def last(call: Call, steps: Steps) -> Value:
    """The last of every(...)."""
    return value(steps.block.every[steps.name][-1])


def reverse(call: Call, steps: Sequence) -> Sequence:
    """The steps in the opposite order, each sequence's within its own length."""
    data = steps.data[:, ::-1]
    if steps.ends is not None:
        data = np.zeros_like(steps.data)
        for row, end in enumerate(steps.ends):
            data[row, :end] = steps.data[row, :end][::-1]
    return Sequence(data, steps.names)


def stack(call: Call, *parts: Value) -> Value:
    """Directions as an axis: y and the states have their axes in the order of the entry."""
    data = np.stack([p.data for p in parts])
    words = ("direction", "batch", "length", "channel") if data.ndim == 4 else ("direction", "batch", "channel")
    wanted = call.entry["axes"]["y" if data.ndim == 4 else "state"]
    return value(np.transpose(data, [words.index(w) for w in wanted]))


FUNCTIONS = {"every": every, "last": last, "reverse": reverse, "stack": stack}
