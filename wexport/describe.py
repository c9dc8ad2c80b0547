"""A plan as a manifest: everything but what only the data tell (checksums, statistics)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from wexport.model import Arg, Call, Const, Json, Port
from wexport.planning import Plan, Tensor
from wexport.weights import entry


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
            "parameters": sum(math.prod(t.shape) for t in plan.tensors),
        },
        "inputs": {name: {"shape": _shape(p.shape), "dtype": p.dtype} for name, p in model.inputs.items()},
        "outputs": {name: {"value": value} for name, value in model.outputs.items()},
        "layers": {
            layer.name: {"kind": layer.kind, "class": layer.class_name, **layer.attributes} for layer in plan.layers
        },
        "calls": [_call(call, plan, batch) for call in model.calls],
        "equations": {name: list(lines) for name, lines in plan.equations.items() if lines},
        "weights": {w.array.key: {"index": w.array.index, **entry(w)} for w in plan.weights},
        "tensors": {t.name: _tensor(t) for t in plan.tensors},
        "aliases": {},
        "left_out": {item.key: {"shape": list(item.shape), "reason": item.reason} for item in plan.left_out},
        "stats": {},
    }


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
