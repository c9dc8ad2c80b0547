"""The sketches in bundles: of every tensor with numbers, renewed with them, and nothing that old manifests need."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cases import Case, case, cases, onnx_cases
from conftest import Exported
from safetensors.numpy import load_file, save_file

import wexport
from wexport.manifest import dump, load
from wexport.sketch import METHOD, Sketch, distance, norm

STOCK = case("keras2.0.8-tf1.4/m1_stock.h5")
TYPES = [c for c in onnx_cases() if c.path.name.startswith("dtype_")]
NAME = "lstm_1.forget.recurrent"


@pytest.fixture
def bundle(exported: Exported, tmp_path: Path) -> Path:
    return Path(shutil.copytree(exported(STOCK).path, tmp_path / "bundle"))


def sketch_of(x: Any) -> str | None:
    found = Sketch()
    found.add(np.ascontiguousarray(x).view(np.float32) if x.dtype == np.complex64 else x)
    return found.result()


def manifest_of(bundle: Path) -> dict[str, Any]:
    return load((bundle / "manifest.yaml").read_bytes(), "manifest.yaml")


@pytest.mark.parametrize("model", [*cases(), *TYPES], ids=lambda c: c.id)
def test_every_tensor_with_numbers_has_one(model: Case, exported: Exported) -> None:
    bundle = exported(model)
    expected = {}
    for name, entry in bundle.manifest["tensors"].items():
        if not entry.get("stored_as", "").startswith("float"):
            expected[name] = sketch_of(bundle[name])
    found = {name: entry[METHOD] for name, entry in bundle.manifest["sketches"].items()}
    assert found == {name: text for name, text in expected.items() if text is not None}
    assert list(found) == [name for name in bundle.manifest["tensors"] if name in found]


def test_bit_patterns_have_none(exported: Exported) -> None:
    kinds = {}
    for model in TYPES:
        manifest = exported(model).manifest
        kinds |= {e["stored_as"]: n in manifest["sketches"] for n, e in manifest["tensors"].items() if "stored_as" in e}
    assert {kind for kind, found in kinds.items() if not found} == {
        "float4_e2m1fn", "float6_e2m3fn", "float6_e3m2fn", "float8_e4m3fnuz", "float8_e5m2fnuz", "float8_e8m0fnu",
    }  # fmt: skip
    assert {"int4", "uint4", "int2", "uint2"} <= {kind for kind, found in kinds.items() if found}


def test_two_manifests_tell_how_far_a_tensor_moved(bundle: Path) -> None:
    before = manifest_of(bundle)["sketches"]
    data = load_file(bundle / "model.safetensors")
    old = data[NAME].copy()
    data[NAME][:, 5] += 0.25
    save_file(data, bundle / "model.safetensors")
    wexport.update(bundle)
    after = manifest_of(bundle)["sketches"]
    assert {name for name in before if before[name] != after[name]} == {NAME}
    assert after[NAME][METHOD] == sketch_of(data[NAME])
    moved = float(np.linalg.norm(data[NAME] - old))
    assert distance(before[NAME][METHOD], after[NAME][METHOD]) == pytest.approx(moved, rel=0.3)
    assert norm(before[NAME][METHOD]) == pytest.approx(float(np.linalg.norm(old)), rel=0.3)


def test_numbers_that_float32_cannot_hold_lose_theirs(bundle: Path) -> None:
    data = load_file(bundle / "model.safetensors")
    data[NAME][...] = 3e38
    save_file(data, bundle / "model.safetensors")
    wexport.update(bundle)
    found = manifest_of(bundle)["sketches"]
    assert NAME not in found
    assert len(found) == len(data) - 1
    assert wexport.verify(bundle).differences == ()


def test_manifests_from_before_it_are_whole(bundle: Path) -> None:
    path = bundle / "manifest.yaml"
    whole = path.read_bytes()
    head, mark, _ = whole.partition(b"sketches:\n")
    assert mark
    path.write_bytes(head)
    assert manifest_of(bundle)["sketches"] == {}
    assert all("it was edited" in text for text in wexport.verify(bundle, STOCK.path).differences)
    wexport.update(bundle)
    assert path.read_bytes() == whole
    assert dump(manifest_of(bundle)) == whole
