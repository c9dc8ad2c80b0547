"""Small ONNX models: written to a file, exported, computed from the bundle."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from checked_equations import checked
from onnx import TensorProto, helper, numpy_helper

import wexport
from wexport.evaluate import evaluate

Array = np.ndarray[Any, Any]


def f(*shape: int, seed: int = 0, scale: float = 1.0) -> Array:
    """Numbers of a normal distribution, in float32."""
    return (np.random.default_rng(seed).normal(size=shape) * scale).astype(np.float32)


def model(
    nodes: Sequence[onnx.NodeProto],
    inputs: Mapping[str, Array],
    outputs: Sequence[str],
    stored: Mapping[str, Array] | None = None,
    opsets: Mapping[str, int] | None = None,
) -> onnx.ModelProto:
    """A model of these operators; the shapes of its inputs are stated, its outputs are of any type."""
    ports = [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(x.dtype), x.shape)
        for name, x in inputs.items()
    ]
    ends = [onnx.ValueInfoProto(name=name) for name in outputs]
    weights = [numpy_helper.from_array(x, name) for name, x in (stored or {}).items()]
    graph = helper.make_graph(list(nodes), "g", ports, ends, weights)
    versions = [helper.make_opsetid(k, v) for k, v in (opsets or {"": 23}).items()]
    return helper.make_model(graph, opset_imports=versions, ir_version=10)


def typed(proto: onnx.ModelProto, **types: int) -> onnx.ModelProto:
    """The model with its outputs' element types, as onnxruntime wants them (float32 unless said)."""
    for port in proto.graph.output:
        port.type.tensor_type.elem_type = types.get(port.name, TensorProto.FLOAT)
    return proto


def stored(proto: onnx.ModelProto, data: Sequence[Array], names: Sequence[str]) -> tuple[onnx.ModelProto, list[Array]]:
    """The model with these inputs stored, and the data of the other ones."""
    made = onnx.ModelProto()
    made.CopyFrom(proto)
    left = []
    for port, value in zip(proto.graph.input, data, strict=True):
        if port.name in names:
            made.graph.initializer.append(numpy_helper.from_array(np.asarray(value), port.name))
            made.graph.input.remove(port)
        else:
            left.append(value)
    return made, left


def exported(proto: onnx.ModelProto, place: Path) -> wexport.Bundle:
    """The bundle of a model."""
    place.mkdir(exist_ok=True)
    path = place / "model.onnx"
    path.write_bytes(proto.SerializeToString())
    wexport.export(path, place / "out")
    return wexport.open(place / "out")


def computed(bundle: wexport.Bundle, inputs: Sequence[Array]) -> list[Any]:
    """A model's outputs, from its bundle alone; the text of every layer's equations is computed beside it."""
    names = bundle.manifest["inputs"]
    with checked():
        values = evaluate(bundle.manifest, lambda n: bundle[n], dict(zip(names, inputs, strict=True)))
    return [values[o["value"]] for o in bundle.manifest["outputs"].values()]


def runtime(proto: onnx.ModelProto, inputs: Mapping[str, Array]) -> list[Any]:
    """What onnxruntime gives, without its optimizations."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return list(session.run(None, dict(inputs)))


def assert_close(found: Sequence[Any], wanted: Sequence[Any], tolerance: float = 1e-5) -> None:
    """Equal shapes, equal texts and whole numbers, and numbers that differ by little of the largest one."""
    assert len(found) == len(wanted)
    for mine, theirs in zip(found, wanted, strict=True):
        a, b = np.asarray(mine), np.asarray(theirs)
        assert a.shape == b.shape
        if b.dtype.kind not in "f":
            assert a.astype(b.dtype).tolist() == b.tolist()
            continue
        np.testing.assert_array_equal(np.isnan(a.astype(np.float64)), np.isnan(b))
        scale = max(float(np.nanmax(np.abs(b[np.isfinite(b)]), initial=0)), 1e-30)
        np.testing.assert_allclose(a.astype(np.float64), b, rtol=0, atol=tolerance * scale)
