"""Random ONNX graphs through everything: onnxruntime and the bundle alone give the same numbers.

Every array that a graph stores is in its bundle once, bit for bit. `HYPOTHESIS_PROFILE=search` looks much further.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_graph_control  # noqa: F401 - signs its families in
import onnx_graph_layers  # noqa: F401
import onnx_graph_ops  # noqa: F401
import onnx_graph_regions  # noqa: F401
import onnx_graph_shapes  # noqa: F401
import pytest
from hypothesis import assume, event, given, settings
from hypothesis import strategies as st
from onnx import numpy_helper
from onnx_files import Array, assert_close, computed, exported, runtime
from onnx_models import FAMILIES, OPSETS, SINCE, Builder
from rebuild import rebuilt
from went_back import edited_file, same_file

import wexport
from wexport.evaluate import unsupported

SEARCH = os.environ.get("HYPOTHESIS_PROFILE") == "search"


def check(b: Builder) -> None:
    """A graph's outputs and weights, from its bundle."""
    proto = b.model()
    wanted = runtime(proto, b.inputs)
    assume(well_conditioned(proto, b, wanted))
    with tempfile.TemporaryDirectory() as place, exported(proto, Path(place)) as bundle:
        assert not unsupported(bundle.manifest)
        assert_close(computed(bundle, list(b.inputs.values())), wanted)
        assert_whole(bundle, b.weights)
        assert_back(bundle.path, Path(place) / "model.onnx")


def assert_back(bundle: Path, source: Path) -> None:
    """What the bundle holds goes back into the file, edited or not, as ONNX' own package reads it."""
    same_file(bundle, source)
    with edited_file(bundle, source) as (edited, new):
        for tensor in onnx.load(new).graph.initializer:
            if "layout" in edited.manifest["weights"].get(tensor.name, ()):
                found = onnx.numpy_helper.to_array(tensor)
                assert found.tobytes() == rebuilt(edited, tensor.name).tobytes(), tensor.name


def well_conditioned(proto: onnx.ModelProto, b: Builder, wanted: list[Any]) -> bool:
    """Whether roundings in float32 leave the outputs as they are: then numbers that are one rounding off do, too."""
    for seed in range(2):
        rng = np.random.default_rng(seed)
        nudged = onnx.ModelProto()
        nudged.CopyFrom(proto)
        for tensor in tensors(nudged.graph):
            if tensor.name in b.rounded:
                moved = nudge(numpy_helper.to_array(tensor), rng)
                tensor.CopyFrom(numpy_helper.from_array(moved, tensor.name))
        try:
            assert_close(runtime(nudged, {n: nudge(x, rng) for n, x in b.inputs.items()}), wanted, 2e-6)
        except AssertionError:
            return False
    return True


def tensors(graph: onnx.GraphProto) -> list[onnx.TensorProto]:
    """What a graph stores, but in its bodies."""
    constants = [node for node in graph.node if node.op_type == "Constant"]
    return [*graph.initializer, *(a.t for node in constants for a in node.attribute if a.name == "value")]


def nudge(x: Array, rng: np.random.Generator) -> Array:
    """Each float moved by one rounding."""
    if x.dtype.kind != "f":
        return x
    return np.asarray(np.nextafter(x, x + rng.choice([-1, 1], x.shape).astype(x.dtype)))


def assert_whole(bundle: wexport.Bundle, weights: dict[str, Array]) -> None:
    """Every stored array is there, once, bit for bit; one that is the same as another one, by its name."""
    items = bundle.manifest["weights"]
    assert set(items) == set(weights)
    for key, value in weights.items():
        if "constant" in items[key]:
            found = np.asarray(items[key]["constant"]).astype(value.dtype)
            assert (found.tobytes(), tuple(items[key]["shape"])) == (value.tobytes(), value.shape), key
        else:
            assert rebuilt(bundle, key).tobytes() == value.tobytes(), key


@pytest.mark.parametrize("name", [n for n in FAMILIES if SINCE[n] in OPSETS])
@settings(max_examples=100 if SEARCH else 25)
@given(data=st.data())
def test_every_family(name: str, data: st.DataObject) -> None:
    b = Builder(data.draw, data.draw(st.sampled_from([v for v in OPSETS if v >= SINCE[name]])))
    FAMILIES[name](b)
    check(b)


@settings(max_examples=3000 if SEARCH else 150)
@given(st.data())
def test_graphs(data: st.DataObject) -> None:
    opset = data.draw(st.sampled_from(OPSETS))
    b = Builder(data.draw, opset)
    known = [n for n in FAMILIES if SINCE[n] <= opset]
    for name in data.draw(st.lists(st.sampled_from(known), min_size=2, max_size=7)):
        FAMILIES[name](b)
    event(f"{len(b.nodes)} nodes")
    check(b)
