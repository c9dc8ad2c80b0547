"""One layout: the same weights through Keras' files and through every exporter are the same tensors, names aside."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pytest
from cases import DATA, Case, onnx_cases
from conftest import Exported

import wexport

GROUP = DATA / "onnx/C_identity"
CASES = onnx_cases("C_identity")


@dataclass(frozen=True)
class Loss:
    """What an exporter did to a model: the tensors that are gone or have other numbers, and what is there instead."""

    lost: str
    instead: frozenset[str]
    reason: str


_BATCH_NORM = r"batch_normalization_1\.(scale|offset|mean|variance)"
_LSTM_BIASES = {
    f"lstm.{gate}.{role}" for gate in ("input", "forget", "cell", "output") for role in ("bias", "recurrent_bias")
}
NONE = Loss("", frozenset(), "")
# By file: what is not as in Keras' own file. Everything else is.
LOSSES: dict[str, Loss] = {
    r"conv(_nhwcflat)?\.torch_(legacy|legacy13|dynamo)": Loss(
        rf"conv2d_1\.(kernel|bias)|{_BATCH_NORM}",
        frozenset({"conv.kernel", "conv.bias"}),
        "the normalization is folded into the convolution, whose numbers are others",
    ),
    r"conv\.(keras_export|keras_export_op15|tf2onnx_\w+)": Loss(
        _BATCH_NORM,
        frozenset({"multiply.operand", "add.operand"}),
        "the normalization has become a product and a sum; its four vectors are gone",
    ),
    r"conv\.keras_torchbackend_export": Loss(
        rf"conv2d_1\.bias|{_BATCH_NORM}",
        frozenset({"add.operand", "subtract.operand", "multiply.operand"}),
        "bias and normalization are arithmetic on arrays of four axes",
    ),
    r"key\.keras_torchbackend_export": Loss(
        r"lstm_1\..*",
        frozenset({"dense.kernel", "dense.bias"}),
        "the cell is unrolled: its steps are products with the four gates in one",
    ),
    r"bilstm\.keras_torchbackend_export": Loss(
        r"bidirectional_1\..*|dense_1\.kernel",
        frozenset({"dense.kernel", "dense.bias", "dense.from.?"}),
        "the same in both directions, whose last steps the next layer reads as two sources",
    ),
    r"key_split\..*": Loss(
        r"lstm_1\.\w+\.bias",
        frozenset(_LSTM_BIASES),
        "the bias was spread over PyTorch's two",
    ),
}  # fmt: skip


def loss(model: Case) -> Loss:
    return next((what for pattern, what in LOSSES.items() if re.fullmatch(pattern, model.path.stem)), NONE)


Facts = dict[str, dict[str, tuple[Any, ...]]]


def facts(manifest: Mapping[str, Any]) -> Facts:
    """By layer and the tensor's name below it: all that is said of it."""
    found: Facts = {}
    for name, t in manifest["tensors"].items():
        if t["layer"] is not None:
            short = name.removeprefix(f"{t['layer']}.")
            fact = (
                t["dtype"],
                tuple(t["shape"]),
                t["axes"],
                t["role"],
                sorted(i for i in t["at"].items() if i[0] != "bias"),
                t["sha256"],
            )
            found.setdefault(t["layer"], {})[short] = fact
    return found


def nameless(tensors: Mapping[str, tuple[Any, ...]], names: Mapping[str, str]) -> dict[str, tuple[Any, ...]]:
    """A layer's tensors with their sources under common names; `?` is one that only this file has."""
    found = {}
    for short, fact in tensors.items():
        head, mark, source = short.partition("from.")
        found[f"{head}{mark}{names.get(source, '?')}" if mark else short] = fact
    return found


