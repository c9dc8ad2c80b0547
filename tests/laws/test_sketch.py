"""Sketches: what their definition gives, however the numbers come in, and lengths that are nearly right."""

from __future__ import annotations

import base64
import hashlib
import math
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wexport import dtypes, stats
from wexport.errors import BundleError
from wexport.sketch import BLOCK, BUCKETS, ERROR, FLOOR, Sketch, decode, distance, encode, mix, norm, place

RANDOM = np.random.default_rng(0)
LONG = RANDOM.normal(size=3 * BLOCK + 1234)
KNOWN = (np.arange(200_000) * 7919 % 1000 - 500) / 8  # exact in float32, and their sums too


def sketched(x: Any) -> str | None:
    found = Sketch()
    found.add(np.asarray(x))
    return found.result()


def taken(x: Any) -> str:
    text = sketched(x)
    assert text is not None
    return text


def streamed(raw: Any, dtype: str, cuts: list[int]) -> str | None:
    """The sketch of elements, moved as unsigned integers, that come in pieces."""
    sketch, memory = Sketch(), stats.scratch()
    found = stats.Stats(dtype, sketch.add)
    for start, stop in zip([0, *cuts], [*cuts, raw.size], strict=True):
        found.update(raw[start:stop], memory)
    found.result(memory)
    return sketch.result()


# -- the definition ----------------------------------------------------------------------------------------------------

PLACES = {
    0: (0, 1),
    1: (1, 1),
    63: (63, 1),
    64: (56, 1),
    65_535: (57, 1),
    65_536: (16, 1),
    1_000_003: (1, 1),
    2**32 - 1: (15, 1),
    2**32: (2, 1),
    2**32 + 12_345: (55, 1),
    2**48 - 1: (59, -1),
}


def test_the_places_are_those_of_every_version() -> None:
    assert {index: place(index) for index in PLACES} == PLACES


def test_the_documentation_defines_the_same_places() -> None:
    text = (Path(__file__).parents[2] / "docs/sketches.md").read_text(encoding="utf-8")
    code = text.partition("```python\n")[2].partition("```")[0]
    defined: dict[str, Any] = {}
    exec(code, defined)
    for index in (*PLACES, *range(0, 2**22, 977), *range(2**40, 2**40 + 2**22, 997)):
        assert defined["place"](index) == place(index)


def test_a_sketch_is_that_of_every_version() -> None:
    assert {i: v for i, v in enumerate(decode(taken(KNOWN[:3]))) if v} == {0: -62.5, 1: 52.375, 2: -42.25}
    assert (
        hashlib.sha256(taken(KNOWN).encode()).hexdigest()
        == "38b7b5504e152a0f8dfe5ab3b3e121788f2b1230e8a918e8d2a0457674be0dc0"
    )


def test_mixing_is_a_bijection() -> None:
    assert mix(0) == 0
    assert mix(1) == 0x688990C0
    assert len({mix(i) for i in range(1 << 16)} | {mix(i << 16) for i in range(1 << 16)}) == (1 << 17) - 1


@pytest.mark.parametrize("size", [1, 64, 1000, BLOCK, LONG.size])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_sketch_is_what_the_definition_says(size: int, dtype: Any) -> None:
    x = LONG[:size].astype(dtype)
    sums = [0.0] * BUCKETS
    for i, value in enumerate(x.tolist()):
        bucket, sign = place(i)
        sums[bucket] += sign * value
    assert decode(taken(x)) == pytest.approx(sums, rel=1e-6, abs=1e-9 * size)


