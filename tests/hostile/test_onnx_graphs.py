"""ONNX graphs that contradict themselves or ask for too much: refused in one line, or exported; soon, and in little
memory; and no damaged byte gives anything else."""

from __future__ import annotations

import random
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from broken import one_line, refuse
from cases import DATA
from onnx import TensorProto, helper, numpy_helper

import wexport

OPSET = 17


def value(name: str, *shape: Any, kind: int = TensorProto.FLOAT) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, shape)


def array(name: str, *shape: int) -> TensorProto:
    numbers = np.arange(int(np.prod(shape)), dtype=np.float32).reshape(shape)
    return numpy_helper.from_array(numbers, name)


def ints(name: str, *numbers: Any) -> TensorProto:
    return numpy_helper.from_array(np.asarray(numbers, np.int64), name)


def model(
    nodes: Sequence[onnx.NodeProto],
    stored: Sequence[TensorProto] = (),
    inputs: Sequence[onnx.ValueInfoProto] | None = None,
    outputs: Sequence[str] = ("y",),
    functions: Sequence[onnx.FunctionProto] = (),
) -> bytes:
    """A model's bytes; its input is `x` of 2 x 3 unless said, its outputs have no stated type."""
    ends = [onnx.ValueInfoProto(name=name) for name in outputs]
    graph = helper.make_graph(list(nodes), "g", [value("x", 2, 3)] if inputs is None else inputs, ends, list(stored))
    opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid("own", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10, functions=functions).SerializeToString()


