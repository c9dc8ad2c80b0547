"""One model, written down ten times by ten versions: the same tensors each time.

It is the model that a user of a forum asked about: an LSTM(128) over 30 steps of 6 features, joined with one more
input, and three Dense layers. "Which of the 512 columns belong to the forget gate, and which row of the first Dense
layer reads the other input?"
"""

from __future__ import annotations

import re

import numpy as np
import pytest
from cases import Case, cases
from conftest import Exported

import wexport

MODELS = [c for c in cases() if c.stem == "m1_stock"]
# Keras counts layers of a class from 1 up to 2.x, tf.keras and Keras 3 leave the first one bare
FIRST_IS_1 = ("keras1", "keras2")
TENSORS = {
    **{f"lstm_1.{g}.kernel": ((6, 128), "in unit") for g in ("input", "forget", "cell", "output")},
    **{f"lstm_1.{g}.recurrent": ((128, 128), "hidden unit") for g in ("input", "forget", "cell", "output")},
    **{f"lstm_1.{g}.bias": ((128,), "unit") for g in ("input", "forget", "cell", "output")},
    "dense_1.from.lstm_1": ((128, 64), "in out"),
    "dense_1.from.aux_input": ((1, 64), "in out"),
    "dense_1.bias": ((64,), "out"),
    "dense_2.kernel": ((64, 16), "in out"),
    "dense_2.bias": ((16,), "out"),
    "dense_3.kernel": ((16, 1), "in out"),
    "dense_3.bias": ((1,), "out"),
}


def counted_from_1(name: str) -> str:
    """A name of a version that leaves the first layer's number out, as the others have it."""
    return re.sub(r"\b(lstm|dense)(?:_(\d))?(?=\.|$)", lambda m: f"{m[1]}_{int(m[2] or 0) + 1}", name)


def own_name(model: Case, name: str) -> str:
    """A name as the version of the model has it."""
    if model.version.startswith(FIRST_IS_1):
        return name
    return re.sub(r"_(\d)(?=\.|$)", lambda m: f"_{int(m[1]) - 1}" if m[1] != "1" else "", name)


def test_there_is_one_of_every_version() -> None:
    assert len({c.version for c in MODELS}) == len(MODELS) == 10


@pytest.mark.parametrize("model", MODELS, ids=lambda c: c.version)
def test_the_tensors_have_the_same_names_shapes_and_axes(model: Case, exported: Exported) -> None:
    tensors = exported(model).manifest["tensors"]
    found = {
        name if model.version.startswith(FIRST_IS_1) else counted_from_1(name): (tuple(t["shape"]), t["axes"])
        for name, t in tensors.items()
    }
    assert found == TENSORS
    assert list(found) == list(TENSORS), "the data's order is the same too"


@pytest.mark.parametrize("model", MODELS, ids=lambda c: c.version)
def test_the_tensors_are_what_a_keras_user_would_cut_out(model: Case, exported: Exported) -> None:
    bundle, weights = exported(model), model.weights
    if model.version.startswith("keras1"):  # W, U, b of each gate, in the order i, c, f, o
        forget, split = weights[6:9], weights[12]
    else:
        forget, split = [weights[0][:, 128:256], weights[1][:, 128:256], weights[2][128:256]], weights[3]
    wanted = {
        "lstm_1.forget.kernel": forget[0],
        "lstm_1.forget.recurrent": forget[1],
        "lstm_1.forget.bias": forget[2],
        "dense_1.from.lstm_1": split[:128],
        "dense_1.from.aux_input": split[128:129],
    }
    for name, array in wanted.items():
        np.testing.assert_array_equal(bundle[own_name(model, name)], array, name, strict=True)


@pytest.mark.parametrize("model", MODELS, ids=lambda c: c.version)
def test_the_plan_says_the_same_without_reading_weights(model: Case, exported: Exported) -> None:
    plan = wexport.plan(model.path, architecture=model.architecture)
    plan.close()
    stated = exported(model).manifest["tensors"]
    assert [(t.name, list(t.shape), t.axes) for t in plan.tensors] == [
        (name, t["shape"], t["axes"]) for name, t in stated.items()
    ]


@pytest.mark.parametrize("model", [c for c in MODELS if c.version == "keras2.0.8-tf1.4"], ids=lambda c: c.version)
def test_a_reader_that_wants_the_gates_together_takes_one_slice(model: Case, exported: Exported) -> None:
    bundle, weights = exported(model), model.weights
    flat = np.concatenate([bundle[name].reshape(-1) for name in bundle])
    kernel, recurrent, bias, dense = (w.size for w in weights[:4])
    blocks = np.split(flat, np.cumsum([kernel, recurrent, bias, dense]))
    np.testing.assert_array_equal(blocks[0].reshape(4, 6, 128), weights[0].reshape(6, 4, 128).transpose(1, 0, 2))
    np.testing.assert_array_equal(blocks[1].reshape(4, 128, 128), weights[1].reshape(128, 4, 128).transpose(1, 0, 2))
    np.testing.assert_array_equal(blocks[2].reshape(4, 128), weights[2].reshape(4, 128))
    np.testing.assert_array_equal(blocks[3].reshape(129, 64), weights[3])
