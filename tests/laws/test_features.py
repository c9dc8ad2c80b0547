"""Features: what a value says of its positions is what NumPy finds there."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wexport.features import (
    Dim,
    Run,
    Value,
    concat,
    cut,
    drop_axis,
    leaves,
    new_axis,
    resample,
    reshape,
    source,
    transpose,
)

Array = np.ndarray[Any, Any]
SHAPES = st.lists(st.integers(1, 6), min_size=1, max_size=4).map(tuple)
MOVES = ["reshape", "transpose", "cut", "concat", "new", "drop"]


def _opened(draw: st.DrawFn, shape: tuple[int, ...]) -> tuple[Dim, ...]:
    """A shape of which one length may not be known."""
    hidden = draw(st.none() | st.integers(0, len(shape) - 1)) if shape else None
    return tuple(None if i == hidden else n for i, n in enumerate(shape))


def _refolded(draw: st.DrawFn, n: int) -> tuple[int, ...]:
    """Some shape of n elements."""
    shape = []
    for _ in range(draw(st.integers(0, 3))):
        shape.append(draw(st.sampled_from([d for d in range(1, n + 1) if n % d == 0])))
        n //= shape[-1]
    return tuple(draw(st.permutations([*shape, n])))


@st.composite
def values(draw: st.DrawFn) -> tuple[Value, Array, tuple[int, ...]]:
    """A value moved about at random, the numbers of its elements moved alike, and the shape where it started."""
    first = draw(SHAPES)
    value, real = source("x", _opened(draw, first), "float32"), np.arange(math.prod(first)).reshape(first)
    for move in draw(st.lists(st.sampled_from(MOVES), max_size=5)):
        axis = draw(st.integers(0, real.ndim - 1)) if real.ndim else 0
        known = bool(real.ndim) and (value.shape or ())[axis] is not None
        if move == "reshape":
            real = real.reshape(_refolded(draw, real.size))
            value = reshape(value, _opened(draw, real.shape))
        elif move == "transpose":
            order = draw(st.permutations(range(real.ndim)))
            value, real = transpose(value, order), real.transpose(order)
        elif move == "cut" and known:
            start = draw(st.integers(0, real.shape[axis] - 1))
            stop = draw(st.integers(start + 1, real.shape[axis]))
            value, real = cut(value, axis, start, stop), real.take(range(start, stop), axis)
        elif move == "concat" and known and real.size < 500:
            value, real = concat([value, value], axis), np.concatenate([real, real], axis)
        elif move == "new" and real.size < 500:
            value, real = new_axis(value, axis, 2), np.repeat(np.expand_dims(real, axis), 2, axis)
        elif move == "drop" and real.ndim:
            value, real = drop_axis(value, axis), real.take(0, axis)
    return value, real, first


def _positions(run: Run, n: int) -> list[tuple[int, dict[int, int]]]:
    """A run's positions, and how far each lies from the first along the source's axes."""
    found: list[tuple[int, dict[int, int]]] = [(run.start, {})]
    for atom, stride in run.atoms:
        found = [
            (place + i * stride, {**moved, atom.order: moved.get(atom.order, 0) + i * atom.unit})
            for place, moved in found
            for i in range(n if atom.size is None else atom.size)
        ]
    return found


@given(values())
def test_every_position_holds_what_its_part_says(case: tuple[Value, Array, tuple[int, ...]]) -> None:
    value, real, first = case
    assert all(n in (None, m) for n, m in zip(value.shape or (), real.shape, strict=True))
    seen = np.zeros(real.shape, int)
    for part in value.parts or ():
        runs = (_positions(run, n) for run, n in zip(part.runs, real.shape, strict=True))
        begin = np.unravel_index(real[tuple(run.start for run in part.runs)], first)
        for combined in itertools.product(*runs):
            place = tuple(position for position, _ in combined)
            seen[place] += 1
            found = np.unravel_index(real[place], first)
            for order in {order for _, moved in combined for order in moved if order >= 0}:
                assert found[order] - begin[order] == sum(moved.get(order, 0) for _, moved in combined)
    assert value.parts is None or (seen == 1).all()


def _two(*lead: Dim) -> Value:
    """Features of two sources along the last axis."""
    return concat([source("a", (*lead, 3), None), source("b", (*lead, 5), None)], -1)


def _labels(value: Value, axis: int = -1) -> list[tuple[str, int]] | None:
    found = leaves(value, axis)
    return None if found is None else [(leaf.label, leaf.size) for leaf in found]


TWO = [("a", 3), ("b", 5)]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ((None, None), [(None,)]),
        ((None, None), [(None,), (None, None)]),
        ((None, 6), [(None,)]),
        ((2, 3), [(6,)]),
        ((4, 6), [(3, 8), (None, 2), (4, None)]),
        ((None, 7), [(7, None), (None, 7)]),
    ],
)
def test_features_stay_where_other_axes_are_folded(old: tuple[Dim, ...], new: list[tuple[Dim, ...]]) -> None:
    value = _two(*old)
    for lead in new:
        value = reshape(value, (*lead, 8))
    assert _labels(value) == TWO


def test_axes_behind_what_is_folded_are_followed_on() -> None:
    value = reshape(_two(None, None, 4), (None, 32))
    found = [(leaf.label, leaf.sizes, leaf.strides) for leaf in leaves(value, -1) or ()]
    assert found == [("a", (4, 3), (8, 1)), ("b", (4, 5), (8, 1))]
    assert _labels(reshape(value, (None, None, 4, 8))) == TWO


def test_what_is_folded_has_no_names() -> None:
    value = reshape(_two(4, 6), (3, 8, 8))
    assert _labels(value) == TWO
    assert _labels(value, 0) is None
    assert _labels(reshape(value, (3, 64))) is None
    assert _labels(concat([value, value], 1), 1) is None


def test_a_part_that_is_not_everywhere_is_not_folded() -> None:
    value = concat([source("a", (4, 3, 8), None), source("b", (4, 3, 8), None)], 1)
    assert reshape(value, (3, 8, 8)).parts is None


def test_no_kernel_reads_the_batch() -> None:
    assert _labels(transpose(_two(4, 6), (1, 2, 0))) is None
    assert _labels(transpose(_two(4, 6), (1, 0, 2))) == TWO


def test_the_batch_is_an_axis_like_any_other() -> None:
    assert _labels(cut(_two(4, 6), 0, 1, 3)) == TWO
    assert _labels(concat([_two(4, 6), _two(2, 6)], 0)) is None
    assert _labels(drop_axis(_two(None, 6), 0)) == TWO
    assert _labels(new_axis(_two(None, 6), 0, 2)) == TWO
    assert _labels(concat([source("a", (None, 3), None), source("b", (2, 5), None)], -1)) == TWO
    assert resample(_two(2, 6, 7), (3, 4), -1).shape == (2, 3, 4, 8)
