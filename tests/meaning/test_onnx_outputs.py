"""An ONNX model computed from its bundle alone gives what onnxruntime gave: so every name means what it says."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from cases import DATA, Case, onnx_cases
from conftest import Exported

import wexport
from wexport.errors import UsageError
from wexport.evaluate import evaluate

Array = np.ndarray[Any, Any]
CASES = onnx_cases()

# Allowed difference, relative to the largest output. float32: a few hundred roundings of 6e-8 at worst, summed in
# another order than here, where all is float64. Half types: each result is rounded, and a sum that was taken in another
# order may fall on the other side of a rounding, in several layers behind each other: four units in the last place.
# Sixteen-bit integers: a number between two of them may become the other one: two steps of 2**-16. (A number in eight
# bits may too, at 4e-3; in the files here none does.)
TOLERANCES = {"float32": 1e-5, "float16": 4 * 2.0**-11, "bfloat16": 4 * 2.0**-8, "uint16": 2 * 2.0**-16}

# Where the outputs are what is left of much larger numbers: their size, whose roundings in float32 are the difference.
SCALES = {
    r"D_sklearn/gpr": 1e5 * 1e4,  # a kernel scaled with 100,000, times coefficients up to 10,592 that sum to nothing
}

# What cannot be computed, with a part of the message that says so.
NOT_COMPUTED = {
    r"A2_rnn/lstm_proj\.dynamo": r"\(Concat\) is no layer",  # PyTorch's exporter has lost a part of the weights
    r"B_keras/(conv13d|groupconv)\.\w+": r"\(StatefulPartitionedCall\) is no layer",  # TensorFlow's own
}
# What no one can compute: PyTorch's exporter has lost a part of the weights, and joined matrices with vectors.
DAMAGED = {"A2_rnn/lstm_proj.dynamo"}
# What takes its weights as inputs, or texts: compared with onnxruntime itself, in `test_onnx_recurrent.py` and
# `test_onnx_extras.py`.
LIVE = r"A1_key/key\.(dynamo_program_noinit|legacy_noparams)|D_sklearn/tfidf"
# What has no golden outputs of its own.
OF_KERAS = r"B_keras/mha\.\w+"  # onnxruntime has no Erfc, which tf2onnx writes: compared with the Keras file


def name_of(model: Case) -> str:
    return str(model.path.relative_to(DATA / "onnx").with_suffix(""))


def listed(table: Mapping[str, Any], model: Case) -> Any:
    return next((value for pattern, value in table.items() if re.fullmatch(pattern, name_of(model))), None)


COMPUTED = [c for c in CASES if not listed(NOT_COMPUTED, c)]
COMPARED = [c for c in COMPUTED if c.golden.exists()]


def arrays(model: Case, prefix: str, names: list[str]) -> dict[str, Array]:
    """The golden inputs or outputs by the names that the file gives them, or else in its order."""
    with np.load(model.golden, allow_pickle=False) as found:
        keys = [k for k in found.files if k.startswith(prefix)]
        if not {f"{prefix}{name}" for name in names} & set(keys):
            return dict(zip(names, (found[k] for k in keys), strict=True))
        return {name: found[f"{prefix}{name}"] for name in names if f"{prefix}{name}" in keys}


def read(manifest: Mapping[str, Any]) -> set[str]:
    """The values that calls read, in bodies too, as text."""
    return set(re.findall(r"'([^']*)'", repr([call["args"] for call in manifest["calls"]])))


def computed(bundle: wexport.Bundle, inputs: Mapping[str, Array]) -> dict[str, Array]:
    """A model's outputs; an input that nothing reads may be left out."""
    missing = {name: np.zeros(1) for name in bundle.manifest["inputs"] if name not in inputs}
    assert not set(missing) & read(bundle.manifest)
    values = evaluate(bundle.manifest, lambda n: bundle[n], {**inputs, **missing})
    return {name: np.asarray(values[o["value"]]) for name, o in bundle.manifest["outputs"].items()}


