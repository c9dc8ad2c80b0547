"""Normalizations.

    Keras  BatchNormalization    gamma, beta, moving_mean, moving_variance "channel" (axes of length one drop out);
                                 renorm adds moving_stddev, renorm_mean, renorm_stddev, which only training reads
           Keras 1               the fourth is called running_std and holds the variance
           LayerNormalization    gamma, beta: the axes that it normalizes;  RMSNormalization  scale: likewise
           GroupNormalization    gamma, beta "channel";  UnitNormalization  nothing
           Normalization         mean, variance: the axes that it keeps; count ""
           SpectralNormalization the layer it wraps, and vector_u "1 out"; archives of Keras 3 store the kernel twice

Sources: keras/src/layers/normalization, preprocessing/normalization.py (3.15.1, 2.15); keras/layers/normalization.py
(1.2.2); Ioffe & Szegedy 2015; Ba et al. 2016; Wu & He 2018; Zhang & Sennrich 2019.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wexport.features import axis_names
from wexport.layers.activation import unchanged
from wexport.layers.keras import TOLD, Keras, Ruling, Shapes, Slot, Stored, keras, plain, rule, stored, unknown
from wexport.layers.registry import ANY, BOOL, INT, INTS, NUMBER, TEXT, computes, equations, flow, kind
from wexport.layers.step import Step, Terms, unread
from wexport.layout import Rule
from wexport.model import Json

Array = NDArray[Any]

kind("batch_norm", axis=INTS, epsilon=NUMBER, statistics=TEXT, maybe={"momentum": NUMBER}, folds=True)
kind("layer_norm", axis=INTS, epsilon=NUMBER, centered=BOOL)
kind("rms_norm", axis=INTS, epsilon=NUMBER)
kind("group_norm", axis=INT, groups=INT, epsilon=NUMBER, maybe={"affine": TEXT})
kind("instance_norm", axis=INT, epsilon=NUMBER)
kind("unit_norm", axis=INTS, epsilon=NUMBER)
kind("normalization", axis=INTS, invert=BOOL, mean=ANY, variance=ANY, epsilon=NUMBER)
flow("batch_norm", "layer_norm", "rms_norm", "group_norm", "instance_norm", "unit_norm", "normalization")(unchanged)


def axes_of(layer: Keras, *names: str, default: Json = -1) -> list[int]:
    """An axis, or several, as a list; the batch is axis 0."""
    found = plain(layer.get(*names, default=default))
    found = [] if found is None else found if isinstance(found, list) else [found]
    return [int(i) for i in found]


def _named(layer: Keras, role: str, axes: Sequence[int]) -> Ruling:
    """A weight over some of x's axes: `channel` for one, their names for several; length one drops out."""

    def make(shape: tuple[int, ...], _: Shapes) -> Rule:
        words = _words(layer, axes, len(shape))
        words = ["1" if n == 1 and len(shape) > 1 else w for w, n in zip(words, shape, strict=True)]
        return rule(f"{' '.join(words)} -> {role}: {' '.join(w for w in words if w != '1')}")

    return make


def _words(layer: Keras, axes: Sequence[int], n: int) -> list[str]:
    if n == 1:
        return ["channel"]
    rank = len(plain(layer.build.get("input_shape")) or ()) or n + 1
    names, known = axis_names(rank - 1, 0 if layer.data_format == "channels_first" else -1)
    if n == rank - 1 and known:
        return list(names)
    if known and len(axes) == n and all(-rank < a < rank and a for a in axes):
        return [names[a % rank - 1] for a in axes]
    return [f"axis_{i + 1}" for i in range(n)]


# -- batch -------------------------------------------------------------------------------------------------------------


@keras("BatchNormalization", "BatchNormalizationV1", "BatchNormalizationV2", "SyncBatchNormalization")
def _batch(layer: Keras) -> Stored:
    axes = axes_of(layer, "axis")
    mode = layer.get("mode", default=0)
    attributes = {
        "axis": axes,
        "epsilon": layer.number("epsilon", default=1e-3),
        "statistics": {1: "sample", 2: "batch"}.get(mode, "stored"),
    }
    old = layer.era.major == 1
    names = []
    if old or layer.flag("scale", default=True):
        names.append(("gamma", "scale", True))
    if old or layer.flag("center", default=True):
        names.append(("beta", "offset", True))
    moving = ("running_mean", "running_std") if old else ("moving_mean", "moving_variance")
    names += [(moving[0], "mean", False), (moving[1], "variance", False)]
    if layer.flag("renorm", default=False):
        names += [("moving_stddev", "deviation", False), ("renorm_mean", "renorm_mean", False)]
        names += [("renorm_stddev", "renorm_deviation", False)]
    slots = tuple(Slot(n, _named(layer, role, axes), trainable=t) for n, role, t in names)
    return Stored("batch_norm", attributes, slots, mask="pass")


