"""More of the table: shared, tied, equal and nested layers, convolutions, outputs."""

from __future__ import annotations

import numpy as np
from mutations import more_units, moved, row, values
from parts import Parts

ALIAS = {"tensor": "a.kernel", "layer": "c", "role": "kernel", "axes": "in out", "transposed": False}


def tie(p: Parts) -> None:
    """`c` computes with the kernel of `a`."""
    del p.tensors["c.kernel"]
    p.manifest["weights"].pop(p.manifest["tensors"].pop("c.kernel")["weight"])
    p.manifest["aliases"] = {"c.kernel": dict(ALIAS)}


def call_twice(p: Parts) -> None:
    """`a` is called on what it gave."""
    again = {"value": "a@2", "role": "y", "shape": [None, 8], "dtype": "float32"}
    p.call("b")["args"]["x"] = "a@2"
    p.manifest["calls"].insert(1, {"layer": "a", "args": {"x": "a"}, "out": [again]})


def make_equal(p: Parts) -> None:
    """`b` holds the same numbers as `a`."""
    p.tensors["b.kernel"] = p.tensors["a.kernel"].copy()


@row("deep")
def nothing(p: Parts) -> None:
    """The same numbers, written once more."""


@row("tied", ("alias removed", "c.kernel", None), ("tensor added", None, "c.kernel"))
def untie(p: Parts) -> None:
    p.manifest["aliases"] = {}
    p.add("c.kernel", moved(p.tensors["a.kernel"], 0.5), "in out", "c", "kernel")


@row("twice", ("layer rewired", "a", "a", "calls"), ("layer rewired", "b", "b", "x"))
def call_a_shared_layer_once(p: Parts) -> None:
    del p.manifest["calls"][1]
    p.call("b")["args"]["x"] = "a"


@row("equal", ("layer renamed", "b", "second"))
def rename_one_of_two_equal_layers(p: Parts) -> None:
    p.rename({"b": "second"})


@row("equal", *values("b.kernel"))
def move_one_of_two_equal_layers(p: Parts) -> None:
    p.tensors["b.kernel"] = moved(p.tensors["b.kernel"], 0.25)


@row("nested", ("output rewired", "out_one", "out_one"), ("output rewired", "out_two", "out_two"))
def swap_two_outputs(p: Parts) -> None:
    one, two = (p.manifest["outputs"][name] for name in ("out_one", "out_two"))
    p.manifest["outputs"] = {"out_one": two, "out_two": one}


@row("nested", ("output reordered", "out_one", "out_one"), ("output reordered", "out_two", "out_two"))
def list_outputs_in_another_order(p: Parts) -> None:
    p.manifest["outputs"] = dict(reversed(p.manifest["outputs"].items()))


@row("nested", *values("inner_seq.inner_bn.mean", "inner_fun.deep_d.kernel"))
def train_inside(p: Parts) -> None:
    for name in ("inner_seq.inner_bn.mean", "inner_fun.deep_d.kernel"):
        p.tensors[name] = moved(p.tensors[name] + np.float32(0.5), 0.01)


@row("nested", ("layer renamed", "inner_seq.inner_d1", "inner_seq.first"))
def rename_inside(p: Parts) -> None:
    p.rename({"inner_seq.inner_d1": "inner_seq.first"})


@row("conv", ("layer renamed", "b1", "tower"))
def rename_a_tower(p: Parts) -> None:
    """`proj.from.b1` follows it."""
    p.rename({"b1": "tower"})


@row("conv", ("attribute changed", "conv_dil", "conv_dil", "dilation"))
def change_a_dilation(p: Parts) -> None:
    p.layer("conv_dil")["dilation"] = [1, 1]


@row("conv", *values("conv_a.kernel"))
def prune_a_convolution(p: Parts) -> None:
    kernel = p.tensors["conv_a.kernel"]
    kernel[np.abs(kernel) <= np.quantile(np.abs(kernel), 0.3)] = 0


@row("stock", *values("dense_2.kernel", "dense_1.bias", "dense_3.kernel"))
def diverge_among_others(p: Parts) -> None:
    """What became NaN is said first, however little else moved there."""
    for name in ("dense_1.bias", "dense_3.kernel"):
        p.tensors[name] = moved(p.tensors[name], 0.5)
    p.tensors["dense_2.kernel"][0, 0] = np.nan


@row(
    "stock",
    ("layer renamed", "dense_2", "hidden"),
    ("attribute changed", "dense_2", "hidden", "units"),
    ("tensor reshaped", "dense_2.kernel", "hidden.kernel"),
    ("tensor reshaped", "dense_2.bias", "hidden.bias"),
    ("tensor reshaped", "dense_3.kernel", "dense_3.kernel"),
)
def more_units_and_another_name(p: Parts) -> None:
    """Neither bytes, nor shapes, nor names tell: only the place between its neighbours."""
    more_units(p)
    p.rename({"dense_2": "hidden"})


@row("deep", ("layer added", None, "inner", ("a",), ("sum",)), ("layer added", None, "sum", ("a", "inner"), ("b",)))
def insert_a_residual_block(p: Parts) -> None:
    """Who reads the block reads, through it, only what it read before."""
    p.insert_dense("inner", "a", moved(p.tensors["a.kernel"], 2), np.zeros(8, "f4"))
    out = {"value": "sum", "role": "y", "shape": [None, 8], "dtype": "float32"}
    p.manifest["layers"]["sum"] = {"kind": "add", "class": "Add", "broadcast": "keras"}
    p.manifest["calls"].insert(2, {"layer": "sum", "args": {"x": ["a", "inner"]}, "out": [out]})
    p.call("b")["args"]["x"] = "sum"