def difference(found: Array, wanted: Array, scale: float | None = None) -> float:
    """The largest difference, relative to the largest number; what is not finite must be the same."""
    if wanted.dtype.kind in "US":
        return float((found.astype(str) != wanted).any())
    found, wanted = found.astype(np.float64), wanted.astype(np.float64)
    finite = np.isfinite(wanted)
    np.testing.assert_array_equal(found[~finite], wanted[~finite])
    size = scale or max(np.abs(wanted[finite]).max(initial=0), 1e-30)
    return float(np.abs(found[finite] - wanted[finite]).max(initial=0) / size)


def tolerance(bundle: wexport.Bundle) -> float:
    types = {out["dtype"] for call in bundle.manifest["calls"] for out in call["out"]}
    return max(TOLERANCES.get(t, 0.0) for t in {*types, "float32"})


@pytest.mark.parametrize("model", COMPARED, ids=name_of)
def test_outputs_are_those_of_the_runtime(model: Case, exported: Exported) -> None:
    bundle = exported(model)
    wanted = arrays(model, "out_", list(bundle.manifest["outputs"]))
    found = computed(bundle, arrays(model, "in_", list(bundle.manifest["inputs"])))
    assert {n: f.shape for n, f in found.items()} == {n: w.shape for n, w in wanted.items()}
    worst = max(difference(found[name], wanted[name], listed(SCALES, model)) for name in wanted)
    assert worst <= tolerance(bundle)


@pytest.mark.parametrize("model", [c for c in CASES if re.fullmatch(OF_KERAS, name_of(c))], ids=name_of)
def test_outputs_are_those_of_the_keras_file(model: Case, exported: Exported) -> None:
    bundle, keras = exported(model), exported(Case(model.path.with_name("mha.keras"), None, model.golden))
    (name,), (own,) = bundle.manifest["inputs"], keras.manifest["inputs"]
    length = keras.manifest["inputs"][own]["shape"][1]
    ids = np.random.default_rng(0).integers(0, 19, (3, length))
    (found,), (wanted,) = computed(bundle, {name: ids}).values(), computed(keras, {own: ids}).values()
    assert found.shape == wanted.shape
    assert difference(found, wanted) <= TOLERANCES["float32"]


@pytest.mark.parametrize("model", [c for c in CASES if listed(NOT_COMPUTED, c)], ids=name_of)
def test_what_cannot_be_computed_is_said(model: Case, exported: Exported) -> None:
    bundle = exported(model)
    with pytest.raises(UsageError, match=listed(NOT_COMPUTED, model)):
        evaluate(bundle.manifest, lambda n: bundle[n], dict.fromkeys(bundle.manifest["inputs"], np.zeros(1)))


def test_every_file_is_compared_or_listed() -> None:
    rest = [c for c in COMPUTED if not c.golden.exists()]
    assert [name_of(c) for c in rest if not re.fullmatch(f"{OF_KERAS}|{LIVE}", name_of(c))] == []
    for pattern in [*SCALES, *NOT_COMPUTED]:
        assert any(re.fullmatch(pattern, name_of(c)) for c in CASES), pattern


ANY_WORD = {"add", "multiply", "subtract", "divide"}  # their operands are called as the file calls them


def kinds(models: list[Case], exported: Exported) -> set[str]:
    """The kinds of the layers that own tensors, with each tensor's role."""
    found = set()
    for model in models:
        manifest = exported(model).manifest
        tensors = [t for t in manifest["tensors"].values() if t["layer"] is not None]
        pairs = [(manifest["layers"][t["layer"]]["kind"], t["role"]) for t in tensors]
        found |= {f"{kind}.{'operand' if kind in ANY_WORD else role}" for kind, role in pairs}
    return found


def test_every_kind_is_computed_somewhere(exported: Exported) -> None:
    """Every tensor's role of every kind of layer stands in a model whose outputs are compared."""
    whole = [c for c in CASES if name_of(c) not in DAMAGED]
    left = kinds(whole, exported) - kinds(COMPARED, exported)
    assert {name for name in left if not name.startswith("unknown.")} == set()
