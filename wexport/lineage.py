"""Where each feature comes from: the walk over a model's calls, shapes and features together.

Every kind says how features pass through it (`@flow` in its room); here is only the order of the walk, what the
file itself states about shapes, and what two uses of one kernel have in common.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from wexport import dtypes
from wexport.errors import LayoutError
from wexport.features import Value, drop_axis, each, leaves, sized, source
from wexport.layers import KINDS, Flow
from wexport.layers.registry import FlowRule
from wexport.layout import Leaf
from wexport.model import Arg, Array, Call, Const, Layer, Model, Port, Ref, every


@dataclass(frozen=True, slots=True)
class Lineage:
    """Every value's shape, type and features; and, for each layer whose kernel reads features, the parts of its
    `in` axis (None where they cannot be told)."""

    values: Mapping[str, Value]
    reads: Mapping[str, tuple[Leaf, ...] | None]


def trace(model: Model) -> Lineage:
    """Follow every value of a model back to where its features start."""
    layers = {layer.name: layer for layer in model.layers}
    values: dict[str, Value] = {}
    reads: dict[str, list[tuple[Leaf, ...] | None]] = {}
    for name, port in model.inputs.items():
        shape = port.shape and tuple(n if isinstance(n, int) else None for n in port.shape)  # others are names
        values[name] = source(name, shape, port.dtype)
    stored = {w.array.key: w.array for layer in model.layers for w in layer.weights}
    stored |= {c.array.key: c.array for c in model.constants}
    for call in every(model.calls):
        layer = layers[call.layer]
        args = {role: _traced(arg, values, stored) for role, arg in call.args.items()}
        for role, value in _outputs(layer, call, args).items():
            values[role] = _stated(value, model.known.get(role), layer.compute)
        kind = KINDS[layer.kind]
        if kind.feature_axis is not None:
            reads.setdefault(layer.name, []).append(_read(layer, args.get("x"), kind.feature_axis(layer.attributes)))
    return Lineage(values, {name: _common(found) for name, found in reads.items()})


def _traced(arg: Arg, values: Mapping[str, Value], stored: Mapping[str, Array]) -> Any:
    if isinstance(arg, str):
        return values.get(arg, Value(None))
    if isinstance(arg, tuple):
        return tuple(_traced(a, values, stored) for a in arg)
    if isinstance(arg, Ref):
        array = stored[arg.array]
        return Const(None, array.dtype, array.shape)
    return arg


def _outputs(layer: Layer, call: Call, args: Mapping[str, Any]) -> dict[str, Value]:
    names = {out.role: out.value for out in call.out if out.value is not None}
    rule = KINDS[layer.kind].flow
    assert rule is not None
    flow = Flow(layer.attributes, args, names)
    steps = layer.attributes.get("time_distributed", 0)
    try:
        found = rule(flow) if not steps else _distributed(rule, flow, steps)
    except (ArithmeticError, LookupError, TypeError, ValueError) as error:
        raise LayoutError(
            f"{layer.name}: the settings of this {layer.class_name} make no sense for what it reads; "
            "the model is damaged: export it again"
        ) from error
    return {value: found.get(role, Value(None)) for role, value in names.items()}


def _distributed(rule: FlowRule, flow: Flow, steps: int) -> dict[str, Value]:
    """A layer's rule at each step of the first axes behind the batch."""

    def at(role: str, n: int, args: Mapping[str, Any]) -> Value:
        if n == 0:
            return rule(Flow(flow.attributes, args, flow.names)).get(role, Value(None))
        first = next((v for v in _flat(args) if v.rank > 1), Value(None))
        inner = {r: _stepped(a) for r, a in args.items()}
        return each(first, lambda _: at(role, n - 1, inner))

    return {role: at(role, steps, flow.args) for role in flow.names}


def _flat(args: Mapping[str, Any]) -> list[Value]:
    found = []
    for arg in args.values():
        found += [a for a in (arg if isinstance(arg, tuple) else (arg,)) if isinstance(a, Value)]
    return found


def _stepped(arg: Any) -> Any:
    if isinstance(arg, Value):
        return drop_axis(arg, 1) if arg.rank > 1 else arg
    return tuple(_stepped(a) for a in arg) if isinstance(arg, tuple) else arg


def _stated(value: Value, port: Port | None, compute: str | None) -> Value:
    """A value with what the file states of it: a shape fills in what is not known, never the other way.

    The layer's own float type counts before the stated one: some files note an argument as its taker casts it.
    """
    if value.dtype is None or dtypes.is_float(value.dtype):
        value = replace(value, dtype=compute or value.dtype or "float32")
    if port is None:
        return value
    if port.dtype is not None and not (compute is not None and dtypes.is_float(port.dtype)):
        value = replace(value, dtype=port.dtype)
    if port.shape is None:
        return value
    if value.rank != len(port.shape):
        return Value(port.shape, value.dtype)
    if any(a is not None and b is not None and a != b for a, b in zip(value.shape or (), port.shape, strict=True)):
        return Value(port.shape, value.dtype)
    return sized(value, port.shape)


def _read(layer: Layer, x: Any, axis: int) -> tuple[Leaf, ...] | None:
    if isinstance(x, tuple):
        x = x[0] if x else None
    if not isinstance(x, Value) or isinstance(x, Const):
        return None
    for _ in range(layer.attributes.get("time_distributed", 0)):
        x = _stepped(x)
    return leaves(x, axis)


def _common(found: list[tuple[Leaf, ...] | None]) -> tuple[Leaf, ...] | None:
    """What all calls of a layer read alike, the numbers of calls aside."""
    first = found[0]
    if first is None or any(other is None or _plainly(other) != _plainly(first) for other in found[1:]):
        return None
    return first


def _plainly(parts: tuple[Leaf, ...]) -> tuple[Leaf, ...]:
    return tuple(replace(p, label=re.sub(r"@\d+", "", p.label)) for p in parts)
