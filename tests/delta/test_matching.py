"""Which layer is which, where names and bytes do not tell, or tell otherwise."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from parts import Parts

import wexport
from wexport.delta.difference import Difference

SIZE = 8


def net(layers: list[tuple[str, list[str]]], seed: int) -> Parts:
    """Dense layers, and where several values are read, sums; weights drawn anew for each seed."""
    about: dict[str, Any] = {"name": "n", "framework": "keras", "framework_version": "1", "parameters": 1}
    about["source"] = {"file": "f", "format": "keras-h5", "bytes": 1}
    shape = {"shape": [None, SIZE], "dtype": "float32"}
    sections = ("layers", "equations", "weights", "tensors", "aliases", "left_out", "stats")
    p = Parts({"wexport": 1, "model": about, "inputs": {"x": shape}, "calls": [], **{s: {} for s in sections}}, {})
    draw = np.random.default_rng(seed)
    for name, reads in layers:
        many = len(reads) > 1
        out = {"value": name, "role": "y", **shape}
        p.manifest["calls"].append({"layer": name, "args": {"x": reads if many else reads[0]}, "out": [out]})
        if many:
            p.manifest["layers"][name] = {"kind": "add", "class": "Add", "broadcast": "keras"}
            continue
        dense = {"kind": "dense", "class": "Dense", "units": SIZE, "activation": {"name": "relu"}}
        p.manifest["layers"][name] = dense
        p.add(f"{name}.kernel", draw.standard_normal((SIZE, SIZE)).astype("f4"), "in out", name, "kernel")
        p.add(f"{name}.bias", np.zeros(SIZE, "f4"), "out", name, "bias")
    p.manifest["outputs"] = {"y": {"value": layers[-1][0]}}
    return p


def compared(a: Parts, b: Parts, folder: Path) -> Difference:
    return wexport.diff(a.write(folder / "a"), b.write(folder / "b")).difference


def layers(found: Difference) -> dict[str | None, str | None]:
    return {pair.a: pair.b for pair in found.layers}


def test_a_name_decides_between_equal_branches(tmp_path: Path) -> None:
    """Of two layers that read the same, the one of the same name is kept for it, whichever comes first."""
    a = net([("one", ["x"]), ("two", ["x"]), ("sum", ["one", "two"])], 1)
    b = net([("new", ["x"]), ("one", ["x"]), ("sum", ["one", "new"])], 2)
    assert layers(compared(a, b, tmp_path)) == {"one": "one", "two": "new", "sum": "sum"}


def test_a_block_inserted_into_equal_blocks(tmp_path: Path) -> None:
    def blocks(*names: str) -> list[tuple[str, list[str]]]:
        found, last = [], "x"
        for name in names:
            found += [(f"d{name}", [last]), (f"s{name}", [last, f"d{name}"])]
            last = f"s{name}"
        return found

    found = compared(net(blocks("1", "2", "3"), 1), net(blocks("1", "9", "2", "3"), 2), tmp_path)
    assert {fact.b for fact in found.facts if fact.what == "layer added"} == {"d9", "s9"}
    assert {fact.what for fact in found.facts} == {"layer added", "values changed"}


def test_positions_decide_where_all_names_changed(tmp_path: Path) -> None:
    """A model built twice in one program: every layer counts on."""
    chain = [("d1", ["x"]), ("d2", ["d1"]), ("d3", ["d2"])]
    later = [("d3", ["x"]), ("d4", ["d3"]), ("d5", ["d4"])]
    found = compared(net(chain, 1), net(later, 2), tmp_path)
    assert layers(found) == {"d1": "d3", "d2": "d4", "d3": "d5"}
    assert {pair.how for pair in found.layers} == {"position"}


def test_numbers_that_were_not_finite_before(tmp_path: Path) -> None:
    """Only what became NaN or infinite is counted."""
    a, b = (net([("d", ["x"])], 1) for _ in range(2))
    a.tensors["d.kernel"][0, :2] = b.tensors["d.kernel"][0, :2] = np.nan
    b.tensors["d.kernel"][1, :3] = [np.inf, np.nan, 7]
    (fact,) = compared(a, b, tmp_path).facts
    assert fact.change is not None
    assert (fact.change.nonfinite, fact.change.share) == (2, 3 / SIZE**2)
