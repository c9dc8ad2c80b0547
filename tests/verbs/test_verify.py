"""What `verify` proves, and that it sees what is wrong: in the data, in the rules, against the model."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from cases import Case, case, cases, onnx_cases
from conftest import Exported
from safetensors.numpy import load_file, save_file

import wexport
from wexport.manifest import dump, load

CASES = cases()
ONNX = [c for c in onnx_cases() if "D_broken" not in str(c.path)]
STOCK = case("keras2.0.8-tf1.4/m1_stock.h5")
SPECTRAL = case("keras3.15.1/m5_spectral.keras")
Manifest = dict[str, Any]


@pytest.fixture
def bundle(exported: Exported, tmp_path: Path) -> Path:
    return Path(shutil.copytree(exported(STOCK).path, tmp_path / "bundle"))


def change(bundle: Path, edit: Callable[[Manifest], None]) -> None:
    """Change the manifest, and make its checksum in the data the new one."""
    path = bundle / "manifest.yaml"
    manifest = load(path.read_bytes(), "")
    edit(manifest)
    path.write_bytes(dump(manifest))


def differences(bundle: Path, model: Case | None = STOCK) -> tuple[str, ...]:
    """All but the checksum of the manifest itself."""
    found = wexport.verify(bundle, model.path if model else None).differences
    return tuple(text for text in found if "it was edited" not in text)


# -- the proof ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", [*CASES, *ONNX], ids=lambda c: c.id)
def test_every_weight_is_proved(model: Case, exported: Exported) -> None:
    bundle = exported(model)
    found = wexport.verify(bundle.path, model.path, architecture=model.architecture)
    assert found.differences == ()
    assert found.weights + found.constants == len(bundle.manifest["weights"])
    assert found.left_out == len(bundle.manifest["left_out"])
    assert found.compared == sum(_bytes(item) for item in bundle.manifest["weights"].values())


def _bytes(item: Manifest) -> int:
    from wexport import dtypes

    return dtypes.nbytes(item["dtype"], int(np.prod(item["shape"], dtype=int)))


# -- the data ----------------------------------------------------------------------------------------------------------


def test_one_bit_is_seen_by_the_checksums_and_by_the_model(bundle: Path) -> None:
    data = bundle / "model.safetensors"
    raw = bytearray(data.read_bytes())
    raw[-1] ^= 1
    data.write_bytes(raw)
    assert len(differences(bundle, None)) == 1
    assert wexport.update(bundle).changed.keys() == {"dense_3.bias"}
    assert differences(bundle, None) == ()
    assert differences(bundle) == ("dense_3.bias: 1 element differs from 'dense_3/dense_3/bias:0' of the model",)


def test_two_gates_swapped_in_the_data_are_seen_by_the_model(bundle: Path) -> None:
    data = load_file(bundle / "model.safetensors")
    one, two = "lstm_1.forget.recurrent", "lstm_1.output.recurrent"
    data[one], data[two] = data[two], data[one]
    save_file(data, bundle / "model.safetensors")
    assert wexport.update(bundle).changed.keys() == {one, two}
    assert differences(bundle, None) == ()
    assert [text.partition(":")[0] for text in differences(bundle)] == [one, two]


def test_edits_of_the_model_are_seen(bundle: Path, tmp_path: Path) -> None:
    other = Path(shutil.copy(STOCK.path, tmp_path / "other.h5"))
    with h5py.File(other, "r+") as file:
        file["model_weights/dense_1/dense_1/kernel:0"][128, 3] = 9
    found = wexport.verify(bundle, other).differences
    assert found == ("dense_1.from.aux_input: 1 element differs from 'dense_1/dense_1/kernel:0' of the model",)


def test_a_copy_that_is_none_is_seen(exported: Exported, tmp_path: Path) -> None:
    bundle = exported(SPECTRAL)
    key, item = next((k, w) for k, w in bundle.manifest["weights"].items() if "copy_of" in w)
    place = Path(shutil.copytree(bundle.path, tmp_path / "bundle"))
    name = next(n for n, t in bundle.manifest["tensors"].items() if t["weight"] == item["copy_of"])
    data = load_file(place / "model.safetensors")
    data[name].flat[0] += 1
    save_file(data, place / "model.safetensors")
    wexport.update(place)
    found = wexport.verify(place, SPECTRAL.path).differences
    assert found == (f"{name}: 1 element differs from {item['copy_of']!r} of the model", f"{key}: 1 element differs")


# -- the rules ---------------------------------------------------------------------------------------------------------


def test_a_swapped_gate_label_is_seen(bundle: Path) -> None:
    def swap(manifest: Manifest) -> None:
        labels = manifest["weights"]["lstm_1/lstm_1/recurrent_kernel:0"]["labels"]["gate"]
        labels[1], labels[3] = labels[3], labels[1]

    change(bundle, swap)
    assert differences(bundle, None) == ()  # by itself it makes sense
    assert [text.partition(":")[0] for text in differences(bundle)] == [
        "lstm_1.output.recurrent",
        "lstm_1.forget.recurrent",
    ]


def test_swapped_places_of_two_tensors_are_seen(bundle: Path) -> None:
    def swap(manifest: Manifest) -> None:
        one, two = (manifest["tensors"][f"lstm_1.{gate}.bias"] for gate in ("forget", "cell"))
        one["at"], two["at"] = two["at"], one["at"]

    change(bundle, swap)
    (found,) = differences(bundle, None)
    assert (
        found
        == "lstm_1.cell.bias: is the part of 'lstm_1/lstm_1/bias:0' that is called 'lstm_1.forget.bias'; export again"
    )


def kernel(manifest: Manifest) -> Manifest:
    return manifest["weights"]["dense_1/dense_1/kernel:0"]


BROKEN: dict[str, tuple[Callable[[Manifest], Any], str]] = {
    "parts_overlap": (
        lambda m: kernel(m)["segments"]["in"][1].update(axes=["in"], sizes=[1], strides=[1], start=0),
        "the parts of its axis 'in' do not cover each place once",
    ),
    "parts_outside": (
        lambda m: kernel(m)["segments"]["in"][1].update(axes=["in"], sizes=[1], strides=[1], start=500),
        "the parts of its axis 'in' do not cover each place once",
    ),
    "parts_missing": (lambda m: kernel(m)["segments"]["in"].pop(), "do not cover each place once"),
    "huge_part": (lambda m: kernel(m)["segments"]["in"][1].update(size=10**15), "do not cover each place once"),
    "other_axes": (lambda m: kernel(m).update({"as": "kernel: out in"}), r"\(in out\), its place in .* \(out in\)"),
    "axis_lost": (lambda m: kernel(m).update({"as": "kernel: in"}), "does not name every axis once"),
    "unknown_step": (lambda m: kernel(m).update(steps=[{"twist": 1}]), "is not known; upgrade wexport"),
    "two_of_a_place": (
        lambda m: m["tensors"]["lstm_1.cell.bias"].update(at={"gate": "forget"}),
        "is the same part of 'lstm_1/lstm_1/bias:0' as another tensor",
    ),
    "no_such_weight": (
        lambda m: m["tensors"]["dense_3.bias"].update(weight="dense_9/bias:0"),
        "'dense_9/bias:0', which is none of its weights",
    ),
    "place_lost": (
        lambda m: m["weights"]["lstm_1/lstm_1/bias:0"]["labels"].update(gate=["input", "forget", "cell", "exit"]),
        "no tensor of the bundle holds its part 'exit.bias'",
    ),
    "copy_of_nothing": (
        lambda m: m["weights"].update(x={"index": None, "shape": [1], "dtype": "float32", "copy_of": "y"}),
        "is said to be a copy of 'y', which it cannot be",
    ),
    "bad_constant": (
        lambda m: m["weights"].update(x={"index": None, "shape": [2], "dtype": "float32", "constant": ["a", 1]}),
        r"its constant is not float32 \[2\]",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_rule_is_said(name: str, bundle: Path) -> None:
    edit, message = BROKEN[name]
    change(bundle, edit)
    found = differences(bundle, None)
    assert any(re.search(message, text) for text in found), found


def test_labels_without_end_are_refused_at_once(bundle: Path) -> None:
    def many(manifest: Manifest) -> None:
        names = [str(i) for i in range(1000)]
        axes = "abcde"
        kernel(manifest).update(
            {"layout": " ".join(axes), "as": ".".join(f"{{{a}}}" for a in axes) + ".kernel:", "shape": [1000] * 5},
            labels=dict.fromkeys(axes, names),
            sizes=dict.fromkeys(axes, 1000),
        )

    change(bundle, many)
    assert any("its labels name more tensors than the bundle has" in text for text in differences(bundle, None))


def test_zeros_without_end_are_refused(bundle: Path) -> None:
    def endless(manifest: Manifest) -> None:
        entry = {"layout": "unit", "as": "recurrent_bias: unit", "shape": [10**15], "sizes": {"unit": 10**15}}
        manifest["weights"]["x"] = {"index": None, "dtype": "float32", **entry}
        manifest["layers"]["lstm_1"]["zero"] = ["recurrent_bias"]

    change(bundle, endless)
    assert any("1,000,000,000,000,000 elements that are said to be zero" in t for t in differences(bundle, None))


# -- another model -----------------------------------------------------------------------------------------------------


def test_another_model_is_no_proof(bundle: Path) -> None:
    found = differences(bundle, case("keras2.0.8-tf1.4/m0_activations.h5"))
    assert any(text.startswith("lstm_1/lstm_1/kernel:0: the model stores no such array") for text in found)
    assert any("is an array of the model that the bundle says nothing of" in text for text in found)


def test_another_shape_is_said(bundle: Path, tmp_path: Path) -> None:
    other = Path(shutil.copy(STOCK.path, tmp_path / "other.h5"))
    with h5py.File(other, "r+") as file:
        data = file["model_weights/dense_3/dense_3/bias:0"][()]
        del file["model_weights/dense_3/dense_3/bias:0"]
        file["model_weights/dense_3/dense_3/bias:0"] = data.astype(np.float16)
    found = wexport.verify(bundle, other).differences
    assert found == ("dense_3/dense_3/bias:0: is float16 [1] in the model, float32 [1] in the bundle",)


# -- update ------------------------------------------------------------------------------------------------------------


def test_update_of_an_unedited_bundle_changes_no_byte(bundle: Path) -> None:
    before = {p.name: p.read_bytes() for p in bundle.iterdir()}
    assert wexport.update(bundle).changed == {}
    assert {p.name: p.read_bytes() for p in bundle.iterdir()} == before


def test_update_keeps_shards_and_strange_files(tmp_path: Path) -> None:
    bundle = tmp_path / "bundle"
    wexport.export(STOCK.path, bundle, max_shard_size=100_000)
    (bundle / "notes.txt").write_text("mine")
    before = {p.name: p.read_bytes() for p in bundle.iterdir()}
    assert len(before) > 5
    wexport.update(bundle)
    assert {p.name: p.read_bytes() for p in bundle.iterdir()} == before


def test_update_gives_statistics_before_and_after(bundle: Path) -> None:
    data = load_file(bundle / "model.safetensors")
    data["lstm_1.forget.bias"][:] = 3
    save_file(data, bundle / "model.safetensors")
    found = wexport.update(bundle)
    ((name, (old, new)),) = found.changed.items()
    assert (name, new["min"], new["max"], new["std"]) == ("lstm_1.forget.bias", 3, 3, 0)
    assert old["min"] == 0.985248
    assert wexport.verify(bundle).fingerprint == found.fingerprint


def test_golden_values_are_computed_again(tmp_path: Path) -> None:
    bundle = tmp_path / "bundle"
    wexport.export(STOCK.path, bundle, golden=3)
    assert (wexport.verify(bundle).golden, wexport.verify(bundle).differences) == (8, ())
    data = load_file(bundle / "model.safetensors")
    one, two = "lstm_1.forget.recurrent", "lstm_1.output.recurrent"
    data[one], data[two] = data[two], data[one]
    save_file(data, bundle / "model.safetensors")
    found = wexport.verify(bundle).differences
    assert any(text.startswith("golden.safetensors: value.lstm_1: differs from what is computed") for text in found)
    before = load_file(bundle / "golden.safetensors")
    wexport.update(bundle)
    assert wexport.verify(bundle).differences == ()
    after = load_file(bundle / "golden.safetensors")
    same = {name for name in after if np.array_equal(after[name], before[name])}
    assert same == {"in.aux_input", "in.lstm_input"}


def test_update_refuses_what_is_no_edit_of_elements(bundle: Path) -> None:
    change(bundle, BROKEN["parts_overlap"][0])
    before = {p.name: p.read_bytes() for p in bundle.iterdir()}
    with pytest.raises(wexport.BundleError, match="do not cover each place once"):
        wexport.update(bundle)
    assert {p.name: p.read_bytes() for p in bundle.iterdir()} == before


# -- the command -------------------------------------------------------------------------------------------------------


def test_json_is_the_whole_proof(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from wexport.cli import main

    assert main(["verify", str(bundle), str(STOCK.path), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["ok"], found["weights"], found["constants"], found["left_out"]) == (True, 9, 0, 19)
    assert (found["compared"], found["model"]) == (313988, str(STOCK.path))
    assert main(["verify", str(bundle), str(STOCK.path), "--update"]) == 2
