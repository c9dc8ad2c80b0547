"""The onnx package's own node tests through everything: a file, a bundle, the numbers computed from the bundle."""

from __future__ import annotations

import re
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from onnx_files import Array, assert_close, computed, exported, stored

from wexport.evaluate import unsupported

# Operators whose inputs but the first are weights in practice: those are stored.
LAYERS = {
    "LSTM", "GRU", "RNN", "Conv", "ConvTranspose", "Gemm", "BatchNormalization", "LayerNormalization",
    "InstanceNormalization", "GroupNormalization", "RMSNormalization", "PRelu", "DeformConv", "QLinearConv",
    "QLinearMatMul", "ConvInteger", "MatMulInteger", "DequantizeLinear", "QuantizeLinear",
}  # fmt: skip
# Operators that wexport exports whole: their cases say so.
NOT_KNOWN = {
    r"(nesterov_)?momentum.*|adam.*|adagrad.*|training_dropout.*": "training",
    r"bernoulli.*": "random numbers",
    r"regex_.*|image_decoder_.*": "patterns, which could keep a machine busy, and files of pictures",
    r"cast(like)?(_no_saturate)?_.*(FLOAT8|FLOAT4|INT4|INT2|E8M0|STRING).*|cast_e8m0_.*": "types of no layer",
    r"flexattention.*": "its score is a graph of its own",
    r"linear_attention_.*_expanded": "it casts to the type of a value that has none in the file",
    r"if_opt": "values that may be missing",
}
# The same where the settings are inputs of the model, too.
COMPUTED_SETTING = {r"cum(sum|prod)_.*": "the axis comes when the model runs"}
# Results that the case states with four digits.
ROUGH = r"averagepool_2d_ceil_last_window_starts_on_pad|roialign_aligned_(true|false)|gridsample_bicubic"
# Half types: each result is rounded, here as there, but sums are taken in another order.
PRECISION = {"float16": 2e-3, "bfloat16": 1.6e-2}


def _cases() -> list[Any]:
    from onnx.backend.test.case.node import collect_testcases

    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        found = collect_testcases(None)
    return [c for c in found if all(_is_array(x) for x in c.data_sets[0][0])]


def _is_array(value: Any) -> bool:
    """Sequences and optional values are no inputs that a bundle can be computed with."""
    return isinstance(value, np.ndarray | np.generic | onnx.TensorProto)


def array(value: Any) -> Array:
    return numpy_helper.to_array(value) if isinstance(value, onnx.TensorProto) else np.asarray(value)


def number(value: Array) -> Array:
    """Types that only ml_dtypes has, as numbers."""
    return value.astype(np.float64) if value.dtype.name.startswith(("bfloat", "float8", "float4")) else value


CASES = _cases()


def name_of(case: Any) -> str:
    return str(case.name).removeprefix("test_")


def listed(table: dict[str, str], case: Any) -> bool:
    return any(re.fullmatch(pattern, name_of(case)) for pattern in table)


def chosen(case: Any, settled: bool) -> list[str]:
    """The inputs to store: of a layer its weights; with `settled` all but the first one."""
    names = [port.name for port in case.model.graph.input]
    if settled:
        return names[1:]
    nodes = case.model.graph.node
    return [n for n in nodes[0].input[1:] if n in names] if len(nodes) == 1 and nodes[0].op_type in LAYERS else []


def outcome(case: Any, settled: bool, place: Path) -> str | None:
    """What is wrong, `whole` where the model is not computed, None if all is well."""
    inputs, wanted = case.data_sets[0]
    proto, left = stored(case.model, [array(x) for x in inputs], chosen(case, settled))
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        with exported(proto, place) as bundle:
            if unsupported(bundle.manifest):
                return "whole"
            found = computed(bundle, [number(x) for x in left])
    for mine, theirs in zip(found, wanted, strict=True):
        for a, b in zip(mine, theirs, strict=True) if isinstance(theirs, list | tuple) else [(mine, theirs)]:
            compare(a, array(b), 1e-3 if re.fullmatch(ROUGH, name_of(case)) else 1e-5)
    return None


def compare(found: Any, wanted: Array, tolerance: float) -> None:
    if wanted.dtype.kind in "OUS":
        assert np.asarray(found).astype(str).tolist() == wanted.astype(str).tolist()
        return
    assert_close([found], [number(wanted)], PRECISION.get(wanted.dtype.name, tolerance))


@pytest.mark.parametrize("settled", [False, True], ids=["weights", "settled"])
def test_official_cases(settled: bool, tmp_path: Path) -> None:
    """All in one test: what pytest spends on one of them is more than what it takes."""
    wrong, whole = [], []
    for i, case in enumerate(CASES):
        try:
            if outcome(case, settled, tmp_path / str(i)):
                whole.append(case)
        except Exception as error:
            wrong.append(f"{case.name}: {type(error).__name__}: {' '.join(str(error).split())[:300]}")
    assert not wrong, "\n".join(wrong)
    table = NOT_KNOWN if settled else {**NOT_KNOWN, **COMPUTED_SETTING}
    assert [c.name for c in whole if not listed(table, c)] == []
    for pattern in table:
        assert any(re.fullmatch(pattern, name_of(c)) for c in whole), f"{pattern}: all of these are computed"
    assert len(CASES) - len(whole) > 1500


def test_what_has_bodies_and_cells_is_there() -> None:
    """Nothing of these is left out by the tables."""
    for word in ("LSTM", "GRU", "RNN", "Attention", "Loop", "If", "Scan", "QuantizeLinear", "DequantizeLinear"):
        found = [c for c in CASES if any(n.op_type == word for n in c.model.graph.node) and not listed(NOT_KNOWN, c)]
        assert found, word