def along(axis: Sequence[int]) -> str:
    """The axes of a total, in an equation."""
    return f"over={axis[0] if len(axis) == 1 else tuple(axis)}"


def _affine(terms: Terms, text: str) -> str:
    scaled = f"{text} * {terms.ref('scale')}" if terms.takes("scale") else text
    return scaled + terms.plus("offset")


@equations("batch_norm")
def _batch_equations(terms: Terms) -> list[str]:
    mean, variance = terms.ref("mean"), terms.ref("variance")
    epsilon, momentum = terms.attributes["epsilon"], terms.attributes.get("momentum")
    if terms.attributes["statistics"] == "stored":
        lines = ["y = " + _affine(terms, f"(x - {mean}) / sqrt({variance} + {epsilon})")]
    elif terms.attributes["statistics"] == "sample":
        below = f"(sqrt(variance(x, over=-1) + {epsilon}) + {epsilon})"
        lines = ["y = " + _affine(terms, f"(x - mean(x, over=-1)) / {below}")]
    else:
        lines = ["y = " + _affine(terms, f"(x - mean(x, over=rest)) / sqrt(variance(x, over=rest) + {epsilon})")]
    if momentum is not None:
        now = (("mean", mean), ("variance", variance))
        return lines + [f"{k} = {momentum} * {w} + (1 - {momentum}) * flat({k}(x, over=rest))" for k, w in now]
    if terms.attributes["statistics"] != "stored":
        lines[0] += unread(terms, "mean", "variance")
    return lines


def spread(step: Step, name: str, axes: Sequence[int], x: Array) -> Array | None:
    """A weight (or an argument) over some of x's axes, laid out like x."""
    found = step.operand(name)
    if found is None:
        return None
    shape = [1] * x.ndim
    for a in axes:
        shape[a] = x.shape[a]
    if found.size != int(np.prod(shape)):
        shape = [n if n == 1 else -1 for n in shape]
    return found.reshape(shape)


def _scaled(step: Step, y: Array, axes: Sequence[int]) -> Array:
    scale, offset = spread(step, "scale", axes, y), spread(step, "offset", axes, y)
    y = y if scale is None else y * scale
    return y if offset is None else y + offset


@computes("batch_norm")
def _compute_batch(step: Step) -> Array | dict[str, Array]:
    a, x = step.attributes, step.x
    eps = a["epsilon"]
    if a["statistics"] == "sample":
        deviation = np.sqrt(x.var(axis=-1, keepdims=True) + eps)
        return _scaled(step, (x - x.mean(axis=-1, keepdims=True)) / (deviation + eps), [-1])
    if a["statistics"] == "batch":
        others = tuple(i for i in range(x.ndim) if i not in [k % x.ndim for k in a["axis"]])
        mean, variance = x.mean(axis=others, keepdims=True), x.var(axis=others, keepdims=True)
    else:
        mean, variance = spread(step, "mean", a["axis"], x), spread(step, "variance", a["axis"], x)
    y = _scaled(step, (x - mean) / np.sqrt(variance + eps), a["axis"])
    if "momentum" not in a:
        return y
    found = {"y": y}
    for role, now in (("mean", mean), ("variance", variance)):
        before = np.asarray(step.operand(role))
        found[role] = before * a["momentum"] + now.reshape(before.shape) * (1 - a["momentum"])
    return found


# -- layer, RMS, group, unit -------------------------------------------------------------------------------------------


@keras("LayerNormalization")
def _layer(layer: Keras) -> Stored:
    axes = axes_of(layer, "axis")
    scaling = layer.flag("rms_scaling", default=False)
    slots = []
    if scaling or layer.flag("scale", default=True):
        slots.append(Slot("gamma", _named(layer, "scale", axes)))
    if not scaling and layer.flag("center", default=True):
        slots.append(Slot("beta", _named(layer, "offset", axes)))
    attributes = {"axis": axes, "epsilon": layer.number("epsilon", default=1e-3), "centered": not scaling}
    return Stored("layer_norm", attributes, tuple(slots), mask="pass")


