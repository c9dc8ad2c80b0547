"""Golden values are what the bundle computes; any port can hold its own against them, and so can the bundle itself."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors
from cases import Case, case, cases, onnx_cases
from conftest import Exported

import wexport
from wexport import golden, samples
from wexport.bundle import GOLDEN, Bundle
from wexport.errors import UsageError
from wexport.evaluate import needed, unsupported
from wexport.golden import check
from wexport.layers.complete import KINDS
from wexport.layers.lookups import MOVERS, pool
from wexport.reach import reach

Array = np.ndarray[Any, Any]
STOCK = case("keras2.0.8-tf1.4/m1_stock.h5")
EVERY = [*cases(), *onnx_cases()]


def made(model: Case, out: Path, **options: Any) -> Path:
    wexport.export(model.path, out, architecture=model.architecture, **{"golden": True, **options})
    return out


def read(path: Path) -> tuple[dict[str, Any], bytes]:
    """The header and the data of a golden file."""
    data = (path / GOLDEN).read_bytes()
    length = int.from_bytes(data[:8], "little")
    return json.loads(data[8 : 8 + length]), data[8 + length :]


def arrays(path: Path) -> dict[str, Array]:
    """A golden file as the safetensors library reads it; types that NumPy lacks are left out."""
    with safetensors.safe_open(path / GOLDEN, "np") as file:
        return {n: file.get_tensor(n) for n in file.keys() if file.get_slice(n).get_dtype() not in ("BF16", "F8_E4M3")}  # noqa: SIM118


def differences(path: Path) -> tuple[str, ...]:
    with wexport.open(path) as bundle:
        return check(bundle).differences


@pytest.fixture
def stock(tmp_path: Path) -> Path:
    return made(STOCK, tmp_path / "out")


# -- what is written ---------------------------------------------------------------------------------------------------


def test_inputs_values_and_outputs(stock: Path) -> None:
    found = arrays(stock)
    assert {name: a.shape for name, a in found.items()} == {
        "in.lstm_input": (2, 30, 6), "in.aux_input": (2, 1), "value.lstm_1": (2, 128), "value.merge_1": (2, 129),
        "value.dense_1": (2, 64), "value.dense_2": (2, 16), "value.dense_3": (2, 1), "out.dense_3": (2, 1),
    }  # fmt: skip
    assert np.array_equal(found["out.dense_3"], found["value.dense_3"])
    inputs = {name[3:]: a for name, a in found.items() if name.startswith("in.")}
    values = wexport.run(stock, inputs, layers="*")
    for name in ("lstm_1", "merge_1", "dense_1", "dense_2", "dense_3"):
        assert np.array_equal(values[name], found[f"value.{name}"])
    assert abs(inputs["lstm_input"].mean()) < 0.2
    assert 0.8 < inputs["lstm_input"].std() < 1.2


def test_the_header(stock: Path) -> None:
    head, _ = read(stock)
    with wexport.open(stock) as bundle:
        fingerprint = bundle.manifest["model"]["fingerprint"]
    assert head["__metadata__"] == {"format": "wexport-golden", "version": "1", "fingerprint": fingerprint}


def test_the_same_bytes_every_time(stock: Path, tmp_path: Path) -> None:
    other = made(STOCK, tmp_path / "other")
    assert (other / GOLDEN).read_bytes() == (stock / GOLDEN).read_bytes()
    assert (other / "manifest.yaml").read_bytes() == (stock / "manifest.yaml").read_bytes()


def test_the_bundle_is_the_same_without(stock: Path, tmp_path: Path) -> None:
    other = made(STOCK, tmp_path / "other", golden=False)
    assert sorted(p.name for p in other.iterdir()) == ["manifest.yaml", "model.safetensors"]
    for path in other.iterdir():
        assert path.read_bytes() == (stock / path.name).read_bytes()


@pytest.mark.parametrize(
    ("name", "codes"),
    [
        ("keras3.15.1/m5_mixed_float16.weights.h5", {"F16", "F32"}),
        ("keras3.15.1/m5_bfloat16.keras", {"BF16"}),
        ("keras3.15.1/m2_masking.weights.h5", {"BOOL", "F32"}),
        ("keras3.15.1/m2_recurrent_ra1.keras", {"I32", "F32"}),
    ],
)
def test_values_have_the_types_that_the_manifest_states(name: str, codes: set[str], tmp_path: Path) -> None:
    out = made(case(name), tmp_path / "out")
    head, data = read(out)
    assert {item["dtype"] for key, item in head.items() if key != "__metadata__"} >= codes
    place = 0
    for key, item in head.items():
        if key != "__metadata__":
            width = {"F32": 4, "I32": 4, "F16": 2, "BF16": 2}.get(item["dtype"], 1)
            assert item["data_offsets"][0] == place
            assert place % width == 0
            place = item["data_offsets"][1]
    assert place == len(data)
    with safetensors.safe_open(out / GOLDEN, "np") as file:
        assert set(file.keys()) == set(head) - {"__metadata__"}


def test_a_vocabulary_is_no_number(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no golden values for input 'word': it is text"):
        made(case("keras3.15.1/m5_lookups.keras"), tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_text_and_sequences_are_left_out_and_named(tmp_path: Path) -> None:
    model = next(c for c in onnx_cases("D_sklearn") if c.path.name == "logreg_strlabels.nozipmap.onnx")
    plan = wexport.export(model.path, tmp_path / "out", golden=True)
    assert plan.warnings[-1].startswith("golden.safetensors: left out value.LinearClassifier, out.label: text")
    assert not {"value.LinearClassifier", "out.label"} & set(arrays(tmp_path / "out"))
    assert differences(tmp_path / "out") == ()


# Models among whose inputs are the places at which a kernel is cut: nothing tells that only few numbers make sense.
CUT = {"A1_key/key.dynamo_program_noinit.onnx"}


def test_places_that_cut_nothing_are_said(tmp_path: Path) -> None:
    """Some numbers name no place of the kernel; with others, a piece of no rows fits no layout."""
    (model,) = (m for m in EVERY if m.id in CUT)
    with pytest.raises(UsageError, match=r"^no golden values: \S+: computing this dynamic_slice failed"):
        made(model, tmp_path / "out")


@pytest.mark.parametrize("model", EVERY[::3], ids=lambda c: c.id)
def test_models(model: Case, exported: Exported, tmp_path: Path) -> None:
    """Every model that can be computed, and whose inputs are numbers of a known shape, has golden values that hold."""
    manifest = exported(model).manifest
    used = {n: port for n, port in manifest["inputs"].items() if n in needed(manifest)}
    hopeless = unsupported(manifest) or any(p["dtype"] == "string" or p["shape"] is None for p in used.values())
    if hopeless or model.id in CUT:
        with pytest.raises(UsageError, match="golden"):
            made(model, tmp_path / "out")
        assert list(tmp_path.iterdir()) == []
        return
    with wexport.open(made(model, tmp_path / "out")) as bundle:
        found = check(bundle)
    head, _ = read(tmp_path / "out")
    assert found.differences == ()
    assert found.compared == len(head) - 1 > 0


# -- shapes ------------------------------------------------------------------------------------------------------------


def shapes(path: Path) -> dict[str, tuple[int, ...]]:
    return {name[3:]: tuple(item["shape"]) for name, item in read(path)[0].items() if name.startswith("in.")}


def test_the_number_of_examples(tmp_path: Path) -> None:
    assert shapes(made(STOCK, tmp_path / "a", golden=5)) == {"lstm_input": (5, 30, 6), "aux_input": (5, 1)}
    whole = made(STOCK, tmp_path / "b", golden_shapes={"aux_input": (4, 1)})
    assert shapes(whole) == {"lstm_input": (4, 30, 6), "aux_input": (4, 1)}


def test_a_fixed_batch_is_a_warning(tmp_path: Path) -> None:
    model = next(c for c in onnx_cases("A1_key") if c.path.name == "key.legacy_modfuncs.onnx")
    plan = wexport.export(model.path, tmp_path / "a", golden=3)
    assert plan.warnings[-1] == "the batch is fixed: input 'lstm_input' is (2, 30, 6), not one of 3 examples"
    for name, number in (("b", 2), ("c", True)):
        assert not wexport.export(model.path, tmp_path / name, golden=number).warnings


def port(*shape: int | str | None, dtype: str = "float32") -> dict[str, Any]:
    return {"shape": list(shape), "dtype": dtype}


def test_named_lengths_are_one_length_and_differ() -> None:
    inputs = {"a": port("n", "time", "wide"), "b": port("n", "wide"), "c": port(None, None, None)}
    first, second, *_ = samples.shapes({"inputs": inputs}, 3, {})
    assert first == {"a": (3, 7, 6), "b": (3, 6), "c": (3, 7, 6)}
    assert second == {"a": (3, 8, 8), "b": (3, 8), "c": (3, 8, 8)}
    (fixed,) = samples.shapes({"inputs": inputs}, None, {"time": (9,), "b": (4, 5), "c": (1, 1, 1)})
    assert fixed == {"a": (4, 9, 5), "b": (4, 5), "c": (1, 1, 1)}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"tme": (3,)}, "--golden-shape tme: is no input or named dimension; did you mean time"),
        ({"time": (3, 4)}, "--golden-shape time: is one length"),
        ({"a": (1, 2)}, r"--golden-shape a: has 2 lengths, the input is \(n, time, 6\)"),
        ({"a": (1, 2, 5)}, r"--golden-shape a: \(1, 2, 5\) is not \(n, time, 6\)"),
        ({"a": (1, 2, 6), "time": (3,)}, "--golden-shape time: is 2 already"),
        ({"time": (3,), "a": (1, 2, 6)}, "--golden-shape a: makes time 2, but it is 3 already"),
        ({"a": (1, 1 << 40, 6)}, "too large to try"),
    ],
)
def test_shapes_that_do_not_fit(given: dict[str, tuple[int, ...]], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        samples.shapes({"inputs": {"a": port("n", "time", 6)}}, None, given)


def test_no_try_is_large() -> None:
    """What would be (2, 224, 224, 224, 224) is left out, and counts together with the other inputs."""
    ports = {"a": port(None, None, None, None, None), "b": port(None, None, None, None)}
    for names, most in ((["a"], 64), (["b"], 224), (["b", "b2"], 64)):
        found = samples.shapes({"inputs": {name: ports[name[0]] for name in names}}, None, {})
        assert max(length for one in found for shape in one.values() for length in shape) == most
        assert all(sum(np.prod(shape, dtype=object) for shape in one.values()) <= 1 << 25 for one in found)
        assert found[-1][names[0]][1:] == (1,) * (len(found[0][names[0]]) - 1), "those behind it are tried"
    large = {"inputs": {"a": port(None, 1 << 14, 1 << 13)}}
    assert len(samples.shapes(large, None, {})) == 1, "what the model itself asks for may be larger"
    with pytest.raises(UsageError, match=r"'b' would be \(3, 1, 16384, 16384\), which is too large"):
        samples.shapes({"inputs": ports}, None, {"b": (3, 1, 1 << 14, 1 << 14)})


def test_an_input_without_a_shape_needs_one(tmp_path: Path) -> None:
    model = case("keras2.2.4-tf1.13/m0_seq_deferred.h5")
    with pytest.raises(UsageError, match="'dense_1_input' has no stated shape; say it with --golden-shape"):
        made(model, tmp_path / "out")
    (width,) = {a.shape[-1] for a in model.arrays("in")}
    out = made(model, tmp_path / "out", golden_shapes={"dense_1_input": (3, width)})
    assert shapes(out) == {"dense_1_input": (3, width)}


def test_shapes_are_tried_until_one_computes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first shapes and the first integers fail here; what is written is of those that do not."""
    seen: list[dict[str, Any]] = []
    evaluate = golden.evaluate

    def picky(manifest: Any, tensor: Any, inputs: Any, progress: Any) -> Any:
        seen.append(inputs)
        if len(seen) < 3:
            raise UsageError("too long")
        return evaluate(manifest, tensor, inputs, progress)

    monkeypatch.setattr(golden, "evaluate", picky)
    out = made(case("keras3.15.1/m2_recurrent_ra1.keras"), tmp_path / "out")
    assert len(seen) == 3
    assert np.array_equal(arrays(out)["in.tokens"], seen[2]["tokens"])
    assert set(np.unique(seen[2]["tokens"])) == {1}


