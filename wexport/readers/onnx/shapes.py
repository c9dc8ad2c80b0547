"""Shapes and types of values: as the file states them, and by ONNX' shape inference on the graph in normal form."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

from wexport.model import Port
from wexport.readers.onnx.ops import PROGRAM, Body, Graph, Held, Op
from wexport.readers.onnx.tensors import TYPES, element_type

_NUMBERS = {name: number for number, (name, _) in TYPES.items()}
_Known = Callable[[str], np.ndarray[Any, Any] | None]


def infer(model: onnx.ModelProto, graph: Graph, known: _Known) -> dict[str, Port]:
    """What is known of every value's shape and type; free dimensions have the names that inference gives them.

    `known` gives the elements of small constants, which shapes may depend on.
    """
    found = {}
    for info in [*model.graph.input, *model.graph.value_info, *model.graph.output]:
        if (port := port_of(info.type)) is not None:
            found[info.name] = port
    for name, port in _inferred(model, graph, known).items():
        old = found.get(name)
        found[name] = port if old is None else _merged(old, port)
    for value, key in graph.stored.items():
        found[value] = Port(graph.arrays[key].shape, graph.arrays[key].dtype)
    return found


def port_of(kind: onnx.TypeProto) -> Port | None:
    """A tensor's type as a port; None for one that is no tensor, or of no type."""
    if kind.WhichOneof("value") == "optional_type":
        kind = kind.optional_type.elem_type
    if kind.WhichOneof("value") not in {"tensor_type", "sparse_tensor_type"}:
        return None
    tensor = kind.tensor_type if kind.HasField("tensor_type") else kind.sparse_tensor_type
    dtype = element_type(tensor.elem_type)
    if not tensor.HasField("shape"):
        return Port(None, dtype)
    return Port(tuple(map(_length, tensor.shape.dim)), dtype)


def _length(dim: Any) -> Any:
    """A dimension: its length, its name, or None."""
    if dim.WhichOneof("value") == "dim_value":
        return dim.dim_value if dim.dim_value >= 0 else None
    return dim.dim_param or None


def plain(port: Port) -> Port:
    """The same without the names of free dimensions."""
    return Port(port.shape and tuple(n if isinstance(n, int) else None for n in port.shape), port.dtype)


def _merged(stated: Port, inferred: Port) -> Port:
    dtype = stated.dtype or inferred.dtype
    if stated.shape is None or inferred.shape is None or len(stated.shape) != len(inferred.shape):
        return Port(inferred.shape if stated.shape is None else stated.shape, dtype)
    pairs = zip(stated.shape, inferred.shape, strict=True)
    return Port(tuple(n if m is None or (isinstance(m, str) and n is not None) else m for m, n in pairs), dtype)


def _inferred(model: onnx.ModelProto, graph: Graph, known: _Known) -> dict[str, Port]:
    try:
        built = _model(model, graph, known)
        result = onnx.shape_inference.infer_shapes(built, check_type=False, strict_mode=False, data_prop=True)
    except Exception:
        return {}
    found: dict[str, Port] = {}
    graphs = [result.graph]
    while graphs:
        inner = graphs.pop()
        for info in [*inner.value_info, *inner.output]:
            if (port := port_of(info.type)) is not None:
                found.setdefault(info.name, port)
        graphs += [a.g for n in inner.node for a in n.attribute if a.type == onnx.AttributeProto.GRAPH]
    return found


def _model(model: onnx.ModelProto, graph: Graph, known: _Known) -> onnx.ModelProto:
    """The normal form as a model without data, but for the constants that shapes depend on."""
    outputs = [onnx.ValueInfoProto(name=name) for name in graph.outputs]
    initializers = [_tensor(value, graph, known) for value in graph.stored]
    inputs = [_named(i) for i in graph.inputs]
    built = helper.make_graph([_node(op, graph, known) for op in graph.ops], "g", inputs, outputs, initializers)
    stated = {i.name for i in [*graph.inputs, *outputs]} | set(graph.stored)
    built.value_info.extend(v for v in model.graph.value_info if v.name not in stated)
    return helper.make_model(built, opset_imports=list(model.opset_import), ir_version=max(model.ir_version, 8))


def _named(info: onnx.ValueInfoProto) -> onnx.ValueInfoProto:
    """An input whose free dimensions have names, so that one sees where else they are."""
    named = onnx.ValueInfoProto()
    named.CopyFrom(info)
    for i, dim in enumerate(named.type.tensor_type.shape.dim if info.type.HasField("tensor_type") else ()):
        if _length(dim) is None:
            dim.dim_param = f"{info.name}:{i}"
    return named


def _tensor(value: str, graph: Graph, known: _Known) -> TensorProto:
    array = graph.arrays[graph.stored[value]]
    tensor = TensorProto(name=value, dims=array.shape, data_type=_NUMBERS[array.dtype])
    found = known(value)
    if found is not None and array.dtype in {"int64", "int32", "float32", "bool"}:
        tensor.raw_data = np.ascontiguousarray(found.astype(array.dtype)).tobytes()
    return tensor


# operators of com.microsoft whose results have the shape and type of an operator of ONNX: that one, and its inputs
_ALIKE: Mapping[str, tuple[str, slice]] = {
    "QuantizeLinear": ("QuantizeLinear", slice(None)), "DequantizeLinear": ("DequantizeLinear", slice(None)),
    "QLinearAdd": ("Add", slice(0, 4, 3)), "QLinearMul": ("Mul", slice(0, 4, 3)),
    "QLinearConcat": ("Concat", slice(2, None, 3)), "QLinearSigmoid": ("Identity", slice(1)),
    "QLinearLeakyRelu": ("Identity", slice(1)), "QLinearSoftmax": ("Identity", slice(1)),
    "QLinearAveragePool": ("AveragePool", slice(1)), "QLinearGlobalAveragePool": ("GlobalAveragePool", slice(1)),
    "DynamicQuantizeMatMul": ("MatMul", slice(2)), "FusedConv": ("Conv", slice(3)), "FusedGemm": ("Gemm", slice(3)),
}  # fmt: skip


def _node(op: Op, graph: Graph, known: _Known) -> onnx.NodeProto:
    alike = _ALIKE.get(op.type) if op.domain == "com.microsoft" and not op.attributes.get("channels_last") else None
    if op.type == "Split" and op.attributes.get("num_outputs", len(op.outputs)) != len(op.outputs):
        return helper.make_node("Unclear", op.inputs, op.outputs, domain=PROGRAM)  # ONNX' own rule would crash
    if alike is None:
        node = helper.make_node(op.type, op.inputs, op.outputs, domain=op.domain)
    else:
        node = helper.make_node(alike[0], op.inputs[alike[1]], op.outputs)
    for name, value in op.attributes.items():
        if isinstance(value, Held):
            if value.value in graph.stored:
                node.attribute.append(helper.make_attribute(name, _tensor(value.value, graph, known)))
        elif value != []:
            node.attribute.append(helper.make_attribute(name, value))
    names = {"then": "then_branch", "else": "else_branch"}
    for label, body in op.bodies.items():
        node.attribute.append(helper.make_attribute(names.get(label, label), _body(body, graph, known)))
    return node


def _body(body: Body, graph: Graph, known: _Known) -> onnx.GraphProto:
    ports = [[onnx.ValueInfoProto(name=n) for n in names] for names in (body.inputs, body.outputs)]
    return helper.make_graph([_node(op, graph, known) for op in body.ops], "body", ports[0], ports[1])
