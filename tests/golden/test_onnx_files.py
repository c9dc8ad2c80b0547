"""ONNX files as the exporters wrote them: every array that one stores is in its bundle, once, bit for bit."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx
import pytest
from cases import Case, onnx_cases
from conftest import Exported
from onnx import AttributeProto, helper, numpy_helper
from rebuild import rebuilt
from safetensors import safe_open

import wexport
from wexport import dtypes
from wexport.evaluate import evaluate

CASES = onnx_cases()
GROUPS = {
    "A1_key", "A2_rnn", "A3_cnn", "A4_attn", "A5_dtypes", "A5_external", "A6_quant", "B_keras", "C_identity", "D_hand",
    "D_sklearn",
}  # fmt: skip
# Operators of the files that are exported whole, and in which files.
UNKNOWN = {
    "Concat": r"A2_rnn/lstm_proj\.dynamo\..*",
    "StatefulPartitionedCall": r"B_keras/(conv13d|groupconv)\..*",
}
_UNKNOWN = re.compile(r": (\S+) is not an operator that wexport knows")
# Operators whose numbers are lists among their attributes.
_CLASSIC = re.compile(r"ai\.onnx\.ml\.((Linear|SVM|TreeEnsemble)(Classifier|Regressor)|Scaler)")
_LISTS = {AttributeProto.FLOATS: np.float32, AttributeProto.INTS: np.int64}
_NO_TENSOR = {onnx.TensorProto.STRING, onnx.TensorProto.COMPLEX128}
_PLAIN = {"value_float", "value_floats", "value_int", "value_ints"}


class Found(NamedTuple):
    """An array that a file stores: its name there, and whether it is in the main graph, where names are unique."""

    name: str
    main: bool
    fact: tuple[str, tuple[int, ...], bytes | None]


def fact(tensor: onnx.TensorProto) -> tuple[str, tuple[int, ...], bytes | None]:
    """An array's type, shape and bytes as they are stored; no bytes of what no tensor can hold."""
    name = onnx.TensorProto.DataType.Name(tensor.data_type)
    if tensor.data_type in _NO_TENSOR:
        return name, tuple(tensor.dims), None
    if tensor.HasField("raw_data"):
        return name, tuple(tensor.dims), tensor.raw_data
    if name.startswith("FLOAT6"):  # six bits behind each other
        bits = np.unpackbits(numpy_helper.to_array(tensor).view(np.uint8).reshape(-1, 1), axis=1, bitorder="little")
        return name, tuple(tensor.dims), np.packbits(bits[:, :6].reshape(-1), bitorder="little").tobytes()
    if name in {"INT4", "UINT4", "INT2", "UINT2", "FLOAT4E2M1"}:
        return name, tuple(tensor.dims), bytes(tensor.int32_data)
    return name, tuple(tensor.dims), numpy_helper.to_array(tensor).tobytes()


def stored(model: onnx.ModelProto) -> list[Found]:
    """Every array of a model, found by walking through all of it; of a function once, however often it is called."""
    found = list(_of_graph(model.graph, True))
    for function in model.functions:
        found += _of_nodes(function.node, False)
    for info in model.training_info:
        found += [*_of_graph(info.initialization, False), *_of_graph(info.algorithm, False)]
    return found


def _of_graph(graph: onnx.GraphProto, main: bool) -> Iterator[Found]:
    for tensor in graph.initializer:
        yield Found(tensor.name, main, fact(tensor))
    for sparse in graph.sparse_initializer:
        yield from _of_sparse(sparse, sparse.values.name, main)
    yield from _of_nodes(graph.node, main)


def _of_sparse(sparse: onnx.SparseTensorProto, name: str, main: bool) -> Iterator[Found]:
    yield Found(name, main, fact(sparse.values))
    yield Found(f"{name}.indices", main, fact(sparse.indices))


