"""ONNX graphs computed by the rooms: every node is lowered, and what its kind computes is taken."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from wexport.evaluate import _held, _number
from wexport.features import Value
from wexport.layers import Flow
from wexport.layers.complete import KINDS
from wexport.layers.onnx import (
    ROOMS,
    Lowered,
    Node,
    Operand,
    rooms,  # noqa: F401 - signs them in
)
from wexport.layers.step import Items, Step
from wexport.manifest import encode
from wexport.model import Const


@dataclass(frozen=True)
class Knowledge:
    """What is known before the model runs: the operands' elements, and their shapes."""

    elements: bool
    shapes: bool


WHOLE = Knowledge(elements=True, shapes=True)
COMPUTED = Knowledge(elements=False, shapes=True)
NOTHING = Knowledge(elements=False, shapes=False)


def attribute(found: onnx.AttributeProto) -> Any:
    value = helper.get_attribute_value(found)
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, onnx.TensorProto):
        return numpy_helper.to_array(value)
    if isinstance(value, list | tuple) and value and isinstance(value[0], bytes):
        return [v.decode() for v in value]
    return list(value) if isinstance(value, Sequence) and not isinstance(value, str) else value


def plain(value: Any) -> Any:
    return numpy_helper.to_array(value) if isinstance(value, onnx.TensorProto) else value


def dtype_of(value: Any) -> str | None:
    if isinstance(value, list | tuple):
        return dtype_of(value[0]) if value else None
    if value is None:
        return None
    return "string" if value.dtype.kind in "OUS" else value.dtype.name


def number(value: Any) -> Any:
    """A value as the evaluator holds it."""
    if isinstance(value, list | tuple):
        return Items(number(v) for v in value)
    if value is None:
        return None
    value = np.asarray(value)
    if value.dtype.name == "bfloat16":
        return value.astype(np.float64)
    return value.astype(str) if value.dtype.kind == "O" else _number(value)


def operand(name: str, value: Any, dtype: str | None, knowledge: Knowledge) -> Operand | None:
    if not name:
        return None
    single = isinstance(value, np.ndarray)
    return Operand(
        name,
        value.shape if single and knowledge.shapes else None,
        dtype,
        known=value if single and knowledge.elements else None,
    )


def run(
    model: onnx.ModelProto,
    inputs: Sequence[Any],
    knowledge: Knowledge,
    lowerings: list[Lowered] | None = None,
    outputs: Sequence[Any] = (),
) -> list[Any]:
    """The model's outputs; `outputs` tells their types where the graph does not.

    Raises:
        KeyError: an operator has no room.
        UnclearError: a room does not understand a node.
    """
    graph = model.graph
    opsets = {o.domain: o.version for o in model.opset_import}
    values: dict[str, Any] = {}
    types: dict[str, str | None] = dict(_types(model))
    for port, given in zip(graph.input, inputs, strict=False):
        value = plain(given)
        values[port.name] = number(value)
        types[port.name] = dtype_of(value)
    for port, value in zip(graph.output, outputs, strict=False):
        types[port.name] = dtype_of(value)
    for initializer in graph.initializer:
        array = numpy_helper.to_array(initializer)
        values[initializer.name], types[initializer.name] = number(array), dtype_of(array)
    with np.errstate(all="ignore"):
        for node in graph.node:
            if node.op_type == "Constant":
                values[node.output[0]], types[node.output[0]] = _constant(node)
                continue
            _compute(node, opsets[node.domain], values, types, knowledge, lowerings)
    return [values[port.name] for port in graph.output]


def _types(model: onnx.ModelProto) -> Mapping[str, str | None]:
    inferred = onnx.shape_inference.infer_shapes(model).graph
    found = {}
    for port in [*inferred.value_info, *inferred.output]:
        kind = port.type
        while not kind.HasField("tensor_type"):
            kind = kind.sequence_type.elem_type if kind.HasField("sequence_type") else kind.optional_type.elem_type
            if not kind.WhichOneof("value"):
                break
        code = kind.tensor_type.elem_type
        found[port.name] = None if not code else "string" if code == 8 else helper.tensor_dtype_to_np_dtype(code).name
    return found


def _constant(node: onnx.NodeProto) -> tuple[Any, str | None]:
    found = node.attribute[0]
    value = np.asarray(attribute(found))
    if found.name.startswith("value_float"):
        value = value.astype(np.float32)
    return number(value), dtype_of(value)