def node(op: str, inputs: Sequence[str], outputs: Sequence[str] = ("y",), **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(op, inputs, outputs, **attributes)


def function(name: str, nodes: Sequence[onnx.NodeProto]) -> onnx.FunctionProto:
    return helper.make_function("own", name, ["x"], ["y"], nodes, [helper.make_opsetid("", OPSET)])


def call(name: str, inputs: Sequence[str] = ("x",), outputs: Sequence[str] = ("y",)) -> onnx.NodeProto:
    return helper.make_node(name, inputs, outputs, domain="own")


def doubling(levels: int) -> list[onnx.FunctionProto]:
    """Functions that call the next one twice."""
    twice = [[call(f"F{i + 1}", ["x"], ["a"]), call(f"F{i + 1}", ["a"], ["y"])] for i in range(levels)]
    return [*(function(f"F{i}", nodes) for i, nodes in enumerate(twice)), function(f"F{levels}", [node("Relu", ["x"])])]


def nested(levels: int) -> bytes:
    """If in If in If: as deep as protobuf lets one be written; deeper ones are in test_onnx_container.py."""
    inner = plain_body()
    for _ in range(levels):
        made = node("If", ["flag"], then_branch=inner, else_branch=plain_body())
        inner = helper.make_graph([made], "body", [], [onnx.ValueInfoProto(name="y")])
    return model(inner.node, inputs=[value("x", 2, 3), value("flag", kind=TensorProto.BOOL)])


def plain_body() -> onnx.GraphProto:
    return helper.make_graph([node("Relu", ["x"])], "body", [], [onnx.ValueInfoProto(name="y")])


W = array("W", 3, 4)
LOOP = helper.make_node("F", ["x"], ["y"], domain="own")
# What is refused, and a part of why.
REFUSED: dict[str, tuple[bytes, str]] = {
    "cycle": (model([node("Add", ["x", "b"], ["a"]), node("Relu", ["a"], ["b"]), node("Relu", ["b"])]), "cyclic"),
    "cycle of one": (model([node("Relu", ["y"])]), "waits for its own result; the graph is cyclic"),
    "dangling input": (model([node("Relu", ["nothing"])]), "nothing gives the value 'nothing'"),
    "dangling output": (model([node("Relu", ["x"])], outputs=["z"]), "outputs: nothing gives the value 'z'"),
    "dangling in a body": (
        model([node("If", ["x"], then_branch=plain_body(), else_branch=helper.make_graph(
            [node("Relu", ["nothing"])], "body", [], [onnx.ValueInfoProto(name="y")]))]),
        "nothing gives the value 'nothing'",
    ),
    "dangling output of a body": (
        model([node("If", ["x"], then_branch=plain_body(), else_branch=helper.make_graph(
            [], "body", [], [onnx.ValueInfoProto(name="z")]))]),
        "operator 'If': nothing gives the value 'z'",
    ),
    "dangling output of a function": (
        model([call("F")], functions=[function("F", [node("Relu", ["x"], ["z"])])]),
        "function 'own.F': nothing gives the value 'y'",
    ),
    "two initializers": (model([node("MatMul", ["x", "W"])], [W, W]), "two initializers are called 'W'"),
    "two outputs": (model([node("Relu", ["x"]), node("Sigmoid", ["x"])]), "two operators give the value 'y'"),
    "output twice in an operator": (model([node("Split", ["x"], ["y", "y"])]), "two operators give the value 'y'"),
    "no name": (model([node("MatMul", ["x", ""])], [array("", 3, 4)]), "an initializer has no name"),
    "function of itself": (model([call("F")], functions=[function("F", [LOOP])]), "too deeply in each other"),
    "functions in a circle": (
        model([call("F")], functions=[function("F", [call("G")]), function("G", [call("F")])]),
        "too deeply in each other",
    ),
    "function bomb": (model([call("F0")], functions=doubling(30)), "too deeply in each other, or are too many"),
    "functions too deep": (
        model([call("F0")], functions=[
            *(function(f"F{i}", [call(f"F{i + 1}")]) for i in range(60)), function("F60", [node("Relu", ["x"])])]),
        "too deeply",
    ),
    "negative dims": (model([node("Add", ["x", "W"])], [TensorProto(name="W", dims=[-3], data_type=1)]), "below 0"),
    "huge dims": (
        model([node("Add", ["x", "W"])], [TensorProto(name="W", dims=[1 << 40, 1 << 40], data_type=1)]),
        "more than an array",
    ),
    "short data": (
        model([node("Add", ["x", "W"])], [TensorProto(name="W", dims=[3, 4], data_type=1, raw_data=bytes(40))]),
        "has 40 bytes of data in raw_data, expected 48",
    ),
    "unknown type": (
        model([node("Add", ["x", "W"])], [TensorProto(name="W", dims=[1], data_type=99, raw_data=bytes(4))]),
        "element type 99",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("content", "match"), REFUSED.values(), ids=REFUSED)
def test_graphs_that_are_refused(content: bytes, match: str, tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(content)
    refuse(tmp_path / "m.onnx", match, seconds=10)


def conv(**attributes: Any) -> bytes:
    return model([node("Conv", ["x", "W"], **attributes)], [array("W", 2, 3, 3, 3)], [value("x", 1, 3, 8, 8)])


def lstm(hidden: int, *stored: TensorProto, **attributes: Any) -> bytes:
    names = ["x", *(t.name for t in stored)]
    return model([node("LSTM", names, hidden_size=hidden, **attributes)], stored, [value("x", 5, 2, 3)])


HUGE = 10**9
constant = node("Constant", [], ["c"])
constant.attribute.add(name="value_ints", type=onnx.AttributeProto.UNDEFINED)
FAR = (1 << 63) - 1
SQUARE = [array("W", 1, 16, 3), array("R", 1, 16, 4)]
X4 = [value("x", 1, 2, 8, 8)]
# What makes no sense for an operator: refused, or exported whole; nothing else.
ABSURD: dict[str, bytes] = {
    "axis": model([node("Softmax", ["x"], axis=HUGE)]),
    "negative axis": model([node("Concat", ["x", "x"], axis=-HUGE)]),
    "axis of a concat of weights": model([node("Concat", ["W", "W"], ["c"], axis=7), node("MatMul", ["x", "c"])], [W]),
    "flatten": model([node("Flatten", ["x"], axis=HUGE)]),
    "permutation with repeats": model([node("Transpose", ["W"], ["t"], perm=[0, 0]), node("MatMul", ["x", "t"])], [W]),
    "permutation out of range": model([node("Transpose", ["W"], ["t"], perm=[5, 1]), node("MatMul", ["x", "t"])], [W]),
    "short permutation": model([node("Transpose", ["W"], ["t"], perm=[0]), node("MatMul", ["x", "t"])], [W]),
    "permutation of x": model([node("Transpose", ["x"], perm=[0, 5])]),
    "sizes that do not sum": model(
        [node("Split", ["W", "s"], ["a", "b"], axis=1), node("MatMul", ["x", "a"])], [W, ints("s", 3, 9)]
    ),
    "negative sizes": model(
        [node("Split", ["W", "s"], ["a", "b"], axis=1), node("MatMul", ["x", "a"])], [W, ints("s", -3, 7)]
    ),
    "gather out of range": model(
        [node("Gather", ["W", "i"], ["g"], axis=1), node("MatMul", ["x", "g"])], [W, ints("i", 99, -99)]
    ),
    "gather of an axis that is not there": model([node("Gather", ["W", "i"], axis=9)], [W, ints("i", 0)]),
    "slice of weights": model(
        [node("Slice", ["W", "a", "b", "c", "d"], ["s"]), node("MatMul", ["x", "s"])],
        [W, ints("a", -FAR), ints("b", FAR), ints("c", 9), ints("d", 0)],
    ),
    "slice without a step": model(
        [node("Slice", ["W", "a", "b", "c", "d"], ["s"]), node("MatMul", ["x", "s"])],
        [W, ints("a", 0), ints("b", 2), ints("c", 0), ints("d", 0)],
    ),
    "reshape to other sizes": model(
        [node("Reshape", ["W", "s"], ["r"]), node("MatMul", ["x", "r"])], [W, ints("s", 5, 5)]
    ),
    "reshape with two unknowns": model(
        [node("Reshape", ["W", "s"], ["r"]), node("MatMul", ["x", "r"])], [W, ints("s", -1, -1)]
    ),
    "squeeze of what is long": model(
        [node("Squeeze", ["W", "s"], ["r"]), node("MatMul", ["x", "r"])], [W, ints("s", 0)]
    ),
    "unsqueeze twice": model([node("Unsqueeze", ["W", "s"], ["r"]), node("Add", ["x", "r"])], [W, ints("s", 0, 0)]),
    "expand": model([node("Expand", ["W", "s"], ["e"]), node("MatMul", ["x", "e"])], [W, ints("s", HUGE, 3, 4)]),
    "expand x": model([node("Expand", ["x", "s"])], [ints("s", HUGE, HUGE, 2, 3)]),
    "fill": model([node("ConstantOfShape", ["s"], ["f"]), node("Add", ["x", "f"])], [ints("s", HUGE, HUGE)]),
    "negative fill": model([node("ConstantOfShape", ["s"], ["f"]), node("Add", ["x", "f"])], [ints("s", -1, -5)]),
    "range": model(
        [node("Range", ["a", "b", "c"], ["r"]), node("Gather", ["W", "r"])],
        [W, numpy_helper.from_array(np.int64(0), "a"), numpy_helper.from_array(np.int64(FAR), "b"),
         numpy_helper.from_array(np.int64(1), "c")],
    ),
    "range of no steps": model(
        [node("Range", ["a", "b", "c"], ["r"]), node("Gather", ["W", "r"])],
        [W, *(numpy_helper.from_array(np.int64(n), name) for n, name in ((0, "a"), (9, "b"), (0, "c")))],
    ),
    "tile": model([node("Tile", ["W", "s"], ["t"]), node("MatMul", ["x", "t"])], [W, ints("s", HUGE, HUGE)]),
    "tile x": model([node("Tile", ["x", "s"])], [ints("s", FAR, FAR)]),
    "one hot": model([node("OneHot", ["x", "d", "v"])], [ints("d", FAR), array("v", 2)]),
    "pad": model([node("Pad", ["x", "p"])], [ints("p", FAR, FAR, FAR, FAR)]),
    "negative pad": model([node("Pad", ["x", "p"])], [ints("p", -9, -9, -9, -9)]),
    "resize": model([node("Resize", ["x", "", "", "s"])], [ints("s", HUGE, HUGE)]),
    "top": model([node("TopK", ["x", "k"], ["y", "i"])], [ints("k", FAR)]),
    "power": model([node("Pow", ["a", "b"], ["p"]), node("Add", ["x", "p"])], [ints("a", 9), ints("b", FAR)]),
    "shift": model([node("Div", ["a", "b"], ["p"]), node("Reshape", ["x", "p"])], [ints("a", 6), ints("b", 0)]),
    "kernel shape": conv(kernel_shape=[-3, -3]),
    "kernel shape of others": conv(kernel_shape=[5, 5, 5]),
    "strides": conv(strides=[0, 0]),
    "negative strides": conv(strides=[-1, -2]),
    "dilations": conv(dilations=[HUGE, HUGE]),
    "pads": conv(pads=[FAR, FAR, FAR, FAR]),
    "short pads": conv(pads=[1]),
    "groups": conv(group=0),
    "negative groups": conv(group=-2),
    "many groups": conv(group=HUGE),
    "auto pad": conv(auto_pad="NOWHERE"),
    "conv of rank two": model([node("Conv", ["x", "W"])], [W]),
    "conv without a weight": model([node("Conv", ["x"])], [], X4),
    "transposed conv": model(
        [node("ConvTranspose", ["x", "W"], output_padding=[HUGE, HUGE])], [array("W", 2, 3, 3, 3)], X4
    ),
    "pool": model([node("MaxPool", ["x"], kernel_shape=[-1, 0])], [], X4),
    "pool without a window": model([node("AveragePool", ["x"])], [], X4),
    "pool of nothing": model([node("AveragePool", ["x"], kernel_shape=[HUGE, HUGE], strides=[0, 0])], [], X4),
    "norm": model([node("BatchNormalization", ["x", "s", "s", "s", "s"])], [array("s", 7)], X4),
    "norm of half its inputs": model([node("BatchNormalization", ["x", "s"])], [array("s", 2)], X4),
    "layer norm": model([node("LayerNormalization", ["x", "s"], axis=77)], [array("s", 3)]),
    "hidden size": lstm(5, *SQUARE),
    "no hidden size": lstm(0, *SQUARE),
    "negative hidden size": lstm(-4, *SQUARE),
    "huge hidden size": lstm(HUGE, *SQUARE),
    "directions": lstm(4, *SQUARE, direction="bidirectional"),
    "no direction": lstm(4, *SQUARE, direction="sideways"),
    "activations": lstm(4, *SQUARE, activations=["Tanh"]),
    "unknown activations": lstm(4, *SQUARE, activations=["A", "B", "C"]),
    "flat weights": lstm(4, array("W", 48), array("R", 64)),
    "weights of rank two": lstm(4, array("W", 16, 3), array("R", 16, 4)),
    "short bias": lstm(4, *SQUARE, array("B", 1, 7)),
    "lstm without a recurrent kernel": lstm(4, SQUARE[0]),
    "gemm of rank three": model([node("Gemm", ["x", "W", "b"])], [array("W", 2, 3, 4), array("b", 4)]),
    "gemm of a bias that does not fit": model([node("Gemm", ["x", "W", "b"])], [W, array("b", 9)]),
    "gemm that does not fit": model([node("Gemm", ["x", "W"], transA=1, transB=1)], [W]),
    "product that does not fit": model([node("MatMul", ["x", "W"])], [array("W", 7, 5)]),
    "einsum": model([node("Einsum", ["x", "W"], equation="ab,->(")], [W]),
    "cast": model([node("Cast", ["x"], to=99)]),
    "cast to a list": model([node("Cast", ["x"], to=[1, 2])]),
    "cast to nothing": model([node("Cast", ["x"])]),
    "quantized": model(
        [node("DequantizeLinear", ["q", "s"], ["d"], axis=HUGE), node("MatMul", ["x", "d"])],
        [numpy_helper.from_array(np.ones((3, 4), np.int8), "q"), array("s", 7)],
    ),
    "loop": model([node("Loop", ["", "", "x"])]),
    "scan": model([node("Scan", ["x"], body=plain_body(), num_scan_inputs=HUGE)]),
    "negative scan": model([node("Scan", ["x"], body=plain_body(), num_scan_inputs=-3)]),
    "if without a branch": model([node("If", ["x"], then_branch=plain_body())]),
    "no inputs": model([node("Relu", [])]),
    "no outputs": model([node("Relu", ["x"], []), node("Relu", ["x"])]),
    "nothing given": model([node("Identity", ["x"], []), node("Constant", [], [], value_int=3), node("Relu", ["x"])]),
    "constant of another type": model([constant, node("Add", ["x", "c"])]),
    "normalized axes": model([node("LayerNormalization", ["x", "s"], axis=-FAR)], [array("s", 3)]),
    "normalized axes without a mean": model([node("RMSNormalization", ["x", "s"], axis=-FAR)], [array("s", 3)]),
    "gather at one place": model([node("Gather", ["x", "i"], axis=FAR)], [numpy_helper.from_array(np.int64(0), "i")]),
    "product of one": model([node("MatMul", ["x"], ["p"]), node("Add", ["p", "b"])], [array("b", 3)]),
    "root of nothing": model([node("Sqrt", [], ["r"]), node("Div", ["x", "r"])]),
    "scale of nothing": model([node("DequantizeLinear", ["x"], ["d"]), node("MatMul", ["d", "W"])], [W]),
    "no type": model([node("", ["x"])]),
    "attributes of other types": model([node("Conv", ["x", "W"], strides="two", pads=1.5)], [W], X4),
    "strings": model([node("Gather", ["s", "x"])], [helper.make_tensor("s", TensorProto.STRING, [1], ["a"])]),
    "an input that is stored": model([node("MatMul", ["x", "W"])], [W], [value("x", 2, 3), value("W", 9, 9)]),
    "an output that is stored": model([], [W], outputs=["W"]),
    "an output that is an input": model([], outputs=["x"]),
    "control characters": model(
        [node("MatMul", ["x", "W\x00\x1b[31m\n\u202e"], ["h\r\n"], name="n\x07\n"), node("Relu", ["h\r\n"])],
        [array("W\x00\x1b[31m\n\u202e", 3, 4)],
    ),
    "long names": model(
        [node("MatMul", ["x", "W" * 70_000], ["h" * 70_000], name="n" * 70_000), node("Relu", ["h" * 70_000])],
        [array("W" * 70_000, 3, 4)],
    ),
    "names of paths": model([node("MatMul", ["x", "../../etc/w"], name="/../..")], [array("../../etc/w", 3, 4)]),
    "nested bodies": nested(24),
}  # fmt: skip


@pytest.mark.parametrize("content", ABSURD.values(), ids=ABSURD)
def test_operators_that_make_no_sense(content: bytes, tmp_path: Path) -> None:
    """Refused, or exported whole: but soon, in little memory, and in one line."""
    path = tmp_path / "m.onnx"
    path.write_bytes(content)
    tracemalloc.start()
    try:
        plan = attempt(path, tmp_path / "out")
        assert tracemalloc.get_traced_memory()[1] < 48 << 20
    finally:
        tracemalloc.stop()
    if plan is not None:
        assert all(one_line(text) for text in plan.warnings) or "characters" in plan.model.name
        assert wexport.verify(tmp_path / "out").differences == ()


# What stays whole, and what is said of it.
WHOLE: dict[str, tuple[bytes, str]] = {
    "loop of another body": (
        model([node("Loop", ["", "", "x"], ["z"], body=plain_body()), node("Relu", ["z"])]),
        "its body takes",
    ),
    "more outputs than it has": (
        model([node("Relu", ["x"], ["a", "b"]), node("Add", ["a", "b"])]),
        "gives 'b', which is more than it has to give",
    ),
    "places of lengths": (
        model([node("Shape", ["x"], ["s"]), node("Gather", ["s"], ["n"]), node("Expand", ["x", "n"])]),
        "Gather has no input 1",
    ),
    "an operand that is left out": (
        model([node("Mul", ["x", "c"])], [helper.make_tensor("c", TensorProto.COMPLEX128, [1], [1 + 2j])]),
        "c is read, but left out",
    ),
}


@pytest.mark.parametrize(("content", "word"), WHOLE.values(), ids=WHOLE)
def test_what_stays_whole(content: bytes, word: str, tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(content)
    plan = wexport.export(tmp_path / "m.onnx", tmp_path / "out")
    assert any(word in text for text in plan.warnings), plan.warnings


def test_more_parts_than_the_split_says(tmp_path: Path) -> None:
    """ONNX' own shape inference reads past its list of lengths here, which ends the process."""
    proto = onnx.ModelProto.FromString(
        model([node("Split", ["x"], list("abcd"), axis=1, num_outputs=2), node("Relu", ["d"])])
    )
    proto.opset_import[0].version = 18
    (tmp_path / "m.onnx").write_bytes(proto.SerializeToString())
    assert wexport.export(tmp_path / "m.onnx", tmp_path / "out").tensors == ()


def attempt(path: Path, out: Path, seconds: float = 10.0) -> wexport.Plan | None:
    """Export a model; None where it is refused as it should be."""
    started = time.process_time()
    try:
        plan = wexport.export(path, out)
    except wexport.WexportError as error:
        plan, text = None, str(error)
    assert time.process_time() - started < seconds
    if plan is None:
        assert one_line(text), ascii(text)
        assert len(text) < 2000
        assert not out.exists()
    return plan


def test_a_long_chain_is_no_deep_one(tmp_path: Path) -> None:
    """100,000 operators behind each other, the last one first in the file."""
    count = 100_000
    names = ["x", *(f"v{i}" for i in range(count - 1)), "y"]
    nodes = [node("Relu", [names[i]], [names[i + 1]]) for i in reversed(range(count))]
    (tmp_path / "m.onnx").write_bytes(model(nodes))
    started = time.process_time()
    plan = wexport.plan(tmp_path / "m.onnx")
    plan.close()
    assert len(plan.model.calls) == count
    assert time.process_time() - started < 20


COMMANDS = ["cycle", "dangling input", "function bomb", "short data"]


@pytest.mark.parametrize("name", COMMANDS)
def test_the_program_says_it_in_a_line(name: str, tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(REFUSED[name][0])
    command = [sys.executable, "-m", "wexport", str(tmp_path / "m.onnx"), str(tmp_path / "out")]
    found = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (found.returncode, found.stdout, found.stderr.count("\n")) == (2, "", 1), found
    assert not (tmp_path / "out").exists()


FUZZED = [
    "A1_key/two_tower.legacy.onnx", "A2_rnn/lstmcell_loop.legacy.onnx", "A3_cnn/weightnorm.dynamo.onnx",
    "B_keras/simplernn.export.onnx", "D_hand/function_weights.onnx", "D_hand/loop_if_nested_const.onnx",
    "D_hand/sparse_init.onnx", "D_hand/dq_blocked_int4.onnx", "D_hand/scan_weights.onnx", "D_sklearn/rf_clf.onnx",
]  # fmt: skip


@pytest.mark.parametrize("name", FUZZED)
def test_damaged_bytes(name: str, tmp_path: Path) -> None:
    content = (DATA / "onnx" / name).read_bytes()
    chance = random.Random(name)
    path = tmp_path / "m.onnx"
    for i in range(40):
        data = bytearray(content)
        for _ in range(chance.randint(1, 3)):
            place = chance.randrange(len(data))
            if chance.random() < 0.3:
                del data[place : place + chance.randint(1, 4)]
            else:
                data[place] = chance.choice([0, 1, 255, 127, data[place] ^ (1 << chance.randrange(8))])
        path.write_bytes(data)
        try:
            attempt(path, tmp_path / str(i))
        except AssertionError:
            raise
        except Exception as error:
            raise AssertionError(f"case {i}: {type(error).__name__}: {error}") from error
