"""One known change to a real bundle, and the difference says that, and nothing else.

The texts that people read are in `golden/`; `WRITE_GOLDEN=1 pytest tests/delta` writes them anew, to be read by eye.
"""

from __future__ import annotations

import itertools
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mutations_graph
import numpy as np
import pytest
import twins
from cases import DATA
from jsonschema import Draft202012Validator
from mutations import ROWS
from parts import Parts

import wexport
from wexport.delta.difference import Difference
from wexport.delta.models import Fact
from wexport.delta.outline import verdict as in_words
from wexport.delta.schema import schema
from wexport.report_diff import as_json, coloured, markdown, text
from wexport.verbs.diff import Verdict

GOLDEN = Path(__file__).parent / "golden"
MODELS = {
    "stock": "keras2.0.8-tf1.4/m1_stock.h5",
    "nested": "keras2.0.8-tf1.4/m4_structure.h5",
    "conv": "keras2.0.8-tf1.4/m3_conv.h5",
    "onnx": "onnx/C_identity/bilstm.torch_dynamo.onnx",
}
TWINS = {"tied": mutations_graph.tie, "twice": mutations_graph.call_twice, "equal": mutations_graph.make_equal}
MIRROR = {"added": "removed", "removed": "added"}
Places = dict[str, Path]


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> Places:
    """The bases of the table."""
    folder = tmp_path_factory.mktemp("bases")
    for name, model in MODELS.items():
        wexport.export(DATA / model, folder / name)
    deep = twins.arrays(3)
    deep = {n.replace("d0", "a").replace("d1", "b").replace("d2", "c"): x for n, x in deep.items()}
    twins.write(folder / "deep", {n: x * np.float32(not n.endswith("bias")) for n, x in deep.items()})
    for name, change in TWINS.items():
        parts = Parts.of(folder / "deep")
        change(parts)
        parts.write(folder / name)
    apart = Parts.of(folder / "stock")
    for call in apart.manifest["calls"]:
        call["args"] = {role: "activation_1" if arg == "dense_1" else arg for role, arg in call["args"].items()}
    out = {"value": "activation_1", "role": "y", "shape": [None, 64], "dtype": "float32"}
    apart.manifest["calls"].insert(3, {"layer": "activation_1", "args": {"x": "dense_1"}, "out": [out]})
    activation = {"kind": "activation", "class": "Activation", "activation": {"name": "relu"}}
    apart.manifest["layers"]["activation_1"] = activation
    apart.write(folder / "apart")
    return {path.name: path for path in folder.iterdir()}


@pytest.fixture
def pair(places: Places, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], tuple[str, str]]:
    """The base of a row as `a`, the base with the row's change as `b`, in the working folder."""

    def make(name: str) -> tuple[str, str]:
        base, change, _ = ROWS[name]
        parts = Parts.of(places[base])
        change(parts)
        parts.write(tmp_path / "b")
        (tmp_path / "a").symlink_to(places[base])
        monkeypatch.chdir(tmp_path)
        return "a", "b"

    return make


def brief(fact: Fact) -> tuple[Any, ...]:
    """A fact as the table has it."""
    found = (fact.what, fact.a, fact.b)
    if fact.what in ("layer added", "layer removed"):
        return (*found, tuple(sorted(fact.detail["after"])), tuple(sorted(fact.detail["before"])))
    if fact.what == "layer rewired":
        return (*found, fact.detail.get("argument", "calls"))
    return (*found, fact.detail["attribute"]) if fact.what == "attribute changed" else found


def mirrored(fact: tuple[Any, ...]) -> tuple[Any, ...]:
    what, a, b, *rest = fact
    thing, _, way = what.partition(" ")
    return (f"{thing} {MIRROR.get(way, way)}", b, a, *rest)


def facts(verdict: Verdict) -> list[tuple[Any, ...]]:
    return [brief(fact) for fact in verdict.difference.facts]


def golden(name: str, found: str) -> None:
    path = GOLDEN / name
    if "WRITE_GOLDEN" in os.environ:
        path.write_text(f"{found}\n", encoding="utf-8")
    assert f"{found}\n" == path.read_text(encoding="utf-8")


@pytest.mark.parametrize("name", ROWS)
def test_a_change_gives_its_facts(name: str, pair: Callable[[str], tuple[str, str]]) -> None:
    a, b = pair(name)
    expected = ROWS[name][2]
    for path in (a, b):
        report = wexport.verify(path)
        assert report.ok, report.differences
    there, back = wexport.diff(a, b), wexport.diff(b, a)
    assert sorted(facts(there), key=str) == sorted(expected, key=str)
    assert sorted(facts(back), key=str) == sorted(map(mirrored, expected), key=str)
    bare = wexport.diff(manifest(a), manifest(b))
    assert sorted(facts(bare), key=str) == sorted(expected, key=str)
    for verdict in (there, back, bare):
        found = as_json(verdict)
        Draft202012Validator(schema()).validate(found)
        assert found == json.loads(json.dumps(found, allow_nan=False))
        assert found["same"] == (not expected)
    assert as_json(wexport.diff(a, b)) == as_json(there)
    golden(f"{name}.txt", text(there, False, False))


def manifest(bundle: str) -> str:
    """A bundle's manifest without its data."""
    path = Path(f"{bundle}.yaml")
    path.write_bytes(Path(bundle, "manifest.yaml").read_bytes())
    return str(path)


