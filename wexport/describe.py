"""A plan as a manifest: everything but what only the data tell (checksums, statistics)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from wexport.layout import Flip, Leaf, Packed, Refold, Step
from wexport.model import Arg, Call, Const, Json, Port
from wexport.plan import Plan, Stored


def describe(plan: Plan) -> dict[str, Any]:
    """The manifest of a plan, without `fingerprint`, `sha256` and `stats`."""
    model = plan.model
    batch = _batch(model.inputs)
    return {
        "model": {
            "name": model.name,
            "framework": model.framework,
            "framework_version": model.framework_version,
            "source": dict(model.source),
            "parameters": sum(_count(t.shape) for t in plan.tensors),
        },
        "inputs": {name: {"shape": _shape(p.shape), "dtype": p.dtype} for name, p in model.inputs.items()},
        "outputs": {name: {"value": value} for name, value in model.outputs.items()},
        "layers": {
            layer.name: {"kind": layer.kind, "class": layer.class_name, **layer.attributes} for layer in plan.layers
        },
        "calls": [_call(call, plan, batch) for call in model.calls],
        "equations": {name: list(lines) for name, lines in plan.equations.items() if lines},
        "weights": {w.array.key: _weight(w) for w in plan.weights},
        "tensors": {t.name: _tensor(t) for t in plan.tensors},
        "aliases": {},
        "left_out": {item.key: {"shape": list(item.shape), "reason": item.reason} for item in plan.left_out},
        "stats": {},
    }


def _count(shape: Sequence[int]) -> int:
    total = 1
    for n in shape:
        total *= n
    return total


def _shape(shape: Sequence[int | None] | None) -> Json:
    return None if shape is None else list(shape)


def _batch(inputs: Mapping[str, Port]) -> int | None:
    """The batch, where all inputs agree on a fixed one."""
    found = {p.shape[0] if p.shape else None for p in inputs.values()}
    return next(iter(found)) if len(found) == 1 else None


def _call(call: Call, plan: Plan, batch: int | None) -> Json:
    outs = []
    for out in call.out:
        value = plan.values.get(out.value or "")
        shape = None if value is None or value.shape is None else [batch, *value.shape]
        outs.append({"value": out.value, "role": out.role, "shape": shape, "dtype": value.dtype if value else None})
    return {"layer": call.layer, "args": {role: _arg(arg) for role, arg in call.args.items()}, "out": outs}


def _arg(arg: Arg) -> Json:
    if isinstance(arg, Const):
        return {"const": arg.value, "dtype": arg.dtype, "shape": list(arg.shape), "stored": None}
    return [_arg(a) for a in arg] if isinstance(arg, tuple) else arg


def _weight(stored: Stored) -> Json:
    rule = stored.rule
    found: dict[str, Json] = {"index": stored.array.index, "shape": list(stored.array.shape), "dtype": stored.array.dtype}
    if stored.copy_of is not None:
        return {**found, "copy_of": stored.copy_of}
    found |= {"layout": rule.layout, "as": rule.target, "sizes": dict(stored.sizes)}
    if rule.labels:
        found["labels"] = {axis: list(labels) for axis, labels in rule.labels.items()}
    if rule.at:
        found["at"] = dict(rule.at)
    if stored.leaves:
        found["segments"] = {axis: [_segment(leaf) for leaf in leaves] for axis, leaves in stored.leaves.items()}
    if rule.steps:
        found["steps"] = [_step(step) for step in rule.steps]
    return found


def _segment(leaf: Leaf) -> Json:
    found: dict[str, Json] = {"from": leaf.label, "size": leaf.size}
    if len(leaf.axes) > 1 or not leaf.plain:
        found |= {"axes": list(leaf.axes), "sizes": list(leaf.sizes), "strides": list(leaf.strides), "start": leaf.start}
    return {**found, "features": list(leaf.features)} if leaf.features else found


def _step(step: Step) -> Json:
    if isinstance(step, Flip):
        return {"flip": list(step.axes)}
    if isinstance(step, Refold):
        return {"refold": list(step.axes)}
    assert isinstance(step, Packed)
    return {"unpack": step.axis, "bits": 4, "signed": step.signed}


def _tensor(tensor: Any) -> Json:
    found = {
        "dtype": tensor.dtype,
        "shape": list(tensor.shape),
        "axes": tensor.axes,
        "layer": tensor.layer,
        "role": tensor.role,
        "weight": tensor.array.key,
        "at": dict(tensor.at),
    }
    if tensor.stored_as:
        found["stored_as"] = tensor.stored_as
    return found
