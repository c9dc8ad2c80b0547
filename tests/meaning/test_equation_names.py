"""Equations speak of a layer's tensors by their names, of all of them and of no others."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from cases import Case, cases
from conftest import Exported

_REFERENCE = re.compile(r"(\bx\[)?`([^`]+)`")
# tensors that no equation names
UNNAMED = {
    r".*_amax_history|gradient_scale|vector_u|count": "kept for training or adapt(); no prediction reads it",
}


def weighted(manifest: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any], set[str]]]:
    """Layers that own tensors, with the tensors' names below the layer."""
    for name, layer in manifest["layers"].items():
        own = {n[len(name) + 1 :] for n, t in manifest["tensors"].items() if t["layer"] == name}
        if own:
            yield name, layer, own


@pytest.mark.parametrize("model", cases(), ids=lambda c: c.id)
def test_equations_name_each_tensor(model: Case, exported: Exported) -> None:
    manifest = exported(model).manifest
    for name, layer, own in weighted(manifest):
        lines = manifest["equations"].get(name, [])
        if layer["kind"] == "unknown" or layer.get("partial"):
            assert not lines, name
            continue
        found = [match.groups() for line in lines for match in _REFERENCE.finditer(line)]
        tensors = {text for index, text in found if not index}
        sources = {text for index, text in found if index}
        assert tensors <= own, (name, lines)
        unnamed = [t for t in own - tensors if not any(re.fullmatch(pattern, t) for pattern in UNNAMED)]
        assert not unnamed, (name, lines)
        assert sources <= {read["from"] for read in layer.get("reads", [])}, (name, lines)


def test_equations_of_the_readme_model(exported: Exported) -> None:
    model = next(c for c in cases() if c.id == "keras2.0.8-tf1.4/m1_stock.h5")
    found = exported(model).manifest["equations"]
    assert list(found) == ["lstm_1", "dense_1", "dense_2", "dense_3"]
    assert found["dense_1"] == ["y = x[`lstm_1`] @ `from.lstm_1` + x[`aux_input`] @ `from.aux_input` + `bias`"]
    assert any("`forget.kernel`" in line and "`forget.recurrent`" in line for line in found["lstm_1"])