def test_numbers_of_a_moved_gate(pair: Callable[[str], tuple[str, str]]) -> None:
    name = "lstm_1.forget.recurrent"
    a, b = pair("perturb_one_gate")
    found = wexport.diff(a, b, top=3).difference
    x, y = (wexport.open(path)[name].astype("f8") for path in (a, b))
    change = found.facts[0].change
    assert change is not None
    assert change.relative == pytest.approx(0.05, rel=1e-4)
    assert change.max_abs == np.abs(y - x).max()
    assert change.cosine == pytest.approx(float((x * y).sum() / np.linalg.norm(x) / np.linalg.norm(y)), abs=1e-12)
    assert change.share == np.mean(x != y)
    assert change.nonfinite == 0
    rows = np.linalg.norm(y - x, axis=1)
    assert [i for i, _, _ in change.top["hidden"]] == np.argsort(-rows)[:3].tolist()
    assert [d for _, d, _ in change.top["unit"]] == pytest.approx(sorted(np.linalg.norm(y - x, axis=0))[:-4:-1])
    groups = {(group.layer, group.part): group.change.relative for group in found.groups}
    gate = np.linalg.norm(y - x) / np.sqrt(sum((wexport.open(a)[f"lstm_1.forget.{r}"].astype("f8") ** 2).sum()
                                               for r in ("kernel", "recurrent", "bias")))  # fmt: skip
    assert groups["lstm_1", "forget"] == pytest.approx(gate, rel=1e-5)
    assert groups["lstm_1", "input"] == groups["lstm_1", "cell"] == groups["lstm_1", "output"] == 0
    assert {layer for layer, _ in groups} == {"lstm_1"}


def test_numbers_of_other_changes(pair: Callable[[str], tuple[str, str]]) -> None:
    a, b = pair("prune_a_kernel")
    change = wexport.diff(a, b).difference.facts[0].change
    assert change is not None
    assert change.share == pytest.approx(0.3, abs=1e-3)


def test_estimates_are_near_and_say_what_they_cannot(pair: Callable[[str], tuple[str, str]]) -> None:
    a, b = pair("perturb_one_gate")
    found = as_json(wexport.diff(manifest(a), b))
    change = found["facts"][0]["change"]
    assert change["estimated"]
    assert change["relative"] == pytest.approx(0.05, rel=4 * change["error"])
    assert change["max_abs"] is change["share"] is None
    assert {"max_abs", "share"} <= set(change["unavailable"])
    assert found["a"]["bytes_read"] == found["b"]["bytes_read"] == 0


def facts_of(found: Difference) -> list[str]:
    return [f"{fact.what} {fact.name}" for fact in found.facts]


def test_names_alone(pair: Callable[[str], tuple[str, str]]) -> None:
    found = wexport.diff(*pair("rename_a_layer"), match="name").difference
    assert sorted(facts_of(found)) == ["layer added hidden", "layer removed dense_2"]
    assert {match.how for match in found.layers} == {"name"}


def test_a_model_file_its_bundle_and_its_manifest_are_the_same(places: Places, tmp_path: Path) -> None:
    bare = tmp_path / "bare.yaml"
    bare.write_bytes((places["stock"] / "manifest.yaml").read_bytes())
    sides = [DATA / MODELS["stock"], places["stock"], bare]
    for a, b in itertools.product(sides, repeat=2):
        found = wexport.diff(a, b)
        assert (found.difference.facts, found.fails) == ((), False)


@pytest.mark.parametrize(
    ("tty", "variables", "expected"),
    [
        (True, {}, True),
        (False, {}, False),
        (True, {"NO_COLOR": "1"}, False),
        (True, {"TERM": "dumb"}, False),
    ],
)
def test_colour(tty: bool, variables: dict[str, str], expected: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    for key, value in variables.items():
        monkeypatch.setenv(key, value)
    monkeypatch.setattr("sys.stdout.isatty", lambda: tty)
    assert coloured() is expected


@pytest.mark.parametrize("exported", ["keras_export", "tf2onnx_keras", "torch_dynamo", "torch_legacy13"])
def test_through_onnx(exported: str) -> None:
    model = DATA / "onnx/C_identity"
    found = wexport.diff(model / "bilstm.keras", model / f"bilstm.{exported}.onnx").difference
    assert found.same_weights
    assert {fact.category for fact in found.facts} <= {"names"}
    assert all(pair.how == "name and bytes" for pair in found.tensors)


def test_a_convolution_through_onnx(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the other format notes otherwise is said in one line, and is no other model."""
    monkeypatch.chdir(DATA / "onnx/C_identity")
    found = wexport.diff("conv.keras", "conv.torch_legacy_keepbn.onnx")
    assert in_words(found.difference) == "same weights, other names"
    golden("through_onnx.txt", text(found, False, False))


def test_markdown(pair: Callable[[str], tuple[str, str]]) -> None:
    golden("insert_a_dense.md", markdown(wexport.diff(*pair("insert_a_dense")), False))
    golden("rename_a_layer.md", markdown(wexport.diff(*pair_again("rename_a_layer")), False))
    golden("all.txt", text(wexport.diff(*pair_again("fine_tune_all_but_one")), True, True))


def pair_again(name: str) -> tuple[str, str]:
    """Another row, in the same folder."""
    shutil.rmtree("c", ignore_errors=True)
    base, change, _ = ROWS[name]
    parts = Parts.of(Path("a"))
    change(parts)
    parts.write(Path("c"))
    assert base == "stock"
    return "a", "c"


def test_a_normalization_that_an_exporter_folded() -> None:
    model = DATA / "onnx/C_identity"
    found = wexport.diff(model / "conv.keras", model / "conv.torch_legacy.onnx").difference
    assert ("values changed", "conv2d_1.kernel", "conv2d_1.kernel") in facts(Verdict(found, (), ()))
    assert any("batch_normalization_1 may be folded into the other side's conv2d_1" in note for note in found.notes)
    found = wexport.diff(model / "conv.keras", model / "conv.keras_export.onnx").difference
    assert any(note.startswith("batch_normalization_1: batch_norm in A, multiply in B") for note in found.notes)
