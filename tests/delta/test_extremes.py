"""Numbers at the ends of their types: what cannot be told is not called nothing, or equal."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import twins

import wexport
from wexport.delta.change import Change
from wexport.errors import UsageError

NAN, INF, HUGE, TINY = np.nan, np.inf, 1.5e308, 5e-324


def compared(folder: Path, old: Any, new: Any, **options: Any) -> Any:
    paths = []
    for name, value in (("a", old), ("b", new)):
        paths.append(twins.write(folder / name, {"d0.kernel": np.asarray(value)}))
    return wexport.diff(*paths, **options)


def change(folder: Path, old: Any, new: Any) -> Change:
    (fact,) = compared(folder, old, new, top=2).difference.facts
    found: Change = fact.change
    return found


@pytest.mark.parametrize(
    ("old", "new", "appeared", "jumps"),
    [
        ([NAN, 1.0], [2.0, 1.0], 0, 1), ([INF, 1.0], [-INF, 1.0], 0, 1), ([1.0, 1.0], [NAN, 1.0], 1, 1),
        ([NAN, 1.0], [NAN, 2.0], 0, 0), ([NAN, INF], [INF, NAN], 0, 2),
    ],
)  # fmt: skip
def test_numbers_that_are_none(tmp_path: Path, old: Any, new: Any, appeared: int, jumps: int) -> None:
    old, new = (np.array([x, x], "f4") for x in (old, new))
    found = change(tmp_path, old, new)
    assert (found.nonfinite, found.jumps) == (2 * appeared, 2 * jumps)
    paths = tmp_path / "a", tmp_path / "b"
    assert wexport.diff(*paths, tolerance=1e9).difference.same == (not jumps)
    assert wexport.diff(*paths, fail_on=["relative>1e9"]).fails == bool(jumps)


def test_numbers_that_came_back_are_no_small_change_for_manifests_either(tmp_path: Path) -> None:
    compared(tmp_path, np.array([[NAN, 1.0]], "f4"), np.array([[1e-9, 1.0]], "f4"))
    for name in ("a", "b"):
        (tmp_path / f"{name}.yaml").write_bytes((tmp_path / name / "manifest.yaml").read_bytes())
    assert not wexport.diff(tmp_path / "a.yaml", tmp_path / "b.yaml", tolerance=1e9).difference.same


@pytest.mark.parametrize(("old", "new"), [(HUGE, -HUGE), (HUGE, 0.0), (TINY, 2 * TINY), (0.0, TINY)])
def test_lengths_that_float64_cannot_hold(tmp_path: Path, old: float, new: float) -> None:
    """The squares of these numbers are none, or zero: how far they moved is not told, never `0 %`."""
    found = change(tmp_path, np.full((4, 4), old), np.full((4, 4), new))
    assert found.relative is None
    assert found.cosine is None
    assert found.share == 1.0
    paths = tmp_path / "a", tmp_path / "b"
    assert not wexport.diff(*paths, tolerance=1e9).difference.same
    with pytest.raises(UsageError, match="too large or too small"):
        wexport.diff(*paths, fail_on=["relative>0.1"])