def _rms_told(layer: Keras, shapes: Shapes) -> dict[str, Json]:
    """Early versions of Keras 3 did not write `rms_scaling` down; one array where two are due shows it."""
    alone = len(shapes) == 1 and layer.flag("scale", default=True) and layer.flag("center", default=True)
    return {"rms_scaling": True} if layer.class_name == "LayerNormalization" and alone else {}


TOLD.append(_rms_told)


@keras("RMSNormalization")
def _rms(layer: Keras) -> Stored:
    axes = axes_of(layer, "axis")
    epsilon = layer.number("epsilon", default=1e-6)
    attributes = {"axis": axes, "epsilon": 1e-7 if epsilon is None else epsilon}
    return Stored("rms_norm", attributes, (Slot("scale", _named(layer, "scale", axes)),), mask="stop")


@keras("GroupNormalization")
def _group(layer: Keras) -> Stored:
    slots = []
    if layer.flag("scale", default=True):
        slots.append(Slot("gamma", rule("channel -> scale: channel")))
    if layer.flag("center", default=True):
        slots.append(Slot("beta", rule("channel -> offset: channel")))
    attributes = {
        "axis": axes_of(layer, "axis")[0],
        "groups": layer.integer("groups"),
        "epsilon": layer.number("epsilon", default=1e-3),
    }
    return Stored("group_norm", attributes, tuple(slots), mask="pass")


@keras("UnitNormalization")
def _unit(layer: Keras) -> Stored:
    return Stored("unit_norm", {"axis": axes_of(layer, "axis"), "epsilon": 1e-12}, mask="pass")


@equations("layer_norm")
def _layer_equations(terms: Terms) -> list[str]:
    a, over = terms.attributes, along(terms.attributes["axis"])
    top = f"(x - mean(x, {over}))" if a["centered"] else "x"
    return ["y = " + _affine(terms, f"{top} / sqrt(variance(x, {over}) + {a['epsilon']})")]


@equations("rms_norm")
def _rms_equations(terms: Terms) -> list[str]:
    a = terms.attributes
    return ["y = " + _affine(terms, f"x / sqrt(mean(x * x, {along(a['axis'])}) + {a['epsilon']})")]


@equations("group_norm")
def _group_equations(terms: Terms) -> list[str]:
    a = terms.attributes
    groups = f"groups={a['groups']}"
    text = f"(x - mean(x, {groups})) / sqrt(variance(x, {groups}) + {a['epsilon']})"
    if a.get("affine") != "group":
        return ["y = " + _affine(terms, text)]
    text += f" * each_group({terms.ref('scale')})" if terms.takes("scale") else ""
    return ["y = " + text + (f" + each_group({terms.ref('offset')})" if terms.takes("offset") else "")]


@equations("instance_norm")
def _instance_equations(terms: Terms) -> list[str]:
    space = "over=space"
    top, below = f"(x - mean(x, {space}))", f"sqrt(variance(x, {space}) + {terms.attributes['epsilon']})"
    return ["y = " + _affine(terms, f"{top} / {below}")]


@equations("unit_norm")
def _unit_equations(terms: Terms) -> list[str]:
    a = terms.attributes
    return [f"y = x / sqrt(maximum(sum(x * x, {along(a['axis'])}), {a['epsilon']}))"]


@computes("layer_norm")
def _compute_layer(step: Step) -> dict[str, Array]:
    a, x = step.attributes, step.x
    axes = tuple(a["axis"])
    mean = x.mean(axis=axes, keepdims=True)
    deviation = np.sqrt(x.var(axis=axes, keepdims=True) + a["epsilon"])
    y = _scaled(step, (x - mean if a["centered"] else x) / deviation, a["axis"])
    return {"y": y, "mean": mean, "inverse_deviation": 1 / deviation}


@computes("rms_norm")
def _compute_rms(step: Step) -> Array:
    a, x = step.attributes, step.x
    square = np.mean(x * x, axis=tuple(a["axis"]), keepdims=True)
    return _scaled(step, x / np.sqrt(square + a["epsilon"]), a["axis"])


