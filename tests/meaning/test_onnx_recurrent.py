"""ONNX' recurrent operators and their tensors' names: against the official cases and onnxruntime."""

from __future__ import annotations

import re
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from cases import DATA
from onnx import helper
from onnx_files import assert_close, computed, exported, f, model, runtime, stored, typed

WEIGHTS = ("W", "R", "B", "P")
GATES = {"LSTM": ("input", "output", "forget", "cell"), "GRU": ("update", "reset", "candidate"), "RNN": ()}
ROLES = {"W": ["kernel"], "R": ["recurrent"], "B": ["bias", "recurrent_bias"], "P": ["peephole"]}
_REFERENCE = re.compile(r"`([^`]+)`")


def _official() -> list[Any]:
    """The onnx package's node tests of recurrent operators."""
    from onnx.backend.test.case.node import collect_testcases

    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        found = collect_testcases(None)
    return [c for c in found if {n.op_type for n in c.model.graph.node} & {"LSTM", "GRU", "RNN"}]


OFFICIAL = _official()


def test_the_official_cases_are_there() -> None:
    assert len(OFFICIAL) >= 18


@pytest.mark.parametrize("case", OFFICIAL, ids=lambda c: c.name.removeprefix("test_"))
def test_official_cases(case: Any, tmp_path: Path) -> None:
    ((inputs, wanted),) = case.data_sets
    proto, left = stored(case.model, inputs, WEIGHTS)
    with exported(proto, tmp_path) as bundle:
        assert all(entry["layer"] for entry in bundle.manifest["tensors"].values())
        assert_close(computed(bundle, left), wanted)


def _layer(
    what: str, direction: str = "forward", lengths: bool = False, state: bool = False, peephole: bool = False,
    **attributes: Any,
) -> tuple[onnx.ModelProto, dict[str, np.ndarray[Any, Any]]]:  # fmt: skip
    """A layer of 4 units over 5 steps of 3 features, 2 sequences, with biases that differ."""
    d, n = (2 if direction == "bidirectional" else 1), max(len(GATES[what]), 1)
    weights = {"W": f(d, n * 4, 3), "R": f(d, n * 4, 4, seed=1), "B": f(d, 2 * n * 4, seed=2)}
    inputs = {"x": f(5, 2, 3, seed=3)}
    names = ["x", "W", "R", "B", "", "", ""]
    if lengths:
        inputs["lengths"], names[4] = np.asarray([5, 3], np.int32), "lengths"
    if state:
        inputs["h0"], names[5] = f(d, 2, 4, seed=4), "h0"
        if what == "LSTM":
            inputs["c0"], names[6] = f(d, 2, 4, seed=5), "c0"
    if peephole:
        weights["P"] = f(d, 12, seed=6)
        names.append("P")
    outputs = ["y", "h", "c"] if what == "LSTM" else ["y", "h"]
    while not names[-1]:
        names.pop()
    node = helper.make_node(what, names, outputs, hidden_size=4, direction=direction, **attributes)
    return typed(model([node], inputs, outputs, weights, {"": 14})), inputs


ROWS: list[tuple[str, dict[str, Any]]] = [
    (what, {"direction": way, "lengths": True, "state": True, **extra})
    for what in GATES
    for way in ("forward", "reverse", "bidirectional")
    for extra in ({}, {"clip": 0.4})
]
ROWS += [
    ("GRU", {"linear_before_reset": 1, "direction": "bidirectional", "lengths": True}),
    ("LSTM", {"peephole": True, "direction": "bidirectional"}),
    ("LSTM", {"peephole": True, "input_forget": 1, "clip": 0.5}),
    ("LSTM", {"activations": ["HardSigmoid", "ScaledTanh", "Affine"], "activation_alpha": [0.3, 1.2, 0.7],
              "activation_beta": [0.4, 0.8, 0.1]}),
    ("RNN", {"activations": ["Relu", "Tanh"], "direction": "bidirectional"}),
]  # fmt: skip


