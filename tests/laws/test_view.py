"""Views: what is taken goes back where it was, and every chain of steps is what NumPy would do."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from wexport.view import Unpack, View, c_strides

Array = np.ndarray[Any, Any]
SHAPES = st.lists(st.integers(1, 5), min_size=1, max_size=4).map(tuple)


def _factored(n: int) -> list[tuple[int, ...]]:
    """A length as the product of one to three."""
    divisors = [d for d in range(1, n + 1) if n % d == 0]
    pairs = [(d, n // d) for d in divisors]
    return [(n,), *pairs, *((d, m // e, e) for d, m in pairs for e in divisors if m % e == 0)]


@st.composite
def chains(draw: st.DrawFn, lossless: bool = False) -> tuple[View, Array]:
    """A view made by random steps, and the same steps done by NumPy on the numbers of the elements."""
    shape = draw(SHAPES)
    view, array = View.whole(shape), np.arange(math.prod(shape)).reshape(shape)
    steps = ["unfold", "flip", "permute", "refold", *([] if lossless else ["index", "narrow"])]
    for step in draw(st.lists(st.sampled_from(steps), max_size=5)):
        if not array.ndim:
            break
        axis = draw(st.integers(0, array.ndim - 1))
        n = array.shape[axis]
        if step == "index":
            i = draw(st.integers(0, n - 1))
            view, array = view.index(axis, i), array.take(i, axis)
        elif step == "narrow":
            start = draw(st.integers(0, n - 1))
            size = draw(st.integers(1, n - start))
            view, array = view.narrow(axis, start, size), array.take(range(start, start + size), axis)
        elif step == "flip":
            view, array = view.flip(axis), np.flip(array, axis)
        elif step == "permute":
            order = tuple(draw(st.permutations(range(array.ndim))))
            view, array = view.permute(order), array.transpose(order)
        elif step == "unfold":
            view, array = draw(_unfolded(view, array, axis))
        else:
            block = array.reshape(math.prod(array.shape[axis:]), math.prod(array.shape[:axis]))
            view, array = view.refold(axis), block.T.reshape(array.shape)
    return view, array


@st.composite
def _unfolded(draw: st.DrawFn, view: View, array: Array, axis: int) -> tuple[View, Array]:
    """An axis taken apart, its parts stored in any order."""
    sizes = draw(st.sampled_from(_factored(array.shape[axis])))
    order = draw(st.permutations(range(len(sizes))))
    stored = c_strides(tuple(sizes[i] for i in order))
    strides = tuple(stored[order.index(i)] for i in range(len(sizes)))
    split = array.reshape(*array.shape[:axis], *(sizes[i] for i in order), *array.shape[axis + 1 :])
    places = [axis + order.index(i) for i in range(len(sizes))]
    rest = [*range(axis), *places, *range(axis + len(sizes), split.ndim)]
    return view.unfold(axis, 0, sizes, strides), split.transpose(rest)


@given(chains())
def test_take_is_what_numpy_does(chain: tuple[View, Array]) -> None:
    view, array = chain
    flat = np.arange(int(array.max()) + 1000)
    np.testing.assert_array_equal(view.take(flat), array)
    assert view.shape == array.shape
    assert view.size == array.size


@given(chains(), st.integers(0, 2**32 - 1))
def test_put_restores_what_take_took(chain: tuple[View, Array], seed: int) -> None:
    view, array = chain
    stored = np.random.default_rng(seed).integers(0, 2**32, 1000, np.uint32)
    taken = np.array(view.take(stored))
    other = np.zeros_like(stored)
    view.put(taken, other)
    places = np.unique(array)
    np.testing.assert_array_equal(other[places], stored[places])
    assert np.count_nonzero(np.delete(other, places)) == 0, "nothing else is touched"
    np.testing.assert_array_equal(view.take(other), taken)


@given(chains(lossless=True))
def test_steps_that_drop_nothing_cover_every_element_once(chain: tuple[View, Array]) -> None:
    view, array = chain
    np.testing.assert_array_equal(np.sort(view.take(np.arange(array.size)).reshape(-1)), np.arange(array.size))


@given(chains())
def test_the_span_is_the_stretch_that_is_looked_at(chain: tuple[View, Array]) -> None:
    view, array = chain
    if view.of is None:
        assert view.span == (array.min(), array.max() + 1)


@given(SHAPES, st.data())
def test_indexing_an_axis_covers_it_once(shape: tuple[int, ...], data: st.DataObject) -> None:
    view = View.whole(shape)
    axis = data.draw(st.integers(0, len(shape) - 1))
    flat = np.arange(view.size)
    parts = [view.index(axis, i).take(flat) for i in range(shape[axis])]
    np.testing.assert_array_equal(np.stack(parts, axis), flat.reshape(shape))


@given(SHAPES, st.data())
def test_packed_numbers_come_back(shape: tuple[int, ...], data: st.DataObject) -> None:
    axis, signed = data.draw(st.integers(0, len(shape) - 1)), data.draw(st.booleans())
    flat, bits = data.draw(st.booleans()), data.draw(st.sampled_from([2, 4, 6]))
    unpack = Unpack(shape, None if flat else axis, signed, bits)
    low, high = (-(1 << bits - 1), 1 << bits - 1) if signed else (0, 1 << bits)
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    numbers = rng.integers(low, high, shape).astype(np.int8 if signed else np.uint8)
    packed = np.full(math.prod(unpack.stored_shape()), 0xFF, np.uint8)
    unpack.put(numbers.reshape(-1), packed)
    taken = unpack.take(packed)
    assert taken.dtype == numbers.dtype
    np.testing.assert_array_equal(taken.reshape(shape), numbers)
    again = np.zeros_like(packed)
    unpack.put(taken, again)
    np.testing.assert_array_equal(again, packed)
    view = View.whole(shape, unpack).flip(axis)
    np.testing.assert_array_equal(view.take(packed), np.flip(numbers, axis))
    view.put(view.take(packed), again)
    np.testing.assert_array_equal(again, packed)


def test_the_low_nibble_is_first() -> None:
    packed = np.array([0x21, 0x8F], np.uint8)
    assert Unpack((4,), 0).take(packed).tolist() == [1, 2, -1, -8]
    assert Unpack((3,), 0, signed=False).take(packed).tolist() == [1, 2, 15]


def test_the_lowest_bits_are_first() -> None:
    """As ONNX has it: along the flattened array, six bits as one stream."""
    packed = np.array([0b11_10_01_00, 0b10], np.uint8)
    assert Unpack((5,), None, False, 2).take(packed).tolist() == [0, 1, 2, 3, 2]
    assert Unpack((1, 5), 1, True, 2).take(packed).tolist() == [0, 1, -2, -1, -2]
    assert Unpack((3, 1), None, False, 4).take(np.array([0x21, 0x03], np.uint8)).tolist() == [1, 2, 3]
    six = [1, 2 << 2 | 3, 9, 63, 5]
    stream = sum(n << 6 * i for i, n in enumerate(six)).to_bytes(4, "little")
    assert Unpack((5,), None, False, 6).take(np.frombuffer(stream, np.uint8)).tolist() == six


def test_a_refolded_block_was_flattened_in_fortran_order() -> None:
    block = np.arange(6).reshape(2, 3)
    stored = block.ravel(order="F")
    np.testing.assert_array_equal(View.whole((2, 3)).refold(1).take(stored), block)


def test_an_empty_array_has_empty_views() -> None:
    view = View.whole((0, 3)).permute((1, 0)).flip(1)
    assert view.take(np.zeros(0)).shape == (3, 0)
    assert view.span[0] == view.span[1]