def _of_nodes(nodes: Iterable[onnx.NodeProto], main: bool) -> Iterator[Found]:
    for node in nodes:
        constant = node.op_type == "Constant"
        for attribute in node.attribute:
            name = node.output[0] if constant else f"{node.output[0]}.{attribute.name}"
            if attribute.type == AttributeProto.TENSOR:
                yield Found(name, main, fact(attribute.t))
            elif attribute.type == AttributeProto.SPARSE_TENSOR:
                yield from _of_sparse(attribute.sparse_tensor, name, main)
            elif constant and attribute.name in _PLAIN:
                value = np.asarray(onnx.helper.get_attribute_value(attribute))
                value = value.astype(np.float32 if "float" in attribute.name else np.int64)
                yield Found(name, main, fact(numpy_helper.from_array(value)))
            elif _CLASSIC.fullmatch(f"{node.domain}.{node.op_type}") and attribute.type in _LISTS:
                value = np.asarray(onnx.helper.get_attribute_value(attribute), _LISTS[attribute.type])
                if not attribute.name.startswith("classlabels"):
                    yield Found(f"{node.name}.{attribute.name}", main, fact(numpy_helper.from_array(value)))
            for graph in [attribute.g, *attribute.graphs]:
                yield from _of_graph(graph, False)


def given(bundle: wexport.Bundle, key: str) -> tuple[tuple[int, ...], bytes]:
    """The shape and bytes of an array, from the bundle."""
    item = bundle.manifest["weights"][key]
    if "constant" in item:
        return tuple(item["shape"]), np.asarray(item["constant"]).astype(dtypes.numpy_dtype(item["dtype"])).tobytes()
    return tuple(item["shape"]), rebuilt(bundle, key).tobytes()


def test_every_group_is_there() -> None:
    assert {c.path.relative_to(c.path.parents[1]).parts[0] for c in CASES} - {"A5_external"} <= GROUPS | {
        "key.ext_pertensor"
    }
    assert len(CASES) > 320


@pytest.mark.parametrize("model", CASES, ids=lambda c: c.id)
def test_every_stored_array_is_in_the_bundle_once(model: Case, exported: Exported) -> None:
    bundle = exported(model)
    weights, left_out = bundle.manifest["weights"], bundle.manifest["left_out"]
    assert not set(weights) & set(left_out)
    arrays = stored(onnx.load(model.path))
    keys = [*weights, *left_out]
    for name, main, (_, shape, data) in arrays:
        fits = [k for k in keys if k == name] if main else [k for k in keys if k == name or k.endswith(f"/{name}")]
        same = [k for k in fits if _is(bundle, k, shape, data)]
        assert same, f"{name}: no entry is this array; of its name are {fits}"
        keys.remove(same[0])
    assert keys == [], "entries that the file does not store"


def _is(bundle: wexport.Bundle, key: str, shape: tuple[int, ...], data: bytes | None) -> bool:
    if key in bundle.manifest["left_out"]:
        return tuple(bundle.manifest["left_out"][key]["shape"]) == shape
    return given(bundle, key) == (shape, data)


@pytest.mark.parametrize("model", CASES, ids=lambda c: c.id)
def test_the_bundle_has_the_outputs_and_is_read_by_the_safetensors_library(model: Case, exported: Exported) -> None:
    bundle = exported(model)
    with safe_open(bundle.path / "model.safetensors", framework="numpy") as file:
        assert sorted(file.keys()) == sorted(bundle.manifest["tensors"])
    proto = onnx.load(model.path, load_external_data=False)
    assert list(bundle.manifest["outputs"]) == [p.name for p in proto.graph.output]


@pytest.mark.parametrize("model", CASES, ids=lambda c: c.id)
def test_two_runs_give_identical_bytes(model: Case, exported: Exported, tmp_path: Path) -> None:
    wexport.export(model.path, tmp_path / "out")
    first = {p.name: p.read_bytes() for p in exported(model).path.iterdir()}
    assert {p.name: p.read_bytes() for p in (tmp_path / "out").iterdir()} == first


@pytest.mark.parametrize("model", CASES, ids=lambda c: c.id)
def test_warnings(model: Case) -> None:
    """An operator that is not known is the only thing to warn of, and every such operator is listed."""
    plan = wexport.plan(model.path)
    plan.close()
    found = {word[1] if (word := _UNKNOWN.search(text)) else text for text in plan.warnings}
    assert found == {operator for operator, files in UNKNOWN.items() if re.fullmatch(files, model.id)}


@pytest.mark.parametrize("operator", UNKNOWN)
def test_every_unknown_operator_occurs(operator: str) -> None:
    assert any(re.fullmatch(UNKNOWN[operator], model.id) for model in CASES)


# -- functions ---------------------------------------------------------------------------------------------------------


