"""Weights without an architecture: layers known by their weights' names, where that is certain.

What only a config tells (activations, strides, the graph) stays unsaid: such a layer is `partial`. Where names and
shapes leave a choice, the layer is `unknown` and its arrays are exported whole.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from wexport.layers.keras import Era, Keras, Stored, stored
from wexport.model import Json, Layer, LeftOut, Model
from wexport.readers.hdf5 import Group
from wexport.readers.keras.bind import (
    Binding,
    Found,
    bind_group,
    finished,
    fits,
    in_order,
    short_name,
    unknown_binding,
    wants,
)
from wexport.readers.keras.graph import Draft, Graph, made_up
from wexport.readers.keras.legacy import Groups
from wexport.readers.keras.paths import left_out_reason, own_name, owners, variables
from wexport.readers.keras.result import model_of
from wexport.readers.keras.source import Source, as_found
from wexport.readers.keras.tree import Entry, Tree

Shapes = Mapping[str, tuple[int, ...]]
Guess = tuple[str, dict[str, Json], tuple[str, ...]]  # class, config, the attributes that the shapes prove


# -- .h5 weights -------------------------------------------------------------------------------------------------------


def from_groups(source: Source, era: Era, groups: Groups, left: list[LeftOut], name_of_model: str) -> Model:
    """The layers of a legacy weights file; without an architecture there is no graph."""
    layers, sure = [], True
    for name, found in groups.items():
        binding = _classified(name, found, era)
        if binding is None:
            if not found:
                continue
            binding = unknown_binding(made_up(name, era), found, False)
            sure = sure and in_order(found)
        layers.append(_partial(finished(binding)))
    if sure or (era.major < 3 and not era.tf):
        layers = _with_positions(layers, [f.key for found in groups.values() for f in found])
    unknown = [layer.name for layer in layers if layer.kind == "unknown"]
    return model_of(source, name_of_model, Graph(), layers, left, _warnings(source, unknown))


def _warnings(source: Source, unknown: Sequence[str]) -> list[str]:
    found = []
    config = source.config
    if isinstance(config, Mapping):
        found.append(
            f"the architecture ({config.get('class_name')}) does not list its layers, code does; they are told by "
            "their weights alone, and the model cannot be computed from the bundle"
        )
    if unknown:
        names = ", ".join(unknown[:6]) + (", ..." if len(unknown) > 6 else "")
        advice = "" if found else "; give --architecture to have them named"
        found.append(f"the weights alone do not tell what these layers are: {names}{advice}")
    return found


def _with_positions(layers: Sequence[Layer], keys: Sequence[str]) -> list[Layer]:
    index = {key: i for i, key in enumerate(keys)}
    return [
        replace(
            layer,
            weights=tuple(replace(w, array=replace(w.array, index=index.get(w.array.key))) for w in layer.weights),
        )
        for layer in layers
    ]


def _partial(layer: Layer) -> Layer:
    return replace(layer, class_name="" if layer.class_name == "unknown" else layer.class_name)


def _classified(name: str, found: Sequence[Found], era: Era) -> Binding | None:
    shapes = {short_name(f.name, name): f.array.shape for f in found}
    if not found or len(shapes) != len(found):
        return _both_directions(name, found, era)
    guess = next((g for rule in _RULES if (g := rule(shapes, era)) is not None), None)
    return None if guess is None else _bound(name, guess, found, era)


def _bound(name: str, guess: Guess, found: Sequence[Found], era: Era) -> Binding | None:
    class_name, config, proved = guess
    entry = Entry(name, Keras(name, class_name, config, era), full=name)
    made = stored(entry.layer)
    attributes = {k: v for k, v in made.attributes.items() if k in proved}
    draft = Draft(name, entry, Stored(made.kind, {**attributes, "partial": True}, made.slots))
    bound = bind_group(found, wants(entry, {name: draft}), name)
    return None if bound is None else bound[name]


def _both_directions(name: str, found: Sequence[Found], era: Era) -> Binding | None:
    halves = [[f for f in found if word in f.name] for word in ("forward", "backward")]
    if not all(halves) or len(halves[0]) + len(halves[1]) != len(found):
        return None
    shapes = {short_name(f.name, name): f.array.shape for f in halves[0]}
    guess = next((g for rule in _RULES[:2] if (g := rule(shapes, era)) is not None), None)
    if guess is None:
        return None
    inner = {"class_name": guess[0], "config": {"name": "inner", **guess[1]}}
    whole = ("Bidirectional", {"layer": inner, "merge_mode": None}, (*guess[2], "direction"))
    return _bound(name, whole, [*halves[0], *halves[1]], era)


def _recurrent(shapes: Shapes, era: Era) -> Guess | None:
    names = set(shapes)
    if names - {"bias"} != {"kernel", "recurrent_kernel"} or len(shapes["kernel"]) != 2:
        return None
    units = shapes["recurrent_kernel"][0]
    times, rest = divmod(shapes["recurrent_kernel"][1], max(units, 1))
    if rest or times not in (1, 3, 4) or shapes["kernel"][1] != times * units:
        return None
    config: dict[str, Json] = {"units": units, "use_bias": "bias" in names}
    if times == 3:
        config["reset_after"] = len(shapes.get("bias", ())) == 2
    return (
        {1: "SimpleRNN", 3: "GRU", 4: "LSTM"}[times],
        config,
        ("units", "reset_after") if "bias" in names else ("units",),
    )


def _old_recurrent(shapes: Shapes, era: Era) -> Guess | None:
    for class_name, letters in (("LSTM", "icfo"), ("GRU", "zrh")):
        wanted = {f"{n}_{c}" for n in "WUb" for c in letters}
        if set(shapes) == wanted and len(shapes[f"W_{letters[0]}"]) == 2:
            return class_name, {"output_dim": shapes[f"U_{letters[0]}"][0]}, ("units",)
    return None


def _dense(shapes: Shapes, era: Era) -> Guess | None:
    for kernel, bias in (("kernel", "bias"), ("W", "b")):
        if set(shapes) == {kernel, bias} and len(shapes[kernel]) == 2 and shapes[bias] == shapes[kernel][1:]:
            return "Dense", {"units": shapes[kernel][1]}, ("units",)
    return None


def _conv(shapes: Shapes, era: Era) -> Guess | None:
    kernel = shapes.get("kernel", ())
    if set(shapes) != {"kernel", "bias"} or not 3 <= len(kernel) <= 5 or len(shapes["bias"]) != 1:
        return None
    if shapes["bias"][0] != kernel[-1] or kernel[-1] == kernel[-2] or kernel[-2] == 1 or kernel[-1] == 1:
        return None  # a transposed or depthwise one would look the same
    config = {"filters": kernel[-1], "kernel_size": list(kernel[:-2])}
    return f"Conv{len(kernel) - 2}D", config, ("filters", "kernel_size")


def _depthwise(shapes: Shapes, era: Era) -> Guess | None:
    names = set(shapes) - {"bias"}
    kernel = shapes.get("depthwise_kernel", ())
    if len(kernel) not in (3, 4):
        return None
    config: dict[str, Json] = {
        "depth_multiplier": kernel[-1],
        "kernel_size": list(kernel[:-2]),
        "use_bias": "bias" in shapes,
    }
    if names == {"depthwise_kernel", "pointwise_kernel"}:
        config["filters"] = shapes["pointwise_kernel"][-1]
        return f"SeparableConv{len(kernel) - 2}D", config, ("filters", "kernel_size", "multiplier")
    if names == {"depthwise_kernel"}:
        return f"DepthwiseConv{len(kernel) - 2}D", config, ("kernel_size", "multiplier")
    return None


def _batch_norm(shapes: Shapes, era: Era) -> Guess | None:
    names = set(shapes)
    if {"moving_mean", "moving_variance"} <= names <= {"gamma", "beta", "moving_mean", "moving_variance"}:
        return "BatchNormalization", {"scale": "gamma" in names, "center": "beta" in names}, ()
    if names == {"gamma", "beta", "running_mean", "running_std"}:
        return "BatchNormalization", {}, ()
    return None


def _embedding(shapes: Shapes, era: Era) -> Guess | None:
    if set(shapes) == {"embeddings"} and len(shapes["embeddings"]) == 2:
        tokens, dim = shapes["embeddings"]
        return "Embedding", {"input_dim": tokens, "output_dim": dim}, ("tokens", "dim")
    return None


def _prelu(shapes: Shapes, era: Era) -> Guess | None:
    return (
        ("PReLU", {}, ()) if set(shapes) in ({"alpha"}, {"alphas"}) and (era.major > 1) == ("alpha" in shapes) else None
    )


_RULES: tuple[Callable[[Shapes, Era], Guess | None], ...] = (
    _recurrent, _old_recurrent, _dense, _conv, _depthwise, _batch_norm, _embedding, _prelu,
)  # fmt: skip


# -- archives' weights -------------------------------------------------------------------------------------------------

# what a path's last word and the number of its arrays prove
_BY_PATH: dict[str, Callable[[Sequence[tuple[int, ...]]], Guess | None]] = {}


def _path_rule(*words: str) -> Callable[[Any], Any]:
    def sign(function: Any) -> Any:
        for word in words:
            _BY_PATH[word] = function
        return function

    return sign


@_path_rule("dense")
def _path_dense(s: Sequence[tuple[int, ...]]) -> Guess | None:
    if len(s) in (1, 2) and len(s[0]) == 2 and s[1:] in ([], [s[0][1:]]):
        return "Dense", {"units": s[0][1], "use_bias": len(s) == 2}, ("units",)
    return None


@_path_rule("conv1d", "conv2d", "conv3d")
def _path_conv(s: Sequence[tuple[int, ...]]) -> Guess | None:
    if len(s) in (1, 2) and 3 <= len(s[0]) <= 5 and s[1:] in ([], [s[0][-1:]]):
        config = {"filters": s[0][-1], "kernel_size": list(s[0][:-2]), "use_bias": len(s) == 2}
        return f"Conv{len(s[0]) - 2}D", config, ("filters", "kernel_size")
    return None


@_path_rule("conv1d_transpose", "conv2d_transpose", "conv3d_transpose")
def _path_transpose(s: Sequence[tuple[int, ...]]) -> Guess | None:
    if len(s) in (1, 2) and 3 <= len(s[0]) <= 5 and s[1:] in ([], [s[0][-2:-1]]):
        config = {"filters": s[0][-2], "kernel_size": list(s[0][:-2]), "use_bias": len(s) == 2}
        return f"Conv{len(s[0]) - 2}DTranspose", config, ("filters", "kernel_size")
    return None


@_path_rule("embedding")
def _path_embedding(s: Sequence[tuple[int, ...]]) -> Guess | None:
    if len(s) == 1 and len(s[0]) == 2:
        return "Embedding", {"input_dim": s[0][0], "output_dim": s[0][1]}, ("tokens", "dim")
    return None


@_path_rule("batch_normalization")
def _path_batch_norm(s: Sequence[tuple[int, ...]]) -> Guess | None:
    return ("BatchNormalization", {}, ()) if len(s) == 4 and len(set(s)) == 1 else None


@_path_rule("layer_normalization", "group_normalization")
def _path_layer_norm(s: Sequence[tuple[int, ...]]) -> Guess | None:
    return ("LayerNormalization", {}, ()) if len(s) == 2 and len(set(s)) == 1 else None


@_path_rule("lstm_cell", "gru_cell", "simple_rnn_cell", "cell")
def _path_cell(s: Sequence[tuple[int, ...]]) -> Guess | None:
    names = ("kernel", "recurrent_kernel", "bias")[: len(s)]
    return _recurrent(dict(zip(names, s, strict=False)), Era(3)) if len(s) in (2, 3) else None


def from_paths(source: Source, era: Era, tree: Tree) -> Model:
    """The objects of an archive of which no config lists the layers: variables by path."""
    layers: list[Layer] = []
    left: list[LeftOut] = []
    for path, group in owners(source.root):
        found: list[Found] = []
        for name, array in variables(group):
            key = f"{path}/vars/{name}" if path else f"vars/{name}"
            reason = left_out_reason(path)
            item = LeftOut(key, array.shape, reason) if reason else as_found(key, name, array)
            (left if isinstance(item, LeftOut) else found).append(item)  # type: ignore[arg-type]
        if found:
            layers.append(_partial(finished(_by_path(source, era, path, group, found))))
    unknown = [layer.name for layer in layers if layer.kind == "unknown"]
    return model_of(source, tree.name, Graph(), layers, left, _warnings(source, unknown))


def _by_path(source: Source, era: Era, path: str, group: Group, found: Sequence[Found]) -> Binding:
    name = _path_name(source, path) or "model"
    word = re.sub(r"_\d+$", "", path.rpartition("/")[2])
    rule = _BY_PATH.get(word)
    guess = rule([f.array.shape for f in found]) if rule else None
    if guess is not None:
        if word == "group_normalization":
            guess = ("GroupNormalization", {"groups": 1}, ())
        entry = Entry(name, Keras(name, guess[0], guess[1], era), full=name)
        made = stored(entry.layer)
        attributes = {k: v for k, v in made.attributes.items() if k in guess[2]}
        slots = [s for s in made.slots if s.copy_of is None]
        if len(slots) == len(found):
            draft = Draft(name, entry, Stored(made.kind, {**attributes, "partial": True}, tuple(slots)))
            binding = Binding(draft, list(zip(slots, found, strict=True)))
            if fits(binding):
                return binding
    return unknown_binding(made_up(name, era), found, False)


def _path_name(source: Source, path: str) -> str:
    """A layer's name: the names that the file states along the path, else the path's own words."""
    words, place = [], ""
    for part in path.split("/"):
        place = f"{place}/{part}" if place else part
        group = source.root.group(place)
        if part in {"layers", "cells"} and group is not None and "vars" not in group.groups:
            continue
        words.append((own_name(group) if group else None) or part)
    return ".".join(w for w in words if w)
