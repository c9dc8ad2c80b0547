"""The files of a bundle, as other programs see them: the safetensors library, a hash, a second run."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cases import Case, case, cases
from conftest import Exported
from rebuild import rebuilt
from safetensors import safe_open

import wexport
from wexport import dtypes, work
from wexport.layout import parse_side
from wexport.weights import pieces

CASES = cases()
STOCK = case("keras2.0.8-tf1.4/m1_stock.h5")
SOME = [
    c for c in CASES if c.stem in {"m2_bidir", "m3_conv_cfirst", "m4_structure", "m5_int4", "m5_mha", "m5_bfloat16_all"}
]


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


@pytest.mark.parametrize("model", CASES, ids=lambda c: c.id)
def test_the_safetensors_library_reads_the_data(model: Case, exported: Exported) -> None:
    bundle = exported(model)
    stated = bundle.manifest["tensors"]
    with safe_open(bundle.path / "model.safetensors", framework="numpy") as file:
        assert sorted(file.keys()) == sorted(stated)
        for name, item in stated.items():
            assert file.get_slice(name).get_shape() == item["shape"]
            assert file.get_slice(name).get_dtype() == item["dtype"]
            if item["dtype"] not in {"BF16", "F8_E4M3", "F8_E5M2"}:  # NumPy has no such types
                np.testing.assert_array_equal(file.get_tensor(name), bundle[name], name, strict=True)
        metadata = file.metadata()
    text = (bundle.path / "manifest.yaml").read_bytes()
    assert metadata == {"format": "wexport", "version": "1", "manifest_sha256": hashlib.sha256(text).hexdigest()}


@pytest.mark.parametrize("model", CASES, ids=lambda c: c.id)
def test_names_are_unique_and_checksums_true(model: Case, exported: Exported) -> None:
    bundle = exported(model)
    data = (bundle.path / "model.safetensors").read_bytes()
    length = int.from_bytes(data[:8], "little")
    pairs: list[str] = []
    header = json.loads(
        data[8 : 8 + length], object_pairs_hook=lambda found: (pairs.extend(k for k, _ in found), dict(found))[1]
    )
    assert (8 + length) % 64 == 0
    names = Counter(k for k in pairs if k in bundle.manifest["tensors"])
    assert set(names.values()) <= {1}
    lines = []
    end = 0
    for name, item in bundle.manifest["tensors"].items():
        start, stop = header[name]["data_offsets"]
        assert start == end, "the data lie without holes, in the manifest's order"
        end = stop
        digest = hashlib.sha256(data[8 + length + start : 8 + length + stop]).hexdigest()
        assert digest == item["sha256"], name
        lines.append(
            json.dumps([name, item["dtype"], item["shape"], digest], ensure_ascii=False, separators=(",", ":"))
        )
    assert 8 + length + end == len(data)
    text = "".join(line + "\n" for line in lines)
    assert hashlib.sha256(text.encode()).hexdigest() == bundle.manifest["model"]["fingerprint"]


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    assert len(dict(pairs)) == len(pairs), "a name occurs twice"
    return dict(pairs)


@pytest.mark.parametrize("model", CASES, ids=lambda c: c.id)
def test_what_a_layer_reads_agrees_with_its_kernels_rows(model: Case, exported: Exported) -> None:
    """`reads` are strided views of x: together every feature once, each the rows that its part of the kernel has."""
    manifest = exported(model).manifest
    for name, layer in manifest["layers"].items():
        reads = layer.get("reads", [])
        places = [_places(read) for read in reads]
        assert sorted(p for part in places for p in part) == list(range(sum(map(len, places)))), name
        seen = 0
        for key, item in manifest["weights"].items():
            if reads and any(t["layer"] == name and t["weight"] == key for t in manifest["tensors"].values()):
                seen += _check_rows(key, item, reads, places)
        assert bool(seen) == bool(reads), name


def _places(read: dict[str, Any]) -> list[int]:
    return [
        read["start"] + sum(i * s for i, s in zip(index, read["strides"], strict=True))
        for index in np.ndindex(*read["sizes"])
    ]


def _check_rows(key: str, item: dict[str, Any], reads: list[dict[str, Any]], places: list[list[int]]) -> int:
    """Compare the rows of every part of a kernel, counted along its stored `in` dimension; gives how many."""
    count = sum(len(part) for part in places)
    axes = ["in"] if item.get("segments") else reads[0]["axes"]
    found = [i for i, group in enumerate(parse_side(item["layout"])) if sorted(group) == sorted(axes)]
    if not found or item["shape"][found[0]] != count:
        return 0  # a bias, a recurrent kernel
    rows = np.indices(item["shape"])[found[0]].reshape(-1)
    parts = pieces(key, item)
    for piece in parts:
        number = int(piece.at.get("in", 0))
        words = [a for group in parse_side(piece.axes) for a in group]
        taken = piece.view.take(rows)
        order = [words.index(a) for a in reads[number]["axes"]]
        taken = np.moveaxis(taken, order, range(len(order))).reshape(len(places[number]), -1)
        assert (taken == np.array(places[number])[:, None]).all(), piece.name
    return len(parts)


@pytest.mark.parametrize("split", ["gates", "none"])
@pytest.mark.parametrize("model", CASES, ids=lambda c: c.id)
def test_other_splits_rebuild_the_same_arrays(model: Case, split: Any, exported: Exported, tmp_path: Path) -> None:
    wexport.export(model.path, tmp_path / "out", architecture=model.architecture, split=split)
    with wexport.open(tmp_path / "out") as bundle:
        whole = exported(model)
        assert list(bundle.manifest["weights"]) == list(whole.manifest["weights"])
        for key in bundle.manifest["weights"]:
            assert rebuilt(bundle, key).tobytes() == rebuilt(whole, key).tobytes()
        assert not any(".from." in name for name in bundle)
        if split == "none":
            used = Counter(t["weight"] for t in bundle.manifest["tensors"].values())
            refolded = {
                k for k, i in bundle.manifest["weights"].items() if any("refold" in s for s in i.get("steps", []))
            }
            assert {k for k, n in used.items() if n > 1} <= refolded, (
                "one tensor an array, unless its blocks are turned"
            )


def test_unsplit_names() -> None:
    plans = {split: wexport.plan(STOCK.path, split=split) for split in ("all", "gates", "none")}
    names = {split: [t.name for t in plan.tensors] for split, plan in plans.items()}
    assert names["all"][12:14] == ["dense_1.from.lstm_1", "dense_1.from.aux_input"]
    assert names["gates"] == [*names["all"][:12], "dense_1.kernel", *names["all"][14:]]
    whole = {t.name: (t.shape, t.axes) for t in plans["none"].tensors}
    assert whole["lstm_1.kernel"] == ((6, 512), "in (gate unit)")
    assert whole["lstm_1.recurrent"] == ((128, 512), "hidden (gate unit)")
    assert whole["lstm_1.bias"] == ((512,), "(gate unit)")
    for plan in plans.values():
        plan.close()


@pytest.mark.parametrize("model", [STOCK, *(c for c in CASES if c.stem in SOME)], ids=lambda c: c.id)
def test_two_runs_give_identical_bytes(model: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wexport.export(model.path, tmp_path / "one", architecture=model.architecture)
    monkeypatch.setattr(work, "_PAYS", 0)
    monkeypatch.setattr("os.cpu_count", lambda: 4)
    wexport.export(model.path, tmp_path / "two", architecture=model.architecture)
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


@pytest.mark.parametrize(("limit", "count"), [(1, 19), (1000, 16), (100_000, 5)])
def test_shards_hold_the_same(limit: int, count: int, tmp_path: Path) -> None:
    wexport.export(STOCK.path, tmp_path / "whole")
    wexport.export(STOCK.path, tmp_path / "parts", max_shard_size=limit)
    files = contents(tmp_path / "parts")
    whole = contents(tmp_path / "whole")
    assert files.pop("manifest.yaml") == whole["manifest.yaml"]
    index = json.loads(files.pop("model.safetensors.index.json"))
    assert sorted(files) == [f"model-{i:05d}-of-{len(files):05d}.safetensors" for i in range(1, len(files) + 1)]
    assert len(files) == count
    with wexport.open(tmp_path / "whole") as one, wexport.open(tmp_path / "parts") as many:
        assert list(many) == list(one)
        assert index["metadata"]["total_size"] == sum(one.raw(name).nbytes for name in one)
        for name, place in index["weight_map"].items():
            assert many[name].tobytes() == one[name].tobytes()
            with safe_open(tmp_path / "parts" / place, framework="numpy") as file:
                assert name in file.keys()  # noqa: SIM118 - no mapping
        sizes = Counter()
        for name, place in index["weight_map"].items():
            sizes[place] += one.raw(name).nbytes
        largest = max(one.raw(name).nbytes for name in one)
        assert max(sizes.values()) <= max(limit, largest)


def test_half_types_are_kept_exactly(exported: Exported) -> None:
    """Stored types, not those of the golden arrays, which are widened for NumPy."""
    found = {
        (t["dtype"], bundle.manifest["weights"][t["weight"]]["dtype"])
        for model in CASES
        for bundle in [exported(model)]
        for t in bundle.manifest["tensors"].values()
    }
    assert {("BF16", "bfloat16"), ("I8", "int8"), ("F32", "float32"), ("I64", "int64")} <= found
    for code, name in found:
        assert code == dtypes.code(name) or name in {"int4", "uint8"}, "int4 comes as int8, one value an element"


@pytest.mark.parametrize("model", [c for c in CASES if "bfloat16" in c.stem], ids=lambda c: c.id)
def test_bfloat16_arrays_come_as_such(model: Case, exported: Exported) -> None:
    bundle = exported(model)
    halves = [name for name, item in bundle.manifest["tensors"].items() if item["dtype"] == "BF16"]
    assert bool(halves) == (not model.stem.startswith("m5_mixed")), "a mixed policy keeps its variables in float32"
    for name in halves:
        golden = model.weights[bundle.manifest["weights"][bundle.manifest["tensors"][name]["weight"]]["index"]]
        assert str(bundle[name].dtype) == "bfloat16"
        assert sorted(bundle[name].astype(np.float32).reshape(-1)) == sorted(golden.reshape(-1))