def scaled(nodes: list[onnx.NodeProto], calls: list[onnx.NodeProto], attributes: Sequence[str] = ()) -> onnx.ModelProto:
    """A model whose function `own.F` has these operators, x and flag as inputs and y as its output."""
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid("own", 1)]
    function = helper.make_function("own", "F", ["x", "flag"], ["y"], nodes, opsets, attributes)
    inputs = [
        helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [3]),
        helper.make_tensor_value_info("flag", onnx.TensorProto.BOOL, []),
    ]
    outputs = [helper.make_tensor_value_info(c.output[0], onnx.TensorProto.FLOAT, [3]) for c in calls]
    graph = helper.make_graph(calls, "g", inputs, outputs)
    return helper.make_model(graph, functions=[function], opset_imports=opsets, ir_version=10)


def vector(*numbers: float) -> onnx.TensorProto:
    return numpy_helper.from_array(np.asarray(numbers, np.float32))


def chosen(name: str, then: onnx.TensorProto, other: onnx.TensorProto) -> onnx.NodeProto:
    """An If whose two bodies give a constant of the same name each."""
    value = helper.make_tensor_value_info("c", onnx.TensorProto.FLOAT, [3])
    bodies = [
        helper.make_graph([helper.make_node("Constant", [], ["c"], value=t)], "body", [], [value])
        for t in (then, other)
    ]
    return helper.make_node("If", ["flag"], [name], then_branch=bodies[0], else_branch=bodies[1])


def results(model: onnx.ModelProto, folder: Path, flag: bool) -> tuple[list[Any], list[str]]:
    """A model's outputs, from its bundle, and the keys of what it stores."""
    (folder / "m.onnx").write_bytes(model.SerializeToString())
    wexport.export(folder / "m.onnx", folder / str(flag))
    with wexport.open(folder / str(flag)) as bundle:
        inputs = {"x": np.ones(3, np.float32), "flag": np.asarray(flag)}
        values = evaluate(bundle.manifest, lambda n: bundle[n], inputs)
        outs = [np.asarray(values[o["value"]]).tolist() for o in bundle.manifest["outputs"].values()]
        return outs, sorted([*bundle.manifest["weights"], *bundle.manifest["left_out"]])


@pytest.mark.parametrize("flag", [True, False])
def test_bodies_of_a_function_have_constants_of_their_own(flag: bool, tmp_path: Path) -> None:
    nodes = [
        chosen("a", vector(1, 2, 3), vector(4, 5, 6)),
        chosen("b", vector(10, 20, 30), vector(40, 50, 60)),
        helper.make_node("Add", ["a", "b"], ["c"]),
        helper.make_node("Mul", ["c", "x"], ["y"]),
    ]
    calls = [helper.make_node("F", ["x", "flag"], [f"y{i}"], f"call{i}", domain="own") for i in range(2)]
    found, keys = results(scaled(nodes, calls), tmp_path, flag)
    assert found == [[11, 22, 33] if flag else [44, 55, 66]] * 2
    assert keys == [f"own.F/{name}/{body}/c" for name in "ab" for body in ("else", "then")]


def test_what_a_call_hands_to_a_function_is_its_own(tmp_path: Path) -> None:
    constant = helper.make_node("Constant", [], ["c"])
    constant.attribute.add(name="value", ref_attr_name="number", type=AttributeProto.TENSOR)
    nodes = [constant, helper.make_node("Mul", ["c", "x"], ["y"])]
    calls = [
        helper.make_node(
            "F", ["x", "flag"], [f"y{i}"], f"call{i}", domain="own", number=vector(i, 2, 3), unread=vector(7)
        )
        for i in range(2)
    ]
    found, keys = results(scaled(nodes, calls, ["number", "unread"]), tmp_path, True)
    assert found == [[0, 2, 3], [1, 2, 3]]
    assert keys == ["call0/c", "call1/c", "y0.unread", "y1.unread"]


def test_a_function_stores_its_arrays_once(tmp_path: Path) -> None:
    nodes = [helper.make_node("Constant", [], ["c"], value=vector(2, 3, 4)), helper.make_node("Mul", ["c", "x"], ["y"])]
    calls = [helper.make_node("F", ["x", "flag"], [f"y{i}"], f"call{i}", domain="own") for i in range(2)]
    found, keys = results(scaled(nodes, calls), tmp_path, True)
    assert found == [[2, 3, 4]] * 2
    assert keys == ["own.F/c"]
