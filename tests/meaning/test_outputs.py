"""A model computed from its bundle alone gives what the framework gave: so every name means what it says."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cases import Case, case, cases
from conftest import Exported

import wexport
from wexport.errors import UsageError
from wexport.evaluate import evaluate
from wexport.layers import recurrent

Array = np.ndarray[Any, Any]
CASES = cases()
STOCK = case("keras2.0.8-tf1.4/m1_stock.h5")
RECURRENT = case("keras2.2.4-tf1.13/m2_recurrent_ra0.h5")

# Allowed difference, relative to the largest output. float32: a few hundred roundings of 6e-8 at worst, summed in
# another order than here, where all is float64. Half types: each layer's result is rounded, and a sum that the
# framework took in another order may fall on the other side of a rounding, in several layers behind each other: four
# units in the last place (2**-10 and 2**-7 of a number's power of two; half of that of the largest output).
TOLERANCES = {"float32": 1e-5, "float16": 4 * 2.0**-11, "bfloat16": 4 * 2.0**-8}

# What cannot be computed from the file, by version and file name, with a part of the message that says so.
NOT_COMPUTED = {
    r".*/m4_structure\..*": r"lam \(Lambda\) is no layer",  # code in a file is never run
    r".*/m5_custom_layer\..*": r"blk \((Zoo>)?Block\) is no layer",  # the user's own class
    r".*/m5_(stringlookup|textvec)\.weights\.h5": "vocabulary",  # it stands neither there nor in the architecture
    r".*/m5_textvec\.h5": "vocabulary",
}
# What a file does not tell, or what its golden outputs were not made with.
NOT_COMPARED = {
    r"keras1\.2\.2-theano-th/op_(pad|upsample)\..*": "no config in the file says which axis is the channels'",
    r"tf\.keras-tf2\.12/m5_normalization\..*": "Keras 2.12 does not write down that a Normalization is inverted",
    r".*/m5_lora_int8\.keras": "the archive holds the merged kernel, quantized anew; outputs are of the kernel before",
    r".*/m5_subclass\..*": "an archive of a subclassed model has no graph",
    r"keras3\.0\.5/m5_catenc\..*": "has no golden outputs",
}
# Golden outputs beyond the model's: of a second predict(), which went on from the states that the first one left.
SECOND_CALL = r".*/m2_stateful\..*"


def listed(table: Mapping[str, str], model: Case) -> str | None:
    return next((value for pattern, value in table.items() if re.fullmatch(pattern, model.id)), None)


COMPARED = [c for c in CASES if not listed(NOT_COMPUTED, c) and not listed(NOT_COMPARED, c)]


def computed(bundle: wexport.Bundle, model: Case, tensors: Mapping[str, str] | None = None) -> dict[str, Array]:
    """Every value of a model; `tensors` says which tensor is taken for which."""
    other = tensors or {}
    inputs = dict(zip(bundle.manifest["inputs"], model.arrays("in"), strict=True))
    return evaluate(bundle.manifest, lambda name: bundle[other.get(name, name)], inputs)


def outputs(bundle: wexport.Bundle, values: Mapping[str, Array]) -> list[Array]:
    return [np.asarray(values[o["value"]]) for o in bundle.manifest["outputs"].values()]


def golden(model: Case) -> list[Array]:
    found = model.arrays("out")
    return found[:1] if re.fullmatch(SECOND_CALL, model.id) else found


def difference(found: Array, wanted: Array) -> float:
    """The largest difference, relative to the largest number."""
    if wanted.dtype.kind == "U":
        return float((found.astype(str) != wanted).any())
    wanted = wanted.astype(np.float64)
    return float(np.abs(found - wanted).max(initial=0) / max(np.abs(wanted).max(initial=0), 1e-30))


def tolerance(bundle: wexport.Bundle) -> float:
    types = {out["dtype"] for call in bundle.manifest["calls"] for out in call["out"]}
    return max(TOLERANCES.get(t, 0.0) for t in {*types, "float32"})


@pytest.mark.parametrize("model", COMPARED, ids=lambda c: c.id)
def test_outputs_are_those_of_the_framework(model: Case, exported: Exported) -> None:
    bundle, wanted = exported(model), golden(model)
    found = outputs(bundle, computed(bundle, model))
    assert [f.shape for f in found] == [w.shape for w in wanted]
    worst = max(difference(f, w) for f, w in zip(found, wanted, strict=True))
    assert worst <= tolerance(bundle)


@pytest.mark.parametrize("model", COMPARED, ids=lambda c: c.id)
def test_every_value_has_the_stated_shape(model: Case, exported: Exported) -> None:
    bundle = exported(model)
    values = computed(bundle, model)
    for call in bundle.manifest["calls"]:
        for out in call["out"]:
            if out["value"] is None or out["shape"] is None:
                continue
            shape = values[out["value"]].shape
            assert len(shape) == len(out["shape"]), out
            assert all(n in (None, m) for n, m in zip(out["shape"], shape, strict=True)), (out, shape)


@pytest.mark.parametrize("model", [c for c in CASES if listed(NOT_COMPUTED, c)], ids=lambda c: c.id)
def test_what_cannot_be_computed_is_said(model: Case, exported: Exported) -> None:
    with pytest.raises(UsageError, match=listed(NOT_COMPUTED, model)):
        computed(exported(model), model)


@pytest.mark.parametrize(
    "model", [c for c in CASES if re.match(r"keras1.*/op_(pad|upsample)", c.id)], ids=lambda c: c.id
)
def test_a_doubtful_data_format_is_said(model: Case) -> None:
    plan = wexport.plan(model.path, architecture=model.architecture)
    plan.close()
    assert any("does not say which axis is the channels'" in text for text in plan.warnings)


@pytest.mark.parametrize("table", [NOT_COMPUTED, NOT_COMPARED], ids=["computed", "compared"])
def test_every_exception_is_needed(table: dict[str, str]) -> None:
    for pattern in table:
        assert any(re.fullmatch(pattern, model.id) for model in CASES), pattern


# -- the test can fail -------------------------------------------------------------------------------------------------


def test_any_two_tensors_swapped_are_seen(exported: Exported) -> None:
    bundle, wanted = exported(RECURRENT), golden(RECURRENT)
    stated = bundle.manifest["tensors"]
    pairs = [(a, b) for a in stated for b in stated if a < b and stated[a]["shape"] == stated[b]["shape"]]
    assert len(pairs) > 100
    for a, b in pairs:
        found = outputs(bundle, computed(bundle, RECURRENT, {a: b, b: a}))
        worst = max(difference(f, w) for f, w in zip(found, wanted, strict=True))
        assert worst > 10 * TOLERANCES["float32"], (a, b)


def test_gates_in_another_order_are_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(recurrent.GATES, "lstm", ("input", "output", "forget", "cell"))
    wexport.export(STOCK.path, tmp_path / "out")
    with wexport.open(tmp_path / "out") as bundle:
        found = outputs(bundle, computed(bundle, STOCK))
    assert difference(found[0], golden(STOCK)[0]) > 100 * TOLERANCES["float32"]


def _first_of_each() -> list[tuple[Case, str, str]]:
    """The first model that has each kind of layer with each of its tensors, by name below the layer."""
    found: dict[tuple[str, str], tuple[Case, str, str]] = {}
    for model in COMPARED:
        plan = wexport.plan(model.path, architecture=model.architecture)
        plan.close()
        kinds = {layer.name: layer.kind for layer in plan.layers}
        for tensor in plan.tensors:
            short = tensor.name.removeprefix(f"{tensor.layer}.").partition("from.")[0]
            if np.prod(tensor.shape) > 1:
                found.setdefault((kinds[tensor.layer], short), (model, tensor.name, f"{kinds[tensor.layer]}.{short}"))
    return list(found.values())


# Tensors whose order no output can show.
UNREAD = {
    r".*_amax_history": "a history for training in float8",
    r".*\.vector_u": "a start value for training",
    r".*_group": "the same group number everywhere, in models this small",
    r"multi_head_attention\.key\.bias": "adds the same to all scores of a query, which softmax does not see",
}


_EACH = [pytest.param(m, n, id=i) for m, n, i in _first_of_each() if not any(re.fullmatch(p, i) for p in UNREAD)]


@pytest.mark.parametrize(("model", "name"), _EACH)
def test_every_tensor_matters(model: Case, name: str, exported: Exported) -> None:
    """Turned around, it gives other outputs: so it is read, and in its own order."""
    bundle, wanted = exported(model), golden(model)
    inputs = dict(zip(bundle.manifest["inputs"], model.arrays("in"), strict=True))
    turned = bundle[name].reshape(-1)[::-1].reshape(bundle[name].shape)
    values = evaluate(bundle.manifest, lambda n: turned if n == name else bundle[n], inputs)
    found = outputs(bundle, values)
    assert max(difference(f, w) for f, w in zip(found, wanted, strict=True)) > tolerance(bundle)