def test_elements_of_later_blocks_go_where_the_definition_says() -> None:
    sketch, index = Sketch(), (2**32 + 5 * BLOCK) + 4321
    sketch._blocks = index // BLOCK
    one = np.zeros(BLOCK)
    one[index % BLOCK] = 2.0
    sketch.add(one)
    bucket, sign = place(index)
    assert decode(sketch.result() or "") == tuple(2.0 * sign if i == bucket else 0.0 for i in range(BUCKETS))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_sums_are_taken_in_the_order_that_is_stated(dtype: Any) -> None:
    """Large numbers that cancel, between small ones of which their sums keep nothing: any other order shows."""
    x = np.ones(2 * BLOCK + 100, dtype)
    for block in range(2):
        order = sorted(range(1024), key=lambda row, block=block: scattered(row, block))
        for row, large in (
            (order[i], 2.0**60 if i < 512 else -(2.0**60)) for i in (*range(128, 192), *range(576, 640))
        ):
            start = block * BLOCK + row * 64
            x[start : start + 64] = [place(start + c)[1] * large for c in range(64)]
    total = np.zeros((64, 64))
    for block in range(2):
        part = np.zeros((64, 64))
        rows: dict[int, list[tuple[int, float]]] = {}
        for row in range(1024):
            start = block * BLOCK + row * 64
            rows[scattered(row, block)] = [(place(start + c)[1], float(x[start + c])) for c in range(64)]
        for row in range(1024):
            part[row % 64] = [old + sign * value for old, (sign, value) in zip(part[row % 64], rows[row], strict=True)]
        total = total + part
    sums = np.zeros(64)
    for low in range(64):
        sums = sums + total[low][np.arange(64) ^ low]
    rest = np.zeros(64)
    for i in range(2 * BLOCK, x.size):
        bucket, sign = place(i)
        rest[bucket] += sign * float(x[i])
    assert decode(taken(x)) == tuple((sums + rest).astype(np.float32).tolist())


def scattered(row: int, block: int) -> int:
    row = (row ^ mix(block)) & 1023
    for _ in range(3):
        row = row * 677 & 1023
        row ^= row >> 5
    return row


# -- how the numbers come in -------------------------------------------------------------------------------------------


@given(st.lists(st.integers(0, LONG.size), max_size=8).map(sorted))
@settings(max_examples=30, deadline=None)
def test_pieces_do_not_matter(cuts: list[int]) -> None:
    raw = LONG.astype(np.float32).view(np.uint32)
    assert streamed(raw, "float32", cuts) == taken(LONG.astype(np.float32))


@pytest.mark.parametrize("dtype", sorted(set(dtypes._TABLE) - {"complex64"}))
def test_every_type_is_sketched_as_its_numbers(dtype: str) -> None:
    x = RANDOM.integers(0, 2 if dtype == "bool" else 100, BLOCK + 77).astype(dtypes.numpy_dtype(dtype))
    expected = taken(x.astype(np.float64))
    assert streamed(x.view(dtypes.mover(dtype)), dtype, [100, BLOCK]) == expected


