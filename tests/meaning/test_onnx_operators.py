"""What ONNX' operators compute is what their rooms make of them: official node tests, and rows of our own.

Every case is run with all that can be known before running, with no operand known, and without any shapes.
"""

from __future__ import annotations

import re
import warnings
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator
from onnx_nodes import COMPUTED, NOTHING, WHOLE, Knowledge, assert_same, run
from onnx_rows import ROWS, Row, f, scalar

from wexport.layers.onnx import ATTRIBUTES, ROOMS, Lowered, UnclearError

# what the official cases need and wexport does not do; the room says so
WHOLE_ONLY = {
    r"test_cast(_no_saturate|_like|like)?_.*(FLOAT8|FLOAT4|INT4|INT2|E8M0|STRING).*": "types that are not wexport's",
    r"test_castlike_.*(FLOAT8|FLOAT4|INT4|INT2|E8M0|STRING).*": "types that are not wexport's",
    r"test_cast_e8m0_.*": "types that are not wexport's",
    r"test_training_dropout.*": "it drops",
}
# layers that want their weights stored, or at least their shapes known
LAYERS = {
    "LSTM", "GRU", "RNN", "Conv", "ConvTranspose", "ConvInteger", "QLinearConv", "DeformConv", "LayerNormalization",
    "RMSNormalization",
}  # fmt: skip
# these settings are never computed in practice; an operator whose setting is, stays whole
SETTLED = {r"test_(cumsum|cumprod)_.*": "the axis", r"test_dropout.*": "the mode"}
# results that the case states with four digits
ROUGH = {
    "test_averagepool_2d_ceil_last_window_starts_on_pad",
    "test_gridsample_bicubic",
    "test_roialign_aligned_false",
    "test_roialign_aligned_true",
}


def _matches(table: Any, name: str) -> bool:
    return any(re.fullmatch(pattern, name) for pattern in table)


def _official() -> list[Any]:
    """The node tests of the onnx package of which all operators are signed in."""
    from onnx.backend.test.case.node import collect_testcases

    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        found = collect_testcases(None)
    return [c for c in found if all(_is_single(node) for node in c.model.graph.node)]


def _is_single(node: onnx.NodeProto) -> bool:
    """Whether a node is known and needs nothing around it: what has graphs in it, or weights that must be stored, is
    run as a whole model (`test_onnx_pipeline.py`)."""
    inner = any(a.type in {onnx.AttributeProto.GRAPH, onnx.AttributeProto.GRAPHS} for a in node.attribute)
    name = (node.domain, node.op_type)
    return (
        not inner and node.op_type not in LAYERS and name not in ATTRIBUTES and (name in ROOMS or name[1] == "Constant")
    )


OFFICIAL = _official()


def test_the_official_cases_are_there() -> None:
    assert len(OFFICIAL) > 1000


@pytest.mark.parametrize("knowledge", [WHOLE, COMPUTED, NOTHING], ids=["known", "computed", "shapeless"])
def test_official_cases(knowledge: Knowledge) -> None:
    """All in one test: what pytest spends on one of 3,600 is more than what it takes."""
    wrong, whole = [], []
    for case in OFFICIAL:
        inputs, outputs = case.data_sets[0]
        try:
            for got, want in zip(run(case.model, inputs, knowledge), outputs, strict=True):
                assert_same(got, want, 1e-3 if case.name in ROUGH else None)
        except UnclearError:
            whole.append(case.name)
        except Exception as error:
            wrong.append(f"{case.name}: {type(error).__name__}: {' '.join(str(error).split())[:300]}")
    assert not wrong, "\n".join(wrong)
    allowed = WHOLE_ONLY if knowledge is WHOLE else {**WHOLE_ONLY, **SETTLED}
    assert [name for name in whole if not _matches(allowed, name)] == []


def _element(value: Any) -> int:
    return TensorProto.STRING if value.dtype.kind == "U" else helper.np_dtype_to_tensor_dtype(value.dtype)