def paired(wanted: Facts, found: Facts, kinds: Mapping[str, Any], others: Mapping[str, Any]) -> dict[str, str]:
    """For each layer of one file the layer of another of the same kind with the most of its numbers."""
    pairs: dict[str, str] = {}
    for mine, tensors in wanted.items():
        sums = {fact[-1] for fact in tensors.values()}
        common = {
            name: len(sums & {fact[-1] for fact in have.values()})
            for name, have in found.items()
            if others[name]["kind"] == kinds[mine]["kind"] and name not in pairs.values()
        }
        best = max(common, key=lambda n: common[n], default=None)
        if best is not None and common[best]:
            pairs[mine] = best
    return pairs


def compared(a: wexport.Bundle, b: wexport.Bundle) -> tuple[set[str], set[str]]:
    """The tensors of the first that the second does not have as they are, and the second's (by kind) that are new."""
    one, two = a.manifest, b.manifest
    wanted, found = facts(one), facts(two)
    pairs = paired(wanted, found, one["layers"], two["layers"])
    if len(one["inputs"]) > 1:  # an exporter may turn their order
        assert set(one["inputs"]) == set(two["inputs"])
    inputs = {name: name for name in one["inputs"]} if len(one["inputs"]) > 1 else {}
    mine = {name: name for name in [*pairs, *one["inputs"]]}
    theirs = {other: name for name, other in pairs.items()} | inputs
    lost: set[str] = set()
    new = {f"{two['layers'][n]['kind']}.{s}" for n in found if n not in pairs.values() for s in found[n]}
    for name, tensors in wanted.items():
        want, have = nameless(tensors, mine), nameless(found.get(pairs.get(name, ""), {}), theirs)
        lost |= {f"{name}.{short}" for short, fact in want.items() if have.get(short) != fact}
        kind = one["layers"][name]["kind"]
        new |= {f"{kind}.{short}" for short, fact in have.items() if want.get(short) != fact}
    return lost, new


def keras(model: Case) -> Case:
    """The same weights in the file that Keras wrote."""
    return Case(GROUP / f"{re.split('[._]', model.path.stem)[0]}.h5", None, model.golden)


def test_every_model_and_exporter_is_there() -> None:
    stems = {c.path.stem for c in CASES}
    for name in ("key", "bilstm", "conv"):
        for exporter in ("torch_legacy", "torch_dynamo", "torch_dynamo_noopt", "tf2onnx_keras", "keras_export"):
            assert f"{name}.{exporter}" in stems
    assert all(any(re.fullmatch(pattern, stem) for stem in stems) for pattern in LOSSES)
    assert len(CASES) == 38


@pytest.mark.parametrize("model", CASES, ids=lambda c: c.path.stem)
def test_the_tensors_are_those_of_keras(model: Case, exported: Exported) -> None:
    what = loss(model)
    lost, new = compared(exported(keras(model)), exported(model))
    listed = {
        n
        for layer, t in facts(exported(keras(model)).manifest).items()
        for s in t
        if re.fullmatch(what.lost, n := f"{layer}.{s}")
    }
    assert lost == listed, what.reason
    assert new == what.instead, what.reason


@pytest.mark.parametrize("name", ["key", "bilstm", "conv"])
def test_keras_own_two_files_agree(name: str, exported: Exported) -> None:
    one, two = (exported(Case(GROUP / f"{name}.{ending}", None, GROUP)) for ending in ("h5", "keras"))
    assert compared(one, two) == (set(), set())
    assert list(one.manifest["tensors"]) == list(two.manifest["tensors"])


@pytest.mark.parametrize("model", [c for c in CASES if c.path.stem.startswith("conv")], ids=lambda c: c.path.stem)
def test_a_folded_normalization_is_said(model: Case, exported: Exported) -> None:
    """Nobody may take the kernel that it was folded into for the trained one."""
    said = {n for n, layer in exported(model).manifest["layers"].items() if layer.get("fused")}
    folded = "torch_legacy" in model.path.stem or model.path.stem.endswith("torch_dynamo")
    assert bool(said) == (folded and "keepbn" not in model.path.stem)