def test_outputs_with_elements_are_sought(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model may have no other outputs than empty ones; then they are golden, too."""
    evaluate = golden.evaluate
    for full in (2, 100):
        seen: list[Any] = []

        def emptying(*args: Any, full: int = full, seen: list[Any] = seen) -> Any:
            seen.append(args)
            values = evaluate(*args)
            return values if len(seen) == full else {name: a[:0] for name, a in values.items()}

        monkeypatch.setattr(golden, "evaluate", emptying)
        out = made(case("keras3.15.1/m2_recurrent_ra1.keras"), tmp_path / str(full))
        assert {a.size > 0 for name, a in arrays(out).items() if name.startswith("out.")} == {full == 2}
        assert len(seen) == min(full, 3)


def test_nothing_stays_behind_if_none_computes(tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    with pytest.raises(UsageError, match=r"^no golden values: merge_1: computing this concat failed .*--golden-inputs"):
        made(STOCK, tmp_path / "x" / "out", golden=3, golden_shapes={"aux_input": (4, 1)})
    with pytest.raises(UsageError, match=r"^no golden values can be computed: blk \(Block\) is no layer"):
        made(case("keras3.15.1/m5_custom_layer.keras"), tmp_path / "x" / "out")
    assert list((tmp_path / "x").iterdir()) == []


# -- numbers -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", [c for c in EVERY if c.golden.exists()][::2], ids=lambda c: c.id)
def test_golden_inputs_of_the_frameworks_are_in_reach(model: Case, exported: Exported) -> None:
    """What the framework was given could be looked up there, so it lies within what is found to be possible.

    A vocabulary with a place for all other words takes any; some of what was given stands in it.
    """
    manifest = exported(model).manifest
    with np.load(model.golden, allow_pickle=False) as found:
        given = {name: found[f"in_{name}"] for name in manifest["inputs"] if f"in_{name}" in found}
        given = given or dict(
            zip(manifest["inputs"], (found[n] for n in found.files if n.startswith("in_")), strict=False)
        )
    layers = manifest["layers"]
    spare = {c["args"]["x"] for c in manifest["calls"] if layers[c["layer"]].get("oov_tokens")}
    for name, allowed in reach(manifest).items():
        if name in given:
            held = set(np.unique(given[name]).tolist())
            assert held & set(allowed) if name in spare else held <= set(allowed)


def test_tokens_are_bound_by_their_embedding(exported: Exported) -> None:
    found = reach(exported(case("keras3.15.1/m2_recurrent_ra1.keras")).manifest)
    assert {name: len(own) for name, own in found.items()} == {"tokens": 11}


def call(layer: str, out: str, **args: Any) -> dict[str, Any]:
    return {"layer": layer, "args": args, "out": [{"value": out, "role": "y", "shape": [None, 4], "dtype": None}]}


LAYERS: dict[str, Any] = {
    "cast": {"kind": "cast"}, "concat": {"kind": "concat"}, "add": {"kind": "add"}, "slice": {"kind": "slice"},
    "small": {"kind": "embedding", "tokens": 5}, "large": {"kind": "embedding", "tokens": 50},
    "one_hot": {"kind": "one_hot_values"}, "pick": {"kind": "gather", "axis": 1},
    "classes": {"kind": "category_encoding", "tokens": 3},
    "words": {"kind": "lookup", "invert": False, "vocabulary": [30, 10], "oov_tokens": 1, "mask_token": None},
    "back": {"kind": "lookup", "invert": True, "vocabulary": ["a", "b"], "oov_tokens": 1, "mask_token": ""},
    "packed": {"kind": "quantized", "layer": {"kind": "embedding", "tokens": 6}},
    "norm": {"kind": "embed_norm"},
}  # fmt: skip
TENSORS = {
    "table": {"shape": [2, 9]},
    "norm.position_embedding": {"shape": [11, 4]},
    "norm.embedding": {"shape": [12, 4]},
}
REACHED: dict[str, tuple[list[dict[str, Any]], dict[str, list[int]]]] = {
    "directly": ([call("large", "e", x="a")], {"a": list(range(50))}),
    "the smallest counts": ([call("large", "e", x="a"), call("small", "f", x="a")], {"a": list(range(5))}),
    "in whatever order": ([call("small", "f", x="a"), call("large", "e", x="a")], {"a": list(range(5))}),
    "through movers": (
        [call("cast", "c", x="a"), call("slice", "s", x="c"), call("concat", "d", x=["s", "b"]),
         call("small", "e", x="d")],
        {"a": list(range(5)), "b": list(range(5))},
    ),
    "not through sums": ([call("add", "c", x=["a", "b"]), call("small", "e", x="c")], {}),
    "what is picked from a tensor": ([call("pick", "e", x={"tensor": "table"}, indices="a")], {"a": list(range(9))}),
    "what is picked from a value": ([call("pick", "e", x="b", indices="a")], {"a": list(range(3))}),
    "a depth": ([call("one_hot", "e", x="a", depth={"const": [7], "shape": [1]})], {"a": list(range(7))}),
    "classes": ([call("classes", "e", x="a")], {"a": [0, 1, 2]}),
    "words": ([call("words", "e", x="a")], {"a": [30, 10]}),
    "places of words": ([call("back", "e", x="a")], {"a": [0, 1, 2, 3]}),
    "in a quantized layer": ([call("packed", "e", x="a")], {"a": list(range(6))}),
    "tables of the layer": ([call("norm", "e", x="a", positions="b")], {"a": list(range(12)), "b": list(range(11))}),
    "in a body": (
        [{**call("add", "e", x="b"), "bodies": {"then": {"calls": [call("small", "f", x="a")]}}}],
        {"a": list(range(5))},
    ),
}  # fmt: skip


@pytest.mark.parametrize(("calls", "wanted"), REACHED.values(), ids=REACHED)
def test_what_is_looked_up(calls: list[dict[str, Any]], wanted: dict[str, list[int]]) -> None:
    inputs = {"a": port(None, 4, dtype="int64"), "b": port(None, 3, dtype="int64")}
    found = reach({"inputs": inputs, "calls": calls, "layers": LAYERS, "tensors": TENSORS})
    assert {name: list(own) for name, own in found.items()} == wanted


def test_the_kinds_are_kinds() -> None:
    assert set(KINDS) >= MOVERS
    assert pool({"kind": "dense"}, "x", {}, lambda of, axis: 3) is None


def numbers(dtype: str, name: str = "a", calls: Any = ()) -> list[Array]:
    manifest = {
        "inputs": {name: port(None, 50, dtype=dtype)},
        "calls": list(calls),
        "layers": LAYERS,
        "tensors": TENSORS,
    }
    return [one[name] for one in samples.tries(manifest, [{name: (200, 50)}])]


def test_integers_get_fewer() -> None:
    assert [sorted(set(one.reshape(-1).tolist())) for one in numbers("int32")] == [list(range(8)), [0, 1], [1]]
    looked_up = numbers("float32", calls=[call("small", "e", x="a")])
    assert [sorted(set(one.reshape(-1).tolist())) for one in looked_up] == [[0, 1, 2, 3, 4], [0, 1], [1]]
    words = numbers("int64", calls=[call("words", "e", x="a")])
    assert [sorted(set(one.reshape(-1).tolist())) for one in words] == [[10, 30], [10, 30], [10]]


@pytest.mark.parametrize(("dtype", "name"), [("bool", "a"), ("int64", "attention_mask")])
def test_a_mask_hides_no_row(dtype: str, name: str) -> None:
    manifest = {"inputs": {name: port(None, 2, dtype=dtype)}, "calls": []}
    one = next(samples.tries(manifest, [{name: (200, 2)}]))[name]
    assert one.dtype == dtype
    assert set(np.unique(one).tolist()) == {0, 1}
    assert one.any(axis=-1).all()


def test_every_input_has_numbers_of_its_own() -> None:
    a, b = numbers("float32", "a")[0], numbers("float32", "b")[0]
    assert np.array_equal(a, numbers("float32", "a")[0])
    assert abs(np.corrcoef(a.reshape(-1), b.reshape(-1))[0, 1]) < 0.05
    assert round(float(a[0, 0]), 6) == 1.092537  # the same on every machine


# -- given inputs ------------------------------------------------------------------------------------------------------


def test_given_inputs(tmp_path: Path) -> None:
    inputs = {"lstm_input": np.ones((1, 30, 6), np.float32), "aux_input": np.full((1, 1), 3.0)}
    np.savez(tmp_path / "in.npz", **inputs)
    for name, given in (("a", inputs), ("b", tmp_path / "in.npz")):
        found = arrays(made(STOCK, tmp_path / name, golden=False, golden_inputs=given))
        assert np.array_equal(found["in.aux_input"], np.full((1, 1), 3.0, np.float32))
    with pytest.raises(UsageError, match="golden inputs: lacks the input 'aux_input'"):
        made(STOCK, tmp_path / "c", golden_inputs={"lstm_input": inputs["lstm_input"]})
    with pytest.raises(UsageError, match="golden inputs have their own shapes"):
        made(STOCK, tmp_path / "c", golden=2, golden_inputs=inputs)
    with pytest.raises(UsageError, match="0 is no number of examples"):
        made(STOCK, tmp_path / "c", golden=0)
    assert not (tmp_path / "c").exists()


def test_damaged_inputs_are_refused_before_anything_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wexport.verbs.export.write_bundle", lambda *args: pytest.fail("written"))
    (tmp_path / "in.npz").write_bytes(b"PK\3\4 nothing")
    with pytest.raises(UsageError, match=r"is no \.npz file"):
        made(STOCK, tmp_path / "out", golden_inputs=tmp_path / "in.npz")
    with pytest.raises(UsageError, match="is no input or named dimension"):
        made(STOCK, tmp_path / "out", golden_shapes={"x": 1})


# -- checking ----------------------------------------------------------------------------------------------------------


def test_check(stock: Path) -> None:
    with wexport.open(stock) as bundle:
        steps: list[int] = []
        assert check(bundle, steps.append) == golden.Comparison(8, ())
        assert sum(steps) == len(bundle.manifest["calls"])


def flip(path: Path, at: int, bit: int = 0x40) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= bit
    path.write_bytes(data)


@pytest.mark.parametrize("name", ["in.aux_input", "in.lstm_input", "value.lstm_1", "value.dense_2", "out.dense_3"])
def test_a_flipped_byte_of_a_value(name: str, stock: Path) -> None:
    head, data = read(stock)
    at = len((stock / GOLDEN).read_bytes()) - len(data) + head[name]["data_offsets"][0]
    flip(stock / GOLDEN, at + 3)  # the exponent
    found = differences(stock)
    named = {text.split(": ")[1] for text in found}
    assert named >= ({name} if not name.startswith("in.") else {"value.merge_1"} if "aux" in name else {"value.lstm_1"})
    assert all("differs from what is computed by" in text or "NaN or infinity" in text for text in found)


def test_a_flipped_byte_of_a_tensor(stock: Path) -> None:
    with wexport.open(stock) as bundle:
        at = bundle.ranges["dense_2.bias"].offset
    flip(stock / "model.safetensors", at + 3)
    found = differences(stock)
    assert [text.split(": ")[1] for text in found] == ["value.dense_2", "value.dense_3", "out.dense_3"]


def exchange(text: str, a: str, b: str) -> str:
    return text.replace(a, "~").replace(b, a).replace("~", b)


def test_two_gates_taken_for_each_other(stock: Path) -> None:
    """Whoever reads the data finds the input gate under the name of the output gate."""
    path = stock / "model.safetensors"
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    head = json.loads(data[8 : 8 + length])
    names = ["lstm_1.input.bias", "lstm_1.output.bias"]
    head[names[0]], head[names[1]] = head[names[1]], head[names[0]]
    text = json.dumps(head, ensure_ascii=False, separators=(",", ":")).encode().ljust(length)
    path.write_bytes(data[:8] + text + data[8 + length :])
    assert differences(stock)[0].startswith("golden.safetensors: value.lstm_1: differs from what is computed by ")


def test_another_activation(stock: Path) -> None:
    text = (stock / "manifest.yaml").read_text()
    (stock / "manifest.yaml").write_text(
        text.replace('"activation": {"name": "tanh"}', '"activation": {"name": "relu"}')
    )
    assert len(differences(stock)) == 6


def test_another_bundles_golden_values(stock: Path, tmp_path: Path) -> None:
    other = made(case("keras3.15.1/m1_stock.keras"), tmp_path / "other")
    shutil.copy(other / GOLDEN, stock / GOLDEN)
    (found,) = differences(stock)
    assert found.startswith("golden.safetensors: was made from other tensors (its fingerprint is not the manifest's);")


def test_the_last_bits_may_differ(stock: Path) -> None:
    """As sums do on another machine."""
    head, data = read(stock)
    at = len((stock / GOLDEN).read_bytes()) - len(data)
    for name, item in head.items():
        if name.startswith("value."):
            flip(stock / GOLDEN, at + item["data_offsets"][0], 1)
    assert differences(stock) == ()


def rewrite(path: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    head, data = read(path)
    change(head)
    text = json.dumps(head).encode()
    (path / GOLDEN).write_bytes(len(text).to_bytes(8, "little") + text + data)


def rename(old: str, new: str) -> Callable[[dict[str, Any]], Any]:
    return lambda head: head.update({new: head.pop(old)})


def reshape(name: str, shape: Any, dtype: str = "F32") -> Callable[[dict[str, Any]], Any]:
    return lambda head: head[name].update(shape=shape, dtype=dtype)


DAMAGE: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "a missing value": (rename("value.lstm_1", "value.lstm_2"), "value.lstm_1: is missing"),
    "a value more": (rename("value.lstm_1", "value.lstm_2"), "value.lstm_2: is nothing that the model gives"),
    "a missing input": (rename("in.aux_input", "in.aux"), "has 'aux', which is no input"),
    "another shape": (reshape("value.lstm_1", [128, 2]), r"is float32 \(128, 2\), computed is float32 \(2, 128\)"),
    "another shape of an input": (reshape("in.aux_input", [1, 2]), r"'aux_input' is float32 \(1, 2\), expected"),
    "another type": (reshape("value.lstm_1", [2, 128], "I32"), r"lstm_1: is int32 \(2, 128\), computed is float32"),
    "another type of an input": (reshape("in.aux_input", [2, 1], "I32"), "in.aux_input: is int32 "),
    "an unknown type": (reshape("value.lstm_1", [2, 128], "F4"), "'value.lstm_1' is of type F4, which is not known"),
    "a huge shape": (reshape("value.lstm_1", [1 << 40, 1 << 40]), "is no safetensors file"),
    "no format": (lambda head: head["__metadata__"].pop("format"), "does not say that it holds golden values"),
    "another version": (lambda head: head["__metadata__"].update(version="2"), "golden values of version 1"),
    "no metadata": (lambda head: head.pop("__metadata__"), "does not say that it holds golden values"),
}  # fmt: skip


@pytest.mark.parametrize(("change", "message"), DAMAGE.values(), ids=DAMAGE)
def test_damaged_headers(change: Callable[[dict[str, Any]], Any], message: str, stock: Path) -> None:
    rewrite(stock, change)
    with wexport.open(stock) as bundle:
        found = check(bundle)
    (_,) = [text for text in found.differences if re.search(message, text)]


def test_what_is_missing_is_not_counted(stock: Path) -> None:
    rewrite(stock, rename("value.lstm_1", "value.lstm_2"))
    with wexport.open(stock) as bundle:
        assert check(bundle).compared == 7


@pytest.mark.parametrize("data", [b"", b"hello", b"\xff" * 100, b"\0" * 8], ids=repr)
def test_no_golden_file(data: bytes, stock: Path) -> None:
    (stock / GOLDEN).write_bytes(data)
    (found,) = differences(stock)
    assert "is no safetensors file" in found
    (stock / GOLDEN).unlink()
    assert "cannot be read" in differences(stock)[0]


def test_every_flipped_byte_of_the_header(stock: Path, tmp_path: Path) -> None:
    data = (stock / GOLDEN).read_bytes()
    length = len(data) - len(read(stock)[1])
    with Bundle(stock) as bundle:
        for at in range(0, length, 7):
            (stock / GOLDEN).write_bytes(data)
            flip(stock / GOLDEN, at, 0x02)
            found = check(bundle)
            blank = data[at : at + 1] == b" "  # padding, which no longer is
            assert found.differences or blank or found.compared == 8, at
            assert all("\n" not in text for text in found.differences)


def test_booleans_are_zero_or_one(tmp_path: Path) -> None:
    out = made(case("keras3.15.1/m2_masking.weights.h5"), tmp_path / "out")
    head, data = read(out)
    name, item = next((n, i) for n, i in head.items() if i.get("dtype") == "BOOL")
    flip(out / GOLDEN, (out / GOLDEN).stat().st_size - len(data) + item["data_offsets"][0], 2)
    assert differences(out) == (f"golden.safetensors: '{name}' holds bytes that are no booleans",)


def test_many_differences_are_cut(tmp_path: Path) -> None:
    model = next(c for c in onnx_cases("A4_attn") if c.path.name == "transformer.legacy.onnx")
    out = made(model, tmp_path / "out")
    with wexport.open(out) as bundle:
        at = bundle.ranges["emb.embedding"].offset
        size = bundle.ranges["emb.embedding"].size
    data = bytearray((out / "model.safetensors").read_bytes())
    data[at : at + size] = np.frombuffer(bytes(data[at : at + size]), np.float32)[::-1].tobytes()
    (out / "model.safetensors").write_bytes(data)
    found = differences(out)
    assert len(found) == 11
    assert found[-1].endswith(" more that differ")
