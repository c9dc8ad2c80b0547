"""A plan as a manifest: everything but what only the data tell (checksums, statistics)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from wexport.model import Arg, Body, Call, Const, Json, Ref
from wexport.planning import Plan, Tensor
from wexport.weights import entry


def describe(plan: Plan) -> dict[str, Any]:
    """The manifest of a plan, without `fingerprint`, `sha256` and `stats`."""
    model = plan.model
    return {
        "model": {
            "name": model.name,
            "framework": model.framework,
            "framework_version": model.framework_version,
            "source": dict(model.source),
            "parameters": sum(math.prod(t.shape) for t in plan.tensors if t.layer is not None),
        },
        "inputs": {name: {"shape": _shape(p.shape), "dtype": p.dtype} for name, p in model.inputs.items()},
        "outputs": {name: {"value": value} for name, value in model.outputs.items()},
        "layers": {
            layer.name: {"kind": layer.kind, "class": layer.class_name, **layer.attributes} for layer in plan.layers
        },
        "calls": [_call(call, plan) for call in model.calls],
        "equations": {name: list(lines) for name, lines in plan.equations.items() if lines},
        "weights": {w.array.key: {"index": w.array.index, **entry(w)} for w in plan.weights},
        "tensors": {t.name: _tensor(t) for t in plan.tensors},
        "aliases": {
            a.name: {"tensor": a.tensor, "layer": a.layer, "role": a.role, "axes": a.axes, "transposed": a.transposed}
            for a in plan.aliases
        },
        "left_out": {item.key: {"shape": list(item.shape), "reason": item.reason} for item in plan.left_out},
        "stats": {},
    }


def _shape(shape: Sequence[int | None] | None) -> Json:
    return None if shape is None else list(shape)


def _call(call: Call, plan: Plan) -> Json:
    outs = []
    for out in call.out:
        value = plan.values.get(out.value or "")
        shape, dtype = (None, None) if value is None else (_shape(value.shape), value.dtype)
        outs.append({"value": out.value, "role": out.role, "shape": shape, "dtype": dtype})
    found = {"layer": call.layer, "args": {role: _arg(arg, plan) for role, arg in call.args.items()}, "out": outs}
    if call.bodies:
        found["bodies"] = {label: _body(body, plan) for label, body in call.bodies.items()}
    return found


def _body(body: Body, plan: Plan) -> Json:
    return {
        "inputs": list(body.inputs),
        "calls": [_call(call, plan) for call in body.calls],
        "outputs": [_arg(arg, plan) for arg in body.outputs],
    }


def _arg(arg: Arg, plan: Plan) -> Json:
    if isinstance(arg, Const):
        return {"const": arg.value, "dtype": arg.dtype, "shape": list(arg.shape), "stored": arg.stored}
    if isinstance(arg, Ref):
        return {"tensor": plan.of_array(arg.array)}
    return [_arg(a, plan) for a in arg] if isinstance(arg, tuple) else arg


def _tensor(tensor: Tensor) -> Json:
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