def lowered(
    proto: onnx.NodeProto, version: int, values: Mapping[str, Any], types: Any, knowledge: Knowledge
) -> Lowered:
    node = Node(
        proto.op_type,
        proto.domain,
        version,
        tuple(operand(n, values.get(n), types.get(n), knowledge) for n in proto.input),
        tuple(Operand(n) if n else None for n in proto.output),
        {a.name: attribute(a) for a in proto.attribute},
    )
    return ROOMS[proto.domain, proto.op_type](node)


def _compute(
    proto: onnx.NodeProto,
    version: int,
    values: dict[str, Any],
    types: dict[str, str | None],
    knowledge: Knowledge,
    lowerings: list[Lowered] | None,
) -> None:
    found = lowered(proto, version, values, types, knowledge)
    if lowerings is not None:
        lowerings.append(found)
    kind = KINDS[found.kind]
    attributes = json.loads(encode(found.attributes))  # as a manifest has them
    assert set(kind.attributes) <= set(attributes) <= set(kind.attributes) | set(kind.optional), found
    args = {role: _argument(arg, values) for role, arg in found.args.items()}
    names = list(zip(found.roles, proto.output, strict=False))
    out = [{"role": role, "value": name or None, "dtype": types.get(name)} for role, name in names]
    assert kind.computes is not None
    result = kind.computes(Step(attributes, {}, args, out, kind=found.kind))
    results = result if isinstance(result, dict) else {"y": result}
    for role, name in names:
        if name:
            types[name] = types.get(name) or dtype_of(results[role])
            held = types[name] if types[name] != "string" else None
            values[name] = _held(results[role], held)
    _check_flow(found, attributes, types, dict(names), values)


def _argument(arg: Any, values: Mapping[str, Any]) -> Any:
    if isinstance(arg, tuple):
        return tuple(_argument(a, values) for a in arg)
    if isinstance(arg, Const):
        return np.asarray(arg.value, np.float64 if "float" in arg.dtype else None)
    return None if arg is None else values[arg.value]


# kinds whose rules are written for shapes with all axes
_MODULES = {
    "dynamic", "moves", "reduction", "indexing", "resampling", "regions", "sequences", "classic", "elementwise",
    "flows",
}  # fmt: skip


def _check_flow(found: Lowered, attributes: Any, types: Any, names: Mapping[str, str], values: Any) -> None:
    """What a flow rule says of shapes and types is so."""
    rule = KINDS[found.kind].flow
    assert rule is not None
    if rule.__module__.rpartition(".")[2] not in _MODULES:
        return
    args = {role: _traced(arg, values, types) for role, arg in found.args.items()}
    for role, value in rule(Flow(attributes, args, names)).items():
        actual = values.get(names.get(role, ""))
        if isinstance(actual, np.ndarray) and value.shape is not None:
            assert len(value.shape) == actual.ndim, (found, value.shape, actual.shape)
            assert all(n in (None, m) for n, m in zip(value.shape, actual.shape, strict=True)), (found, value.shape)


def _traced(arg: Any, values: Mapping[str, Any], types: Mapping[str, str | None]) -> Any:
    if isinstance(arg, tuple):
        return tuple(_traced(a, values, types) for a in arg)
    if not isinstance(arg, Operand):
        return arg
    value = values[arg.value]
    return Value(value.shape if isinstance(value, np.ndarray) else None, types.get(arg.value))


_PRECISION = {"float16": 2e-3, "bfloat16": 1.6e-2}


def assert_same(got: Any, want: Any, tolerance: float | None = None) -> None:
    """The same shapes, the same whole numbers, and floats as near as their type is."""
    if isinstance(want, list | tuple):
        assert len(got) == len(want)
        for a, b in zip(got, want, strict=True):
            assert_same(a, b, tolerance)
        return
    want = np.asarray(plain(want))
    assert np.shape(got) == want.shape, (np.shape(got), want.shape)
    if want.dtype.kind in "OUS":
        assert np.asarray(got).astype(str).tolist() == want.astype(str).tolist()
        return
    if want.dtype.kind in "iub":
        np.testing.assert_array_equal(got, want)
        return
    wide = want.astype(np.float64)
    scale = np.abs(wide[np.isfinite(wide)]).max(initial=1e-30)
    np.testing.assert_allclose(got, wide, rtol=0, atol=(tolerance or _PRECISION.get(want.dtype.name, 1e-6)) * scale)