def _model(row: Row) -> onnx.ModelProto:
    names = ["" if v is None else f"x{i}" for i, v in enumerate(row.inputs)]
    outputs = [f"y{i}" for i in range(row.outputs)]
    node = helper.make_node(row.op, names, outputs, domain=row.domain, **row.attributes)
    inputs = [
        helper.make_tensor_value_info(n, _element(v), v.shape)
        for n, v in zip(names, row.inputs, strict=True)
        if v is not None
    ]
    opsets = [helper.make_opsetid(row.domain, row.opset)]
    if row.domain:
        opsets.append(helper.make_opsetid("", 17))
    graph = helper.make_graph([node], "row", inputs, [onnx.ValueInfoProto(name=n) for n in outputs])
    return helper.make_model(graph, opset_imports=opsets, ir_version=10)


def _expected(row: Row, model: onnx.ModelProto) -> list[Any]:
    feed = {f"x{i}": v for i, v in enumerate(row.inputs) if v is not None}
    if not row.runtime:
        with np.errstate(all="ignore"):
            return list(ReferenceEvaluator(model).run(None, feed))
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return list(session.run(None, feed))


@pytest.mark.parametrize("row", ROWS, ids=lambda r: r.id)
def test_rows(row: Row) -> None:
    model = _model(row)
    expected = _expected(row, model)
    values = [v for v in row.inputs if v is not None]
    for knowledge in (WHOLE, COMPUTED, NOTHING):
        lowerings: list[Lowered] = []
        try:
            found = run(model, values, knowledge, lowerings, [np.asarray(y) for y in expected])
        except UnclearError:
            assert knowledge is not WHOLE
            assert row.op in {"CumSum", "Softmax", "LogSoftmax", "Hardmax"}
            continue
        for got, want in zip(found, expected, strict=True):
            assert_same(got, want, row.tolerance)
        if knowledge is WHOLE and row.kind is not None:
            assert [low.kind for low in lowerings] == [row.kind]


def test_sequences() -> None:
    """What no official case has: a graph that puts a sequence together, takes it apart and counts it."""
    nodes = [
        helper.make_node("SequenceConstruct", ["a", "b"], ["two"]),
        helper.make_node("SequenceInsert", ["two", "a", "first"], ["three"]),
        helper.make_node("SequenceErase", ["three", "last"], ["rest"]),
        helper.make_node("Identity", ["rest"], ["same"]),
        helper.make_node("SequenceAt", ["same", "last"], ["one"]),
        helper.make_node("SequenceLength", ["three"], ["count"]),
        helper.make_node("ConcatFromSequence", ["same"], ["joined"], axis=0),
        helper.make_node("ConcatFromSequence", ["same"], ["stacked"], axis=1, new_axis=1),
        helper.make_node("SequenceEmpty", [], ["none"], dtype=TensorProto.FLOAT),
        helper.make_node("SequenceLength", ["none"], ["zero"]),
        helper.make_node("SplitToSequence", ["a"], ["rows"], axis=0, keepdims=0),
        helper.make_node("SequenceAt", ["rows", "last"], ["row"]),
        helper.make_node("OptionalHasElement", ["a"], ["there"]),
    ]
    values = {"a": f(2, 3), "b": f(2, 3), "first": scalar(0), "last": scalar(-1)}
    inputs = [helper.make_tensor_value_info(k, _element(v), v.shape) for k, v in values.items()]
    names = ("one", "count", "joined", "stacked", "zero", "row", "there")
    graph = helper.make_graph(nodes, "sequences", inputs, [onnx.ValueInfoProto(name=n) for n in names])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    expected = ReferenceEvaluator(model).run(None, values)
    for got, want in zip(run(model, list(values.values()), COMPUTED, None, expected), expected, strict=True):
        assert_same(got, want)


def test_zip_map_keeps_the_probabilities() -> None:
    node = helper.make_node("ZipMap", ["x0"], ["y0"], domain="ai.onnx.ml", classlabels_strings=["no", "yes"])
    x = helper.make_tensor_value_info("x0", TensorProto.FLOAT, (3, 2))
    graph = helper.make_graph([node], "zip", [x], [onnx.ValueInfoProto(name="y0")])
    opsets = [helper.make_opsetid("ai.onnx.ml", 1), helper.make_opsetid("", 17)]
    lowerings: list[Lowered] = []
    value = f(3, 2)
    (found,) = run(helper.make_model(graph, opset_imports=opsets), [value], WHOLE, lowerings, [value])
    assert_same(found, value)
    assert lowerings[0].attributes == {"classes": ["no", "yes"]}
