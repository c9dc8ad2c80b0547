"""The table of mutations: a real bundle, one known change, and exactly the facts that it must give."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from parts import Parts

Row = tuple[str, Callable[[Parts], None], set[tuple[Any, ...]]]
ROWS: dict[str, Row] = {}
RANDOM = 7
GATES = ("input", "forget", "cell", "output")
STOCK = [
    *(f"lstm_1.{gate}.{role}" for gate in GATES for role in ("kernel", "recurrent", "bias")),
    *("dense_1.from.lstm_1", "dense_1.from.aux_input", "dense_1.bias"),
    *("dense_2.kernel", "dense_2.bias", "dense_3.kernel", "dense_3.bias"),
]


def row(base: str, *facts: tuple[Any, ...]) -> Callable[[Callable[[Parts], None]], Callable[[Parts], None]]:
    def sign(change: Callable[[Parts], None]) -> Callable[[Parts], None]:
        ROWS[change.__name__] = (base, change, set(facts))
        return change

    return sign


def moved(array: Any, relative: float, seed: int = RANDOM) -> Any:
    """The array, moved by this part of its length."""
    noise = np.random.default_rng(seed).standard_normal(array.shape)
    noise *= relative * np.linalg.norm(array) / np.linalg.norm(noise)
    return (array + noise).astype(array.dtype)


def values(*names: str) -> list[tuple[Any, ...]]:
    return [("values changed", name, name) for name in names]


# -- names -------------------------------------------------------------------------------------------------------------


@row("stock", ("layer renamed", "dense_2", "hidden"))
def rename_a_layer(p: Parts) -> None:
    p.rename({"dense_2": "hidden"})


@row("stock", ("layer renamed", "lstm_1", "encoder"))
def rename_a_source(p: Parts) -> None:
    """`dense_1.from.lstm_1` follows what it reads: no fact of its own."""
    p.rename({"lstm_1": "encoder"})


@row("deep", ("layer renamed", "a", "b"), ("layer renamed", "b", "a"))
def swap_two_layers_names(p: Parts) -> None:
    p.rename({"a": "b", "b": "a"})


@row("deep", ("layer rewired", "b", "b", "x"), ("layer rewired", "a", "a", "x"), ("layer rewired", "c", "c", "x"))
def swap_two_layers(p: Parts) -> None:
    """Their zero biases are alike, and tell nothing."""
    p.call("b")["args"]["x"], p.call("a")["args"]["x"], p.call("c")["args"]["x"] = "x", "b", "a"
    calls = p.manifest["calls"]
    calls[0], calls[1] = calls[1], calls[0]


@row("stock", ("input renamed", "aux_input", "side"))
def rename_an_input(p: Parts) -> None:
    p.rename({"aux_input": "side"})


@row(
    "stock",
    ("tensor renamed", "lstm_1.input.recurrent", "lstm_1.forget.recurrent"),
    ("tensor renamed", "lstm_1.forget.recurrent", "lstm_1.input.recurrent"),
)
def swap_two_gates(p: Parts) -> None:
    one, two = "lstm_1.input.recurrent", "lstm_1.forget.recurrent"
    p.tensors[one], p.tensors[two] = p.tensors[two], p.tensors[one]


# -- structure ---------------------------------------------------------------------------------------------------------


@row("stock", ("layer added", None, "dense_3", ("dense_2",), ("dense_4",)), ("layer renamed", "dense_3", "dense_4"),
     ("output renamed", "dense_3", "dense_4"))  # fmt: skip
def insert_a_dense(p: Parts) -> None:
    """As Keras names them: the last one counts on."""
    p.rename({"dense_3": "dense_4"})
    kernel = np.random.default_rng(1).standard_normal((16, 16)).astype("f4") / 4
    p.insert_dense("dense_3", "dense_2", kernel, np.zeros(16, "f4"))


@row("deep", ("layer removed", "b", None, ("a",), ("c",)))
def remove_a_layer(p: Parts) -> None:
    p.remove("b", "a")


@row("stock", ("attribute changed", "dense_3", "dense_3", "activation"))
def swap_an_activation(p: Parts) -> None:
    p.layer("dense_3")["activation"] = {"name": "relu"}


@row("apart", ("attribute changed", "dense_1", "dense_1", "activation"))
def swap_an_activation_layer(p: Parts) -> None:
    p.layer("activation_1")["activation"] = {"name": "elu", "alpha": 1.0}


@row("apart", ("layer renamed", "activation_1", None))
def put_an_activation_into_its_layer(p: Parts) -> None:
    p.layer("dense_1")["activation"] = p.layer("activation_1")["activation"]
    p.remove("activation_1", "dense_1")


@row("stock", ("attribute changed", "lstm_1", "lstm_1", "go_backwards"))
def read_backwards(p: Parts) -> None:
    p.layer("lstm_1")["go_backwards"] = True


@row(
    "stock",
    ("layer rewired", "dense_1", "dense_1", "x"),
    ("layer removed", "merge_1", None, ("aux_input", "lstm_1"), ("dense_1",)),
)
def drop_a_source(p: Parts) -> None:
    """The kernel's rows for the side input are still there; the graph no longer feeds them."""
    p.remove("merge_1", "lstm_1")