@pytest.mark.parametrize("cuts", [[], [7], [BLOCK // 2, BLOCK]])
def test_a_complex_number_is_two(cuts: list[int]) -> None:
    x = LONG[: 2 * (BLOCK + 99)].astype(np.float32)
    assert streamed(x.view(np.complex64).view(np.uint64), "complex64", cuts) == taken(x)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_elements_that_are_not_finite_count_as_zeros(bad: float, dtype: Any) -> None:
    x = LONG[: BLOCK + 50].astype(dtype)
    x[[3, 1000, BLOCK + 7]] = 0
    expected = taken(x)
    x[[3, 1000, BLOCK + 7]] = bad
    assert sketched(x) == expected


def test_there_is_none_where_float32_cannot_hold_it() -> None:
    assert Sketch().result() is None
    assert sketched(np.zeros(0)) is None
    for size in (1, BLOCK):
        assert sketched(np.full(size, 1e300)) is None
        assert sketched(np.full(size, 1.7e308)) is None
        assert sketched(np.full(size, 1e-60)) is None
        assert norm(taken(np.zeros(size))) == 0.0
        assert norm(taken(np.full(size, -0.0))) == 0.0
    assert taken(np.zeros(5)) == taken(np.full(5, -0.0))


# -- comparing ---------------------------------------------------------------------------------------------------------


def test_sketches_are_linear() -> None:
    a, b = LONG, np.roll(LONG, 1) * 3
    difference = [y - x for x, y in zip(decode(taken(a)), decode(taken(b)), strict=True)]
    assert decode(taken(b - a)) == pytest.approx(difference, abs=1e-3)
    assert distance(taken(a), taken(b)) == pytest.approx(norm(taken(b - a)), rel=1e-6)


def test_the_order_matters_and_the_shape_does_not() -> None:
    x = LONG[:6000].reshape(60, 100)
    assert distance(taken(x), taken(x.T)) > norm(taken(x))
    assert distance(taken(x), taken(x[::-1])) > norm(taken(x))
    assert taken(x) == taken(x.reshape(-1)) == taken(x.reshape(3, 2000))


def test_what_is_below_the_floor_is_rounding() -> None:
    """The distance of two tensors is that of their difference, but for the floor."""
    for seed in range(20):
        random = np.random.default_rng(seed)
        x, d = random.normal(size=(2, 3000))
        for scale in (1e-3, 1e-6, 1e-9, 0.0):
            found = distance(taken(x), taken(x + scale * d))
            assert abs(found - scale * norm(taken(d))) <= FLOOR * norm(taken(x)) * (1 + 1e-3)


Change = Callable[[Any, Any], None]


def _column(d: Any, random: Any) -> None:
    d[:, random.integers(d.shape[1])] = random.normal(size=len(d))


def _row(d: Any, random: Any) -> None:
    d[random.integers(len(d))] = 0.1


def _gate(d: Any, random: Any) -> None:
    units = d.shape[1] // 4
    start = units * int(random.integers(4))
    d[:, start : start + units] = 0.1 * random.normal(size=(len(d), 1))


def _block(d: Any, random: Any) -> None:
    top, left = (int(random.integers(1 + n // 2)) for n in d.shape)
    d[top : top + d.shape[0] // 2, left : left + d.shape[1] // 2] = 0.1


def _every(d: Any, random: Any) -> None:
    k = int(2 ** random.integers(1, 8)) + int(random.integers(-1, 2))
    d.reshape(-1)[random.integers(k) :: max(1, k)] = 0.1


def _shift(d: Any, random: Any) -> None:
    d[: random.integers(len(d) // 2, len(d)) + 1] = 0.1


def _rank_one(d: Any, random: Any) -> None:
    d += random.normal(size=(len(d), 1)) * random.normal(size=d.shape[1])


def _five(d: Any, random: Any) -> None:
    d.reshape(-1)[random.choice(d.size, 5, replace=False)] = random.normal(size=5)


@pytest.mark.parametrize("change", [_column, _row, _gate, _block, _every, _shift, _rank_one, _five])
@pytest.mark.parametrize("shape", [(64, 64), (300, 100), (16, 4096), (256, 1024), (3, 65536)])
def test_lengths_are_as_good_as_theory_says(change: Change, shape: tuple[int, int]) -> None:
    random, errors = np.random.default_rng(1), []
    for _ in range(40):
        d = np.zeros(shape)
        change(d, random)
        errors.append(norm(taken(d)) / float(np.linalg.norm(d)) - 1)
    assert math.hypot(*errors) / math.sqrt(len(errors)) < 2 * ERROR
    assert abs(sum(errors)) / len(errors) < 2 * ERROR
    assert max(map(abs, errors)) < 0.7


def test_over_many_structures_the_error_is_the_one_that_is_stated() -> None:
    random, errors = np.random.default_rng(2), []
    for change in (_column, _gate, _block, _every, _rank_one):
        for shape in ((64, 64), (300, 100), (200, 512)):
            for _ in range(30):
                d = np.zeros(shape)
                change(d, random)
                errors.append(norm(taken(d)) / float(np.linalg.norm(d)) - 1)
    assert 0.7 * ERROR < math.hypot(*errors) / math.sqrt(len(errors)) < 1.1 * ERROR


# -- as text -----------------------------------------------------------------------------------------------------------


def test_text_is_float32_in_base64() -> None:
    values = [float(np.float32(v)) for v in RANDOM.normal(size=BUCKETS)]
    text = encode(values)
    assert np.frombuffer(base64.b64decode(text), "<f4").tolist() == values
    assert decode(text) == tuple(values)
    assert len(text) == 344


_WHOLE = encode([1.0] * BUCKETS)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (_WHOLE[:-4], "has 255 bytes, expected 256"),
        (_WHOLE[:-1], "is not base64"),
        ("", "has 0 bytes"),
        (_WHOLE[:10] + "\n" + _WHOLE[10:], "is not base64"),
        (_WHOLE[:10] + "ä" + _WHOLE[11:], "is not base64"),
        (base64.b64encode(struct.pack("<64f", *[1.0] * 63, math.nan)).decode(), "not finite"),
        (base64.b64encode(struct.pack("<64f", math.inf, *[1.0] * 63)).decode(), "not finite"),
        (None, "is not base64"),
        (17, "is not base64"),
        ({"a": 1}, "is not base64"),
    ],
)
def test_damaged_text_is_refused(text: Any, words: str) -> None:
    for use in (decode, norm, lambda t: distance(t, _WHOLE), lambda t: distance(_WHOLE, t)):
        with pytest.raises(BundleError, match=words):
            use(text)