@computes("group_norm")
def _compute_group(step: Step) -> Array:
    a, x = step.attributes, step.x
    axis = a["axis"] % x.ndim
    count = x.shape[axis] if a["groups"] == -1 else a["groups"]
    grouped = x.reshape(*x.shape[:axis], count, x.shape[axis] // count, *x.shape[axis + 1 :])
    axes = tuple(i for i in range(1, grouped.ndim) if i != axis)
    y = grouped - grouped.mean(axis=axes, keepdims=True)
    y = y / np.sqrt(grouped.var(axis=axes, keepdims=True) + a["epsilon"])
    if a.get("affine") == "group":
        return _scaled(step, y, [axis]).reshape(x.shape)
    return _scaled(step, y.reshape(x.shape), [axis])


@computes("instance_norm")
def _compute_instance(step: Step) -> Array:
    a, x = step.attributes, step.x
    axes = tuple(i for i in range(1, x.ndim) if i != a["axis"] % x.ndim)
    y = x - x.mean(axis=axes, keepdims=True)
    return _scaled(step, y / np.sqrt(x.var(axis=axes, keepdims=True) + a["epsilon"]), [a["axis"]])


@computes("unit_norm")
def _compute_unit(step: Step) -> Array:
    a, x = step.attributes, step.x
    square = np.sum(x * x, axis=tuple(a["axis"]), keepdims=True)
    return np.asarray(x / np.sqrt(np.maximum(square, a["epsilon"])))


# -- fixed statistics --------------------------------------------------------------------------------------------------


@keras("Normalization")
def _normalization(layer: Keras) -> Stored:
    axes = axes_of(layer, "axis")
    mean, variance = plain(layer.get("mean")), plain(layer.get("variance"))
    attributes = {
        "axis": axes,
        "invert": layer.flag("invert", default=False),
        "mean": mean,
        "variance": variance,
        "epsilon": 1e-7,
    }
    slots: tuple[Slot, ...] = ()
    if mean is None:
        slots = (
            Slot("mean", _named(layer, "mean", axes), trainable=False),
            Slot("variance", _named(layer, "variance", axes), trainable=False),
            Slot("count", rule(" -> count:"), trainable=False),
        )
    return Stored("normalization", attributes, slots, mask="pass" if layer.era.major > 2 else "stop")


@equations("normalization")
def _normalization_equations(terms: Terms) -> list[str]:
    stored_here = terms.has("mean")
    mean = terms.ref("mean") if stored_here else "mean"
    deviation = f"maximum(sqrt({terms.ref('variance') if stored_here else 'variance'}), {terms.attributes['epsilon']})"
    return [f"y = x * {deviation} + {mean}" if terms.attributes["invert"] else f"y = (x - {mean}) / {deviation}"]


@computes("normalization")
def _compute_normalization(step: Step) -> Array:
    a, x = step.attributes, step.x
    axes = sorted(k % x.ndim for k in a["axis"])
    given = {"mean": a["mean"], "variance": a["variance"]}
    found = []
    for name in ("mean", "variance"):
        value = np.asarray(given[name], dtype=np.float64) if given[name] is not None else step.weight(name)
        shape = [1] * x.ndim
        for axis, n in zip(reversed(axes), reversed(value.shape), strict=False):
            shape[axis] = n
        found.append(value.reshape(shape) if value.size == int(np.prod(shape)) else value)
    deviation = np.maximum(np.sqrt(found[1]), a["epsilon"])
    return x * deviation + found[0] if a["invert"] else (x - found[0]) / deviation


# -- spectral ----------------------------------------------------------------------------------------------------------


@keras("SpectralNormalization")
def _spectral(layer: Keras) -> Stored:
    child = layer.child(layer.need("layer"))
    inner = stored(child)
    kernel = next((s for s in inner.slots if s.name in {"kernel", "embeddings", "depthwise_kernel"}), None)
    if not inner.known or kernel is None:
        return unknown(layer)
    below = [s.below("layer") for s in inner.slots]
    twin = replace(
        kernel, path="", copy_of=f"layer/{kernel.path}/{kernel.name}" if kernel.path else f"layer/{kernel.name}"
    )
    last = kernel.rule.layout.split()[-1] if isinstance(kernel.rule, Rule) else "out"
    vector = Slot("vector_u", rule(f"1 {last} -> vector_u: {last}"), trainable=False)
    attributes = {
        **inner.attributes,
        "spectral_normalization": {"power_iterations": layer.get("power_iterations", default=1)},
    }
    return replace(inner, attributes=attributes, slots=(twin, vector, *below))
