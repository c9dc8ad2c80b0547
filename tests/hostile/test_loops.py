"""Loops that do not come to an end: what the bodies of a model may take is bounded."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
from broken import refused
from onnx import TensorProto, helper, numpy_helper

import wexport
from wexport import evaluate as evaluating
from wexport.bundle import GOLDEN
from wexport.errors import WorkError
from wexport.manifest import dump, load

INT, FLOAT, BOOL = TensorProto.INT64, TensorProto.FLOAT, TensorProto.BOOL
ONE = {"x": np.ones(2, np.float32)}
GIVEN_UP = r"^loop_\d: its bodies do not come to an end: [\d,]+ calls .*see whether its trip count"


def port(name: str, kind: int, shape: Sequence[int]) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, shape)


def turns(times: str, state: str, inner: Sequence[onnx.NodeProto], given: str) -> onnx.NodeProto:
    """A Loop that carries x through `inner` from `state`, which must give `given`."""
    nodes = [*inner, helper.make_node("Identity", [f"{given}_on"], [f"{given}_go"])]
    ports = [port(f"{given}_i", INT, []), port(f"{given}_on", BOOL, []), port(f"{given}_s", FLOAT, [2])]
    body = helper.make_graph(nodes, "body", ports, [port(f"{given}_go", BOOL, []), port(given, FLOAT, [2])])
    return helper.make_node("Loop", [times, "", state], [f"{given}_y"], body=body)


def bundle(place: Path, times: int, nested: bool = False) -> Path:
    loop = turns("n", "x", [helper.make_node("Add", ["a_s", "x"], ["a"])], "a")
    if nested:
        inner = turns("n", "b_s", [helper.make_node("Add", ["a_s", "x"], ["a"])], "a")
        loop = turns("n", "x", [inner, helper.make_node("Add", ["a_y", "x"], ["b"])], "b")
    count = numpy_helper.from_array(np.int64(times), "n")
    graph = helper.make_graph([loop], "g", [port("x", FLOAT, [2])], [port(loop.output[0], FLOAT, [2])], [count])
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)
    onnx.save(made, place / "model.onnx")
    wexport.export(place / "model.onnx", place / "out", golden=times < 10)
    return place / "out"


@pytest.fixture
def little(monkeypatch: pytest.MonkeyPatch) -> None:
    """A bound that is soon reached."""
    monkeypatch.setattr(evaluating, "MOST", 3000)


@pytest.mark.usefixtures("little")
def test_a_trip_count_without_end(tmp_path: Path) -> None:
    path = bundle(tmp_path, 2**62)
    with refused(GIVEN_UP):
        wexport.run(path, ONE)


@pytest.mark.usefixtures("little")
def test_loops_in_loops_are_counted_together(tmp_path: Path) -> None:
    path = bundle(tmp_path, 100, nested=True)
    with refused(GIVEN_UP):
        wexport.run(path, ONE)


@pytest.mark.usefixtures("little")
def test_what_is_within_the_bound_is_computed(tmp_path: Path) -> None:
    """A body of two calls, whose runs count too: the bound is reached by 1,000 turns, not passed."""
    found = wexport.run(bundle(tmp_path, 1000), ONE)
    assert next(iter(found.values())).tolist() == [1001, 1001]


def test_large_results_count_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = bundle(tmp_path, 1000)
    monkeypatch.setattr(evaluating, "_PER_CALL", 2)
    monkeypatch.setattr(evaluating, "MOST", 3999)
    with refused(GIVEN_UP):
        wexport.run(path, ONE)


@pytest.mark.usefixtures("little")
def test_verify_of_an_edited_manifest_ends(tmp_path: Path) -> None:
    path = bundle(tmp_path, 3)
    assert wexport.verify(path).golden
    manifest = load((path / "manifest.yaml").read_bytes(), "manifest")
    next(call["args"]["times"] for call in manifest["calls"] if "times" in call["args"])["const"] = 2**62
    (path / "manifest.yaml").write_bytes(dump(manifest))
    found = wexport.verify(path).differences
    assert any(f"{GOLDEN}: loop_1: its bodies do not come to an end" in line for line in found), found


@pytest.mark.usefixtures("little")
def test_golden_values_are_tried_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle(tmp_path, 2**62)
    tried = []
    monkeypatch.setattr("wexport.golden.evaluate", lambda *args: tried.append(1) or evaluating.evaluate(*args))
    with refused(GIVEN_UP):
        wexport.export(tmp_path / "model.onnx", tmp_path / "two", golden=True)
    assert (len(tried), issubclass(WorkError, wexport.UsageError)) == (1, True)
