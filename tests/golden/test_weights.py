"""Every array of `get_weights()` comes back from the bundle, in order, bit for bit."""

from __future__ import annotations

import re
from collections import Counter
from typing import Any

import numpy as np
import pytest
from cases import Case, cases
from conftest import Exported
from rebuild import rebuilt

from wexport import dtypes

# What cannot be compared as it is, by version and file name: each with its reason.
_ARCHIVE = r"(\.keras|\.weights\.h5|\.weights\.json)"
AS_SET = {
    rf".*/m5_subclass{_ARCHIVE}": "an archive of a subclassed model tells paths, not the order of weights",
    rf".*/m5_custom_layer{_ARCHIVE}": "the same, of a layer whose class is the user's own",
    r"keras3\.15\.1/m5_custom_layer\.h5": "the .h5 writer of this version goes by paths too in a custom layer",
}
MERGED = {
    rf".*/m5_lora{_ARCHIVE}": "archives hold the LoRA kernel merged, kernel + a @ b; a and b are gone",
    rf".*/m5_lora_int8{_ARCHIVE}": "the same, quantized anew with a scale of its own",
}
VOCABULARY = {
    rf"tf\.keras.*/m5_(stringlookup|textvec){_ARCHIVE}": "a vocabulary is no tensor but strings",
}
CASES = cases()


@pytest.mark.parametrize("model", CASES, ids=lambda c: c.id)
def test_every_stored_array_is_rebuilt(model: Case, exported: Exported) -> None:
    bundle, golden = exported(model), model.weights
    stored = {key: item for key, item in bundle.manifest["weights"].items() if "copy_of" not in item}
    found = [_values(rebuilt(bundle, key), item["dtype"]) for key, item in stored.items()]
    indices = [item["index"] for item in stored.values()]
    if _listed(AS_SET, model):
        assert Counter(map(_fact, found)) == Counter(map(_fact, golden))
        return
    assert indices == sorted(indices), "weights are listed in the order of get_weights()"
    if _listed(MERGED, model):
        found, golden = _unmerged(model, found, golden)
    elif _listed(VOCABULARY, model):
        golden = [w for w in golden if w.dtype.kind != "U"]
    else:
        assert indices == list(range(len(golden)))
    assert [_fact(a) for a in found] == [_fact(w) for w in golden]


@pytest.mark.parametrize("model", [c for c in CASES if c.stem == "m5_lora" and c.ending != ".h5"], ids=lambda c: c.id)
def test_an_archive_holds_the_merged_lora_kernel(model: Case, exported: Exported) -> None:
    kernel, _, a, b, *_ = model.weights
    # one rounding of a float32 sum of a few products: the order of its additions is the framework's own
    np.testing.assert_allclose(exported(model)["d1.kernel"], kernel + a @ b, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("model", [c for c in CASES if c.stem == "m5_spectral"], ids=lambda c: c.id)
def test_a_variable_that_is_stored_twice_is_one_tensor(model: Case, exported: Exported) -> None:
    bundle = exported(model)
    copies = [key for key, item in bundle.manifest["weights"].items() if "copy_of" in item]
    assert bool(copies) == (model.ending != ".h5"), "only archives store the kernel below the wrapper and the layer"
    for key in copies:
        assert key not in {t["weight"] for t in bundle.manifest["tensors"].values()}


@pytest.mark.parametrize("table", [AS_SET, MERGED, VOCABULARY], ids=["as_set", "merged", "vocabulary"])
def test_every_exception_is_needed(table: dict[str, str]) -> None:
    for pattern in table:
        assert any(re.fullmatch(pattern, model.id) for model in CASES), pattern


def _listed(table: dict[str, str], model: Case) -> bool:
    return any(re.fullmatch(pattern, model.id) for pattern in table)


def _values(stored: Any, dtype: str) -> Any:
    """Elements as the golden files have them, where bfloat16 and float8 are widened to float32."""
    return dtypes.widen(stored, dtype)


def _fact(array: Any) -> tuple[Any, ...]:
    return array.shape, array.dtype.str, array.tobytes()


def _unmerged(model: Case, found: list[Any], golden: list[Any]) -> tuple[list[Any], list[Any]]:
    """Without LoRA's own arrays and what merging changed: the first layer's kernel and, if quantized, its scale."""
    if model.stem == "m5_lora":  # kernel, bias, a, b | kernel, bias
        return found[1:], [golden[1], *golden[4:]]
    return [found[0], *found[3:]], [golden[0], *golden[5:]]  # bias, a, b, kernel, scale | bias, kernel, scale
