"""Activations: as arguments of other layers, and as layers of their own.

An activation is `{"name": ..., parameters}`, every parameter stated: frameworks share names, not definitions.
`hard_sigmoid` is clip(slope * x + offset): 0.2 and 0.5 up to Keras 2 and in tf.keras, 1/6 and 0.5 in Keras 3.

    Keras  PReLU  alpha: an axis for each of x's, length one where it is shared (such an axis drops out)
    Keras 1  ParametricSoftplus  alphas, betas;  SReLU  t_left, a_left, t_right, a_right: as PReLU's

Dropout and noise do nothing when predicting: `identity`.
Sources: keras/src/activations/activations.py (3.15.1); keras/layers/advanced_activations.py (1.2.2, 2.2.4).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wexport.features import Value, axis_names
from wexport.layers.keras import Keras, Ruling, Shapes, Slot, Stored, keras, plain, rule
from wexport.layers.numerics import FUNCTIONS, softplus
from wexport.layers.registry import ACTIVATION, BOOL, INTS, TEXT, Flow, computes, equations, flow, kind
from wexport.layers.step import Step, Terms
from wexport.layout import Rule
from wexport.model import Json

Array = NDArray[Any]
LINEAR: Json = {"name": "linear"}

# what a bare name stands for, where it has parameters or another name here
_NAMES: dict[str, Json] = {
    "leaky_relu": {"name": "leaky_relu", "alpha": 0.2},
    "elu": {"name": "elu", "alpha": 1.0},
    "celu": {"name": "celu", "alpha": 1.0},
    "gelu": {"name": "gelu", "approximate": False},
    "glu": {"name": "glu", "axis": -1},
    "softmax": {"name": "softmax", "axis": -1},
    "log_softmax": {"name": "log_softmax", "axis": -1},
    "sparsemax": {"name": "sparsemax", "axis": -1, "cumulated": True},
    "soft_shrink": {"name": "soft_shrink", "threshold": 0.5},
    "hard_shrink": {"name": "hard_shrink", "threshold": 0.5},
    "threshold": {"name": "threshold", "threshold": 0.0, "default_value": 0.0},
    "squareplus": {"name": "squareplus", "b": 4.0},
    "relu6": {"name": "bounded_relu", "max_value": 6.0, "alpha": 0.0, "threshold": 0.0},
    "swish": {"name": "silu"},
    "hard_swish": {"name": "hard_silu"},
    "softmax_v2": {"name": "softmax", "axis": -1},
    "hard_sigmoid": {"name": "hard_sigmoid", "slope": 1 / 6, "offset": 0.5},
}


def named(name: str, major: int = 3) -> Json:
    """A built-in activation by its name, as the given Keras generation defines it."""
    if name == "hard_sigmoid" and major < 3:
        return {"name": "hard_sigmoid", "slope": 0.2, "offset": 0.5}
    if name in _NAMES:
        return dict(_NAMES[name])
    return {"name": name} if name in FUNCTIONS else _unknown(name)


def activation(layer: Keras, *names: str, default: Json = "linear") -> Json:
    """The activation that a config names.

    One that is no built-in (a custom function, a lambda) becomes `{"name": "unknown", "source": ...}`.
    """
    found = layer.get(*names, default=default)
    if isinstance(found, Mapping):
        inner, registered = found.get("config"), found.get("registered_name")
        if not isinstance(inner, str):
            return _from_layer(layer, found)
        found = registered if isinstance(registered, str) and ">" in registered else inner
    if found is None:
        return dict(LINEAR)
    return named(found, layer.era.major) if isinstance(found, str) else _unknown(found)


def _unknown(found: Json) -> Json:
    return {"name": "unknown", "source": str(plain(found, code=True))[:200]}


def _from_layer(layer: Keras, found: Mapping[str, Json]) -> Json:
    """A layer given as an argument, such as `Dense(activation=LeakyReLU(0.1))`."""
    if isinstance(found.get("class_name"), str):
        inner = layer.child(found)
        if inner.known_class and inner.class_name in _LAYERS:
            return _LAYERS[inner.class_name](inner)
    return _unknown(found.get("registered_name") or found.get("class_name") or found)


# -- activation layers -------------------------------------------------------------------------------------------------


def _relu(layer: Keras) -> Json:
    found = {
        "max_value": layer.number("max_value"),
        "alpha": layer.number("negative_slope", default=0.0),
        "threshold": layer.number("threshold", default=0.0),
    }
    if found == {"max_value": None, "alpha": 0.0, "threshold": 0.0}:
        return {"name": "relu"}
    return {"name": "bounded_relu", **found}


_LAYERS: dict[str, Callable[[Keras], Json]] = {
    "Activation": lambda k: activation(k, "activation"),
    "ReLU": _relu,
    "LeakyReLU": lambda k: {"name": "leaky_relu", "alpha": k.number("negative_slope", "alpha", default=0.3)},
    "ELU": lambda k: {"name": "elu", "alpha": k.number("alpha", default=1.0)},
    "ThresholdedReLU": lambda k: {"name": "thresholded_relu", "threshold": k.number("theta", default=1.0)},
    "Softmax": lambda k: {"name": "softmax", "axis": plain(k.get("axis", default=-1))},
}

# `all_masked`: softmax where all is masked is "zero", or else as if nothing were
kind("activation", maybe={"all_masked": TEXT}, activation=ACTIVATION)


@keras(*_LAYERS)
def _activation(layer: Keras) -> Stored:
    found = _LAYERS[layer.class_name](layer)
    masked = layer.class_name == "Softmax" and (layer.era.tf or layer.era.major > 2)
    attributes: dict[str, Json] = {"activation": found}
    if masked and layer.era.since(3, 10):
        attributes["all_masked"] = "zero"
    known = found["name"] != "unknown"
    return Stored("activation", attributes, mask="pass", takes_mask=masked, known=known)


def unchanged(f: Flow) -> Mapping[str, Value]:
    """Shape and features stay as they are."""
    return {"y": f.x}


@flow("activation")
def _activation_flow(f: Flow) -> Mapping[str, Value]:
    how = f.attributes["activation"]
    if how["name"] != "glu" or f.x.shape is None:
        return unchanged(f)
    shape = list(f.x.shape)  # the halves are mixed: these are features of their own
    shape[how["axis"]] = None if (n := shape[how["axis"]]) is None else n // 2
    return {"y": f.source(shape)}


@equations("activation")
def _activation_equations(terms: Terms) -> list[str]:
    return [f"y = {terms.activation('activation', 'x')}"]


@computes("activation")
def _compute_activation(step: Step) -> Array:
    x, mask = step.x, step.args.get("mask")
    if mask is not None and step.attributes["activation"]["name"] == "softmax":
        mask = mask.reshape(mask.shape + (1,) * (x.ndim - mask.ndim))
        y = step.activate("activation", np.where(mask, x, x - 1e9))
        return np.where(mask, y, 0) if step.attributes.get("all_masked") == "zero" else y
    return step.activate("activation", x)


kind("identity", moves=True)
_QUIET = (
    "Dropout", "AlphaDropout", "GaussianDropout", "GaussianNoise", "ActivityRegularization", "Identity",
    "SpatialDropout1D", "SpatialDropout2D", "SpatialDropout3D",
)  # fmt: skip


@keras(*_QUIET)
def _identity(layer: Keras) -> Stored:
    return Stored("identity", mask="pass")


flow("identity")(unchanged)


@equations("identity")
def _identity_equations(terms: Terms) -> list[str]:
    return ["y = x"]


@computes("identity")
def _compute_identity(step: Step) -> Array:
    return step.x


# -- activations with weights ------------------------------------------------------------------------------------------

kind("prelu", "parametric_softplus", shared_axes=INTS)
kind("s_shaped_relu", shared_axes=INTS, left_bounded=BOOL)
flow("prelu", "parametric_softplus", "s_shaped_relu")(unchanged)


def _per_position(layer: Keras, role: str) -> Ruling:
    def make(shape: tuple[int, ...], others: Shapes) -> Rule:
        channel = 0 if layer.data_format == "channels_first" else -1
        names, _ = axis_names(len(shape), channel)
        if sum(n > 1 for n in shape) <= 1:
            names = tuple("channel" if n > 1 or len(shape) == 1 else a for a, n in zip(names, shape, strict=True))
        words = ["1" if n == 1 and len(shape) > 1 else a for a, n in zip(names, shape, strict=True)]
        return rule(f"{' '.join(words)} -> {role}: {' '.join(w for w in words if w != '1')}")

    return make


def _shared(shapes: Shapes) -> dict[str, Json]:
    """The axes, counted from 1 behind the batch, along which all positions share a value."""
    shape = next(iter(shapes.values()))
    return {"shared_axes": [i + 1 for i, n in enumerate(shape) if n == 1 and len(shape) > 1]}


@keras("PReLU", "ParametricSoftplus", "SReLU")
def _with_weights(layer: Keras) -> Stored:
    name, roles = {
        "PReLU": ("prelu", {"alphas" if layer.era.major == 1 else "alpha": "alpha"}),
        "ParametricSoftplus": ("parametric_softplus", {"alphas": "alpha", "betas": "beta"}),
        "SReLU": (
            "s_shaped_relu",
            {"t_left": "left_threshold", "a_left": "left_slope", "t_right": "right_width", "a_right": "right_slope"},
        ),
    }[layer.class_name]
    slots = tuple(Slot(k, _per_position(layer, r)) for k, r in roles.items())
    # Theano's relu bounds both branches, TensorFlow's only the upper one (K.relu with a maximum, 1.2.2)
    attributes = {"left_bounded": layer.era.theano} if name == "s_shaped_relu" else {}
    return Stored(name, attributes, slots, mask="pass", derive=_shared)


@equations("prelu")
def _prelu_equations(terms: Terms) -> list[str]:
    return [f"y = maximum(x, 0) + {terms.ref('alpha')} * minimum(x, 0)"]


@equations("parametric_softplus")
def _softplus_equations(terms: Terms) -> list[str]:
    return [f"y = {terms.ref('alpha')} * softplus({terms.ref('beta')} * x)"]


@equations("s_shaped_relu")
def _srelu_equations(terms: Terms) -> list[str]:
    left, width = terms.ref("left_threshold"), f"abs({terms.ref('right_width')})"
    lower = f"{terms.ref('left_slope')} * minimum(d, 0)"
    middle = f"clip(d, 0, {width}) + {lower}"
    if terms.attributes["left_bounded"]:
        middle = f"minimum(maximum(d, 0) + {lower}, {width})"
    return [f"d = x - {left}", f"y = {left} + {middle} + {terms.ref('right_slope')} * maximum(d - {width}, 0)"]


def _spread(step: Step, name: str) -> Array:
    """A weight with the axes that all positions share put back in, as length one."""
    found = np.asarray(step.operand(name))
    for axis in step.attributes["shared_axes"]:
        found = np.expand_dims(found, axis - 1)
    return found


@computes("prelu")
def _compute_prelu(step: Step) -> Array:
    return np.maximum(step.x, 0) + _spread(step, "alpha") * np.minimum(step.x, 0)


@computes("parametric_softplus")
def _compute_softplus(step: Step) -> Array:
    return _spread(step, "alpha") * softplus(_spread(step, "beta") * step.x)


@computes("s_shaped_relu")
def _compute_srelu(step: Step) -> Array:
    width = np.abs(_spread(step, "right_width"))
    d = step.x - _spread(step, "left_threshold")
    lower = _spread(step, "left_slope") * np.minimum(d, 0)
    middle = (
        np.minimum(np.maximum(d, 0) + lower, width) if step.attributes["left_bounded"] else np.clip(d, 0, width) + lower
    )
    return _spread(step, "left_threshold") + middle + _spread(step, "right_slope") * np.maximum(d - width, 0)
