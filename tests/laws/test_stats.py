"""Statistics: what a plain computation gives, and the same however the numbers come in."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from wexport import dtypes, stats

REAL = [name for name in sorted(dtypes._TABLE) if name not in {"bool", "complex64"}]


@pytest.fixture(autouse=True, scope="module")
def _small_blocks() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stats, "BLOCK", 16)
        yield


def taken(raw: Any, dtype: str, cuts: list[int]) -> dict[str, Any]:
    """The statistics of elements that come in pieces."""
    return both(raw, dtype, cuts)[0]


def both(raw: Any, dtype: str, cuts: list[int]) -> tuple[dict[str, Any], tuple[float, float]]:
    """The statistics, and the sums behind them before anything is rounded."""
    found, memory = stats.Stats(dtype), stats.scratch()
    for start, stop in zip([0, *cuts], [*cuts, raw.size], strict=True):
        found.update(raw[start:stop], memory)
    return found.result(memory), (found.mean, found.squares)


@st.composite
def elements(draw: st.DrawFn) -> tuple[Any, str]:
    """Elements of any type, as the unsigned integers that move them; half of the time any bit pattern."""
    dtype = draw(st.sampled_from(REAL))
    mover = dtypes.mover(dtype)
    size = draw(st.integers(1, 200))
    if draw(st.booleans()):
        return draw(hnp.arrays(mover, size)), dtype
    tame = np.array(draw(st.lists(st.integers(-100, 100), min_size=size, max_size=size)), np.float64)
    if dtypes.is_float(dtype):
        return (tame / draw(st.integers(1, 1000))).astype(dtypes.numpy_dtype(dtype)).view(mover), dtype
    return np.abs(tame).astype(dtype).view(mover), dtype


def six(x: float) -> float | None:
    return float(f"{x:.5e}") if math.isfinite(x) else None


@given(elements())
def test_they_are_those_of_a_plain_computation(given_elements: tuple[Any, str]) -> None:
    raw, dtype = given_elements
    x = dtypes.widen(raw, dtype).astype(np.float64)
    found = taken(raw, dtype, [])
    assert found["zeros"] == int((x == 0).sum())
    assert found["nonfinite"] == int((~np.isfinite(x)).sum())
    with np.errstate(all="ignore"):
        assert (found["min"], found["max"]) == (six(float(x.min())), six(float(x.max())))
        largest = float(np.abs(x).max())
        if not np.isfinite(x).all():
            assert found["mean"] is None
            assert found["std"] is None
            assert found["l2"] is None
        elif largest < 1e150:  # above, squares overflow
            mean = math.fsum(x) / x.size
            scaled = (x - mean) / (largest or 1.0)
            std = largest * math.sqrt(math.fsum(scaled**2) / x.size)
            assert found["mean"] == pytest.approx(mean, rel=1e-5, abs=1.1e-7 * largest)
            assert found["std"] == pytest.approx(std, rel=1e-5, abs=1e-12 * largest)
            assert found["l2"] == pytest.approx(largest * math.sqrt(math.fsum((x / (largest or 1.0)) ** 2)), rel=1e-5)


@given(elements(), st.data())
def test_they_do_not_depend_on_the_pieces(given_elements: tuple[Any, str], data: st.DataObject) -> None:
    raw, dtype = given_elements
    cuts = sorted(data.draw(st.lists(st.integers(0, raw.size), max_size=6)))
    assert repr(both(raw, dtype, cuts)) == repr(both(raw, dtype, [])), "to the last bit, as the blocks are the same"


def test_a_large_tensor_in_full_blocks() -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stats, "BLOCK", 65_536)
        x = np.random.default_rng(1).normal(3, 0.01, 700_001).astype(np.float32)
        found = taken(x.view(np.uint32), "float32", [5, 65_536, 65_537, 400_000])
        assert found == taken(x.view(np.uint32), "float32", [])
    wide = x.astype(np.float64)
    assert found["std"] == six(float(wide.std()))
    assert found["l2"] == six(float(np.linalg.norm(wide)))
    assert found["mean"] == pytest.approx(float(wide.mean()), abs=5e-6)  # six digits


@pytest.mark.parametrize("value", [0.1, -3.0, 0.0, 1e-30, 3e38])
def test_equal_numbers_have_no_spread(value: float) -> None:
    raw = np.full(100, value, np.float32).view(np.uint32)
    found = taken(raw, "float32", [7, 50])
    assert found["std"] == 0.0
    assert found["min"] == found["mean"] == found["max"] == six(float(np.float32(value)))


def test_nothing_has_no_statistics() -> None:
    assert taken(np.empty(0, np.uint32), "float32", []) == {
        "min": None, "max": None, "mean": None, "std": None, "l2": 0.0, "zeros": 0, "nonfinite": 0,
    }  # fmt: skip


def test_truth_values_are_numbers() -> None:
    found = taken(np.array([1, 0, 1, 1], np.uint8), "bool", [2])
    assert (found["min"], found["max"], found["mean"], found["zeros"]) == (0.0, 1.0, 0.75, 1)