@row("stock", ("input reshaped", "lstm_input", "lstm_input"))
def longer_sequences(p: Parts) -> None:
    p.manifest["inputs"]["lstm_input"]["shape"] = [None, 60, 6]


@row(
    "stock",
    ("attribute changed", "dense_2", "dense_2", "units"),
    ("tensor reshaped", "dense_2.kernel", "dense_2.kernel"),
    ("tensor reshaped", "dense_2.bias", "dense_2.bias"),
    ("tensor reshaped", "dense_3.kernel", "dense_3.kernel"),
)
def more_units(p: Parts) -> None:
    p.layer("dense_2")["units"] = 24
    for name, axis in (("dense_2.kernel", 1), ("dense_2.bias", 0), ("dense_3.kernel", 0)):
        p.tensors[name] = np.concatenate([p.tensors[name]] * 2, axis).take(range(24), axis)
        p.manifest["weights"][p.manifest["tensors"][name]["weight"]]["shape"] = list(p.tensors[name].shape)
        sizes = p.manifest["weights"][p.manifest["tensors"][name]["weight"]]["sizes"]
        sizes[list(sizes)[axis]] = 24


# -- values ------------------------------------------------------------------------------------------------------------


@row("stock", *values("lstm_1.forget.recurrent"))
def perturb_one_gate(p: Parts) -> None:
    p.tensors["lstm_1.forget.recurrent"] = moved(p.tensors["lstm_1.forget.recurrent"], 0.05)


@row("stock", *values("dense_1.from.lstm_1"))
def prune_a_kernel(p: Parts) -> None:
    """Three tenths of the elements, the smallest ones, become zero."""
    kernel = p.tensors["dense_1.from.lstm_1"]
    kernel[np.abs(kernel) <= np.quantile(np.abs(kernel), 0.3)] = 0


@row("stock", *values(*(name for name in STOCK if not name.startswith("dense_2"))))
def fine_tune_all_but_one(p: Parts) -> None:
    for i, name in enumerate(p.tensors):
        if not name.startswith("dense_2"):
            p.tensors[name] = moved(p.tensors[name], 0.001 * (1 + i), seed=i)


@row("stock", *(("tensor retyped", name, name) for name in STOCK))
def cast_to_float16(p: Parts) -> None:
    p.tensors = {name: array.astype("f2") for name, array in p.tensors.items()}
    for weight in p.manifest["weights"].values():
        weight["dtype"] = "float16"


@row("stock", *values("dense_2.kernel"))
def diverge(p: Parts) -> None:
    p.tensors["dense_2.kernel"][3, :4] = [np.nan, np.inf, -np.inf, np.nan]


@row("deep", *values("b.bias"))
def a_bias_leaves_zero(p: Parts) -> None:
    p.tensors["b.bias"] += np.float32(0.5)


NAME = "bidirectional_1.forward.forget.recurrent_bias"


@row("onnx", ("values changed", None, NAME))
def a_bias_that_was_said_to_be_zero(p: Parts) -> None:
    """One side says `zero`, the other stores it: no tensor is added, and the gates that are zero still did not move."""
    del p.layer("bidirectional_1")["zero"]
    weight = p.manifest["tensors"][NAME.replace("recurrent_bias", "bias")]["weight"]
    for direction in ("forward", "backward"):
        for gate in GATES:
            name = f"bidirectional_1.{direction}.{gate}.recurrent_bias"
            p.tensors[name] = np.full(7, 0.25 * (name == NAME), "f4")
            at = {"direction": direction, "bias": "recurrent_bias", "gate": gate}
            entry = {"dtype": "F32", "shape": [7], "axes": "unit", "layer": "bidirectional_1"}
            p.manifest["tensors"][name] = {**entry, "role": "recurrent_bias", "weight": weight, "at": at}


# -- nothing -----------------------------------------------------------------------------------------------------------


@row("stock")
def other_provenance(p: Parts) -> None:
    """Saved again by a newer version, under another file's name, with the words of that version."""
    p.manifest["model"] |= {"name": "functional_3", "framework_version": "3.15.1"}
    p.manifest["model"]["source"] = {"file": "new.keras", "format": "keras-archive", "bytes": 7}
    p.layer("merge_1")["class"] = "Concatenate"
    p.manifest["left_out"] = {}
    for i, (key, weight) in enumerate(list(p.manifest["weights"].items())):
        p.manifest["weights"][f"layers/vars/{i}"] = p.manifest["weights"].pop(key)
        for item in p.manifest["tensors"].values():
            item["weight"] = f"layers/vars/{i}" if item["weight"] == key else item["weight"]
        assert weight