@pytest.mark.parametrize(("what", "settings"), ROWS, ids=lambda v: v if isinstance(v, str) else "-".join(map(str, v)))
def test_as_onnxruntime(what: str, settings: dict[str, Any], tmp_path: Path) -> None:
    proto, inputs = _layer(what, **settings)
    with exported(proto, tmp_path) as bundle:
        assert_close(computed(bundle, list(inputs.values())), runtime(proto, inputs))
        (lines,) = bundle.manifest["equations"].values()
        (name,) = bundle.manifest["layers"]
        named = {f"{name}.{n}" for line in lines for n in _REFERENCE.findall(line)}
        assert named == set(bundle.manifest["tensors"])


@pytest.mark.parametrize("which", ["W", "R", "B", "WRB", "WRBP"])
@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
@pytest.mark.parametrize("what", GATES)
def test_computed_weights(what: str, direction: str, which: str, tmp_path: Path) -> None:
    """Weights that are inputs of the model, one of them doubled: the layer has no tensors of them, but arguments."""
    proto, inputs = _layer(what, direction, peephole=what == "LSTM")
    weights = {t.name: onnx.numpy_helper.to_array(t) for t in proto.graph.initializer}
    given = {**inputs, **{k: v for k, v in weights.items() if k in which}}
    left = {k: v for k, v in weights.items() if k not in given}
    (node,), first = proto.graph.node, which[0]
    node.input[list(node.input).index(first)] = "doubled"
    nodes = [helper.make_node("Add", [first, first], ["doubled"]), node]
    whole = typed(model(nodes, given, node.output, left, {"": 14}))
    with exported(whole, tmp_path) as bundle:
        assert {t["role"] for t in bundle.manifest["tensors"].values()} == {r for k in left for r in ROLES[k]}
        assert_close(computed(bundle, list(given.values())), runtime(whole, given))
        named = {n for lines in bundle.manifest["equations"].values() for n in _REFERENCE.findall("\n".join(lines))}
        assert {n.rpartition(".")[2] for n in named} == {r for k in left for r in ROLES[k]}


# where the kernel is cut, and which state is taken: inputs too
PLACES = {"val_14": [0], "val_13": [128], "val_31": [256], "val_34": [384], "val_37": [512], "val_80": 0}


@pytest.mark.parametrize("name", ["dynamo_program_noinit", "legacy_noparams"])
def test_files_whose_weights_are_inputs(name: str, tmp_path: Path) -> None:
    proto = onnx.load(DATA / "onnx" / "A1_key" / f"key.{name}.onnx")
    inputs = {
        port.name: f(*(d.dim_value for d in port.type.tensor_type.shape.dim), seed=i, scale=0.2)
        for i, port in enumerate(proto.graph.input)
    }
    inputs |= {k: np.asarray(v, np.int64) for k, v in PLACES.items() if k in inputs}
    with exported(proto, tmp_path) as bundle:
        assert not any(t["role"] in {"kernel", "recurrent"} for t in bundle.manifest["tensors"].values())
        assert_close(computed(bundle, list(inputs.values())), runtime(proto, inputs))


def test_names_and_axes(tmp_path: Path) -> None:
    proto, _ = _layer("LSTM", direction="bidirectional", peephole=True)
    weights = {t.name: onnx.numpy_helper.to_array(t) for t in proto.graph.initializer}
    with exported(proto, tmp_path) as bundle:
        (name,) = bundle.manifest["layers"]
        axes = {n.removeprefix(f"{name}."): t["axes"] for n, t in bundle.manifest["tensors"].items()}
        assert axes["backward.forget.kernel"] == "in unit"
        assert axes["forward.cell.recurrent"] == "hidden unit"
        assert axes["forward.output.recurrent_bias"] == axes["backward.input.peephole"] == "unit"
        assert len(axes) == 2 * (4 * 4 + 3)
        for i, gate in enumerate(GATES["LSTM"]):
            rows = slice(4 * i, 4 * i + 4)
            np.testing.assert_array_equal(bundle[f"{name}.backward.{gate}.kernel"], weights["W"][1, rows].T)
            np.testing.assert_array_equal(bundle[f"{name}.forward.{gate}.recurrent_bias"], weights["B"][0, 16:][rows])
