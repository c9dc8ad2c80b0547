"""Layout strings: every rule of every class is a bijection, whatever the sizes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
from cases import cases
from hypothesis import given, settings
from hypothesis import strategies as st

import wexport
from wexport.errors import LayoutError
from wexport.layers.keras import ROOMS, Era, Keras, stored
from wexport.layout import Flip, Leaf, Packed, Refold, Rule, axis_sizes, expand, parse_side
from wexport.view import c_strides

# Classes whose weights no model file of the tests has: configs, and the shapes of their arrays.
_CONV = {"strides": 1, "padding": "valid", "dilation_rate": 1, "activation": "linear", "use_bias": True}
_OLD_1D = {"nb_filter": 4, "filter_length": 3, "border_mode": "valid", "atrous_rate": 2, "bias": True}
_NORM = {"axis": [1], "epsilon": 1e-3, "center": True, "scale": True}
_NORM_SHAPES = {"gamma": (3,), "beta": (3,), "moving_mean": (3,), "moving_variance": (3,)}
_LOCAL = {**_CONV, "filters": 4, "kernel_size": 3}
_TF = Era(2, tf=True)
Row = tuple[str, Mapping[str, Any], Era, dict[str, tuple[int, ...]]]
ROWS: list[Row] = [
    ("LocallyConnected1D", _LOCAL, Era(2), {"kernel": (5, 6, 4), "bias": (5, 4)}),
    ("LocallyConnected1D", {**_LOCAL, "implementation": 2}, _TF, {"kernel": (7, 2, 5, 4), "bias": (5, 4)}),
    ("LocallyConnected1D", {**_LOCAL, "implementation": 3}, _TF, {"kernel": (120,), "bias": (5, 4)}),
    ("AtrousConvolution1D", _OLD_1D, Era(1), {"W": (3, 1, 2, 4), "b": (4,)}),
    ("AtrousConvolution1D", _OLD_1D, Era(1, theano=True), {"W": (3, 1, 2, 4), "b": (4,)}),
    ("TimeDistributedDense", {"output_dim": 3, "bias": True}, Era(1), {"W": (2, 3), "b": (3,)}),
    ("BatchNormalizationV1", _NORM, _TF, _NORM_SHAPES),
    ("BatchNormalizationV2", _NORM, _TF, _NORM_SHAPES),
    ("SyncBatchNormalization", _NORM, _TF, _NORM_SHAPES),
]

# Other words for classes that are seen, cells that are seen inside of layers, and classes without weights.
ALIASES = {
    "AtrousConv1D", "AtrousConv2D", "ConvRecurrent2D", "Convolution1DTranspose", "Convolution2DTranspose",
    "Convolution3DTranspose", "Deconv2D", "Deconv3D", "Deconvolution3D", "SeparableConvolution1D",
    "GRUCell", "LSTMCell", "SimpleRNNCell",
}  # fmt: skip
WEIGHTLESS = (
    "Activity", "Adaptive", "AlphaDropout", "AugMix", "Average", "Avg", "Crop", "CutMix", "Gaussian", "Global",
    "Hash", "Identity", "Max", "MelSpectrogram", "MixUp", "Rand", "SpatialDropout", "STFTSpectrogram",
    "UpSampling", "ZeroPadding",
)  # fmt: skip


@cache
def from_files() -> dict[str, Rule]:
    """Every rule that a model file of the tests uses, at the shape of its array."""
    found: dict[str, Rule] = {}
    for model in cases():
        plan = wexport.plan(model.path, architecture=model.architecture)
        plan.close()
        for layer in plan.model.layers:
            for weight in layer.weights:
                found.setdefault(_text(weight.rule), weight.rule)
    return found


def from_rows() -> dict[str, Rule]:
    """Every rule of the rows above."""
    found = {}
    for name, config, era, shapes in ROWS:
        made = stored(Keras("layer", name, config, era))
        assert made.known, name
        assert {slot.name for slot in made.slots} == set(shapes), name
        for slot in made.slots:
            rule = slot.rule_for(shapes[slot.name], shapes)
            assert expand(rule, shapes[slot.name]), name
            found[_text(rule)] = rule
    return found


def _text(rule: Rule) -> str:
    steps = "".join(f" {type(s).__name__.lower()}" for s in rule.steps)
    labels = "/".join("".join(label[:1] for label in labels) for labels in rule.labels.values())
    return f"{rule.layout} -> {rule.target}{steps} {labels}".strip()


def packed_whole() -> dict[str, Rule]:
    """Rules for arrays whose elements share bytes along the flattened array."""
    plain, gates = (
        Rule.parse("out in -> kernel: in out"),
        Rule.parse("(gate unit) in -> {gate}.kernel: in unit", gate="abc"),
    )
    return {
        f"{_text(rule)} {bits}": rule.with_steps(Packed(None, signed, bits))
        for rule in (plain, gates)
        for signed, bits in ((False, 2), (True, 4), (False, 6))
    }


RULES = {**from_files(), **from_rows(), **packed_whole()}


def resized(rule: Rule, draw: Any) -> tuple[Rule, tuple[int, ...]]:
    """The rule for an array of other sizes: all axes that have no labels are of random length."""
    groups = parse_side(rule.layout)
    axes = [a for g in groups for a in g if a not in rule.labels]
    sizes = {a: draw(st.integers(1, 4)) for a in axes}
    lengths = {**sizes, **{a: len(labels) for a, labels in rule.labels.items()}}
    packed = {step.axis for step in rule.steps if isinstance(step, Packed)} - {None}
    shape = tuple(
        (math.prod(lengths[a] for a in g) + 1) // 2 if packed & set(g) else math.prod(lengths[a] for a in g)
        for g in groups
    )
    open_axes = {g[-1] for g in groups if g and not packed & set(g) and g[-1] in sizes}
    given_sizes = {a: n for a, n in sizes.items() if a not in open_axes}
    return replace(rule, sizes=given_sizes), shape


def check(rule: Rule, shape: tuple[int, ...], leaves: Mapping[str, tuple[Leaf, ...]] | None = None) -> None:
    """Names are unique, shapes and axes agree, every element is in exactly one tensor, and all of it comes back."""
    pieces = expand(rule, shape, leaves)
    names = [(p.name, p.leaf.label if p.leaf else None) for p in pieces]
    assert len(set(names)) == len(names), names
    at = [tuple(p.at.items()) for p in pieces]
    assert len(set(at)) == len(at)
    whole = [step for step in rule.steps if isinstance(step, Packed) and step.axis is None]
    count = (math.prod(shape) * whole[0].bits + 7) // 8 if whole else math.prod(shape)
    logical = math.prod(axis_sizes(rule, shape).values())
    assert sum(p.view.size for p in pieces) == logical
    for piece in pieces:
        assert math.prod(piece.shape) == piece.view.size
        assert len(parse_side(piece.axes)) == len(piece.shape)
    numbers = np.random.default_rng(count).integers(0, 256, count).astype(np.uint8)
    if any(isinstance(s, Packed) for s in rule.steps):
        pieces[0].view.put(np.zeros(pieces[0].shape, np.uint8), numbers)  # pad nibbles are zero
    else:
        times = np.zeros(count, int)
        for piece in pieces:
            np.add.at(times, piece.view.take(np.arange(count)).reshape(-1), 1)
        assert (times == 1).all()
    back = np.zeros_like(numbers)
    for piece in pieces:
        piece.view.put(np.array(piece.view.take(numbers)), back)
    np.testing.assert_array_equal(back, numbers)


@pytest.mark.parametrize("rule", [pytest.param(rule, id=text) for text, rule in RULES.items()])
@settings(max_examples=20)
@given(data=st.data())
def test_every_rule_is_a_bijection(rule: Rule, data: st.DataObject) -> None:
    sized, shape = resized(rule, data.draw)
    check(sized, shape)


@pytest.mark.parametrize(
    "rule",
    [pytest.param(r, id=t) for t, r in RULES.items() if any("in" in g for g in parse_side(r.layout)) and not r.steps],
)
@settings(max_examples=20)
@given(data=st.data())
def test_rules_stay_bijections_when_their_in_axis_is_split(rule: Rule, data: st.DataObject) -> None:
    sized, shape = resized(rule, data.draw)
    n = axis_sizes(sized, shape)["in"]
    cuts = sorted(data.draw(st.sets(st.integers(1, n - 1)))) if n > 1 else []
    leaves = tuple(
        Leaf(f"part_{i}", ("in",), (stop - start,), (1,), start)
        for i, (start, stop) in enumerate(zip([0, *cuts], [*cuts, n], strict=True))
    )
    check(sized, shape, {"in": leaves})


@given(st.lists(st.integers(1, 3), min_size=3, max_size=3), st.permutations(range(3)), st.integers(1, 3))
def test_a_flattened_axis_is_written_channels_last(sizes: list[int], order: list[int], units: int) -> None:
    """Rows stored in any order of (height width channel) come out in this one."""
    axes = ("height", "width", "channel")
    stored_strides = c_strides(tuple(sizes[i] for i in order))
    strides = tuple(stored_strides[order.index(i)] for i in range(3))
    rule = Rule.parse("in out -> kernel: in out").with_axis("in", Leaf("x", axes, tuple(sizes), strides))
    shape = (math.prod(sizes), units)
    check(rule, shape)
    piece = expand(rule, shape)[0]
    assert piece.axes == "(height width channel) out"
    array = np.arange(math.prod(shape)).reshape(*(sizes[i] for i in order), units)
    wanted = array.transpose(*(order.index(i) for i in range(3)), 3).reshape(piece.shape)
    np.testing.assert_array_equal(piece.view.take(np.arange(array.size)).reshape(piece.shape), wanted)


def test_every_class_has_been_seen() -> None:
    seen: set[str] = set()
    for model in cases():
        plan = wexport.plan(model.path, architecture=model.architecture)
        plan.close()
        seen |= {layer.class_name for layer in plan.layers}
    missing = {name for name in ROOMS if name not in seen | ALIASES | {row[0] for row in ROWS}}
    assert {name for name in missing if not name.startswith(WEIGHTLESS)} == set()


@pytest.mark.parametrize(
    ("text", "shape", "message"),
    [
        ("in (gate unit) -> {gate}.kernel: in unit", (6, 511), r"wants \(gate=4 unit\), the array is \(6, 511\)"),
        ("in (gate unit) -> {gate}.kernel: in unit", (512,), r"has 2 dimensions, the array is \(512,\)"),
        ("(gate unit) -> {gate}.bias: unit", (2, 12), r"has 1 dimension, the array is \(2, 12\)"),
        ("1 in -> kernel: in", (2, 3), r"wants \(1\), the array is \(2, 3\)"),
        ("in out -> kernel: in", (2, 3), "does not name every axis once on each side"),
        ("in in -> kernel: in in", (2, 3), "does not name every axis once on each side"),
        ("in out -> kernel: in out gate", (2, 3), "does not name every axis once on each side"),
        ("in [out -> kernel: in", (2, 3), "cannot be read"),
    ],
)
def test_what_does_not_fit_is_said(text: str, shape: tuple[int, ...], message: str) -> None:
    rule = Rule.parse(text)
    rule = replace(rule, labels={"gate": ("a", "b", "c", "d")} if "{gate}" in text else {})
    with pytest.raises(LayoutError, match=message):
        expand(rule, shape)


def test_a_layout_without_an_arrow() -> None:
    with pytest.raises(LayoutError, match='has no "->"'):
        Rule.parse("in out")


def test_steps_follow_the_named_axes() -> None:
    flat = np.arange(24)
    flipped = expand(Rule.parse("x (g y) -> {g}.k: y x", g="ab").with_steps(Flip(("x",))), (4, 6))
    np.testing.assert_array_equal(flipped[1].view.take(flat), flat.reshape(4, 2, 3)[::-1, 1].T)
    folded = expand(Rule.parse("x (g y) -> {g}.k: x y", g="ab").with_steps(Refold(("x",))), (4, 6))
    block = flat.reshape(4, 2, 3)[:, 0].reshape(-1)
    np.testing.assert_array_equal(folded[0].view.take(flat), block.reshape(3, 4).T)
