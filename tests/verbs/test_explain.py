"""What `explain` says is true: the expression, evaluated on the framework's own arrays, is the tensor."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from cases import Case, case, cases
from conftest import Exported

import wexport
from wexport.pythonic import expression
from wexport.subject import look
from wexport.verbs.explain import explanation, place
from wexport.view import View
from wexport.weights import pieces

CASES = cases()


def unpack_int4(packed: Any, axis: int) -> Any:
    """Two numbers a byte, low nibble first."""
    packed = np.moveaxis(packed, axis, -1)
    both = np.stack([packed & 15, packed >> 4 & 15], axis=-1).reshape(*packed.shape[:-1], -1)
    return np.moveaxis(np.where(both > 7, both.astype(np.int16) - 16, both).astype(np.int8), -1, axis)


@pytest.mark.parametrize("model", CASES, ids=lambda c: c.id)
def test_expressions_are_true(model: Case, exported: Exported) -> None:
    bundle = exported(model)
    weights = {key: _stored(item) for key, item in bundle.manifest["weights"].items() if "copy_of" not in item}
    by_index = {item["index"]: key for key, item in bundle.manifest["weights"].items() if key in weights}
    known = {"get_weights": lambda: _ByIndex(weights, by_index), "weights": weights, "unpack_int4": unpack_int4}
    with look(bundle.path) as subject:
        for name, item in bundle.manifest["tensors"].items():
            text = place(subject, name)
            assert text is not None, f"{name} has no expression"
            taken = eval(text, known)
            assert list(taken.shape) == item["shape"], f"{name}: {text}"
            assert np.array_equal(taken, _expected(bundle, name, weights)), f"{name}: {text}"


class _ByIndex:
    def __init__(self, weights: Any, keys: Any) -> None:
        self._weights, self._keys = weights, keys

    def __getitem__(self, i: int) -> Any:
        return self._weights[self._keys[i]]


def _stored(item: Any) -> Any:
    """An array whose every element is its place; bytes, where they hold two numbers each."""
    flat = np.arange(int(np.prod(item["shape"], dtype=int)))
    packed = any("unpack" in step for step in item.get("steps", ()))
    return (flat.astype(np.uint8) * 37 if packed else flat).reshape(item["shape"])


def _expected(bundle: wexport.Bundle, name: str, weights: Any) -> Any:
    item = bundle.manifest["tensors"][name]
    key = item["weight"]
    found = pieces(key, bundle.manifest["weights"][key])
    (piece,) = [p for p in found if (p.role, dict(p.at)) == (item["role"], item["at"])]
    return piece.view.take(weights[key].reshape(-1)).reshape(item["shape"])


def test_the_forum_model() -> None:
    found = wexport.explain(case("keras2.0.8-tf1.4/m1_stock.h5").path, "lstm_1")
    assert (found.kind, found.class_name) == ("lstm", "LSTM")
    places = {part.short: part.source for part in found.parts}
    assert places["forget.recurrent"] == "get_weights()[1][:, 128:256]"
    assert places["forget.bias"] == "get_weights()[2][128:256]"
    assert (found.equations[0], found.equations[-1]) == ("each step:", "y = last(h)")
    assert len(found.equations) == 8


def test_gates_that_are_arrays_of_their_own() -> None:
    model = case("keras1.2.2-tf/m1_stock.weights_only.h5")
    with look(model.path, model.architecture) as subject:
        places = {part.short: part.source for part in explanation(subject, "lstm_1").parts}
    assert places["forget.kernel"] == "get_weights()[6]"
    assert places["input.kernel"] == "get_weights()[0]"


@pytest.mark.parametrize(
    ("stored", "view", "shape", "text"),
    [
        ((4, 6), View.whole((4, 6)), (4, 6), "w"),
        ((4, 6), View((6, 4), (1, 6)), (6, 4), "w.T"),
        ((4, 6), View((4, 2), (6, 3), 1), (4, 2), "w[:, 1::3]"),
        ((4, 6), View((4, 6), (-6, 1), 18), (4, 6), "w[::-1]"),
        ((12,), View((3, 2), (1, 6), 1), (3, 2), "w.reshape(2, 6)[:, 1:4].T"),
        (
            (13, 5),
            View((2, 3, 5), (5, 20, 1), 5),
            (6, 5),
            "w[0:12].reshape(3, 4, 5)[:, 1:3].transpose(1, 0, 2).reshape(6, 5)",
        ),
        ((5, 1), View((5, 1), (1, 1)), (5, 1), "w"),
    ],
)
def test_the_shortest_text(stored: Any, view: View, shape: Any, text: str) -> None:
    found = expression("w", stored, view, shape)
    assert found == text
    array = np.arange(int(np.prod(stored))).reshape(stored)
    assert np.array_equal(eval(found, {"w": array}), view.take(array.reshape(-1)).reshape(shape))


def test_no_text_rather_than_a_wrong_one() -> None:
    overlapping = View((3, 3), (2, 1))
    assert expression("w", (12,), overlapping, (3, 3)) is None
