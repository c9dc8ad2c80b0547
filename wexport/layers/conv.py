"""Convolutions: ordinary, transposed, depthwise and separable, in one to three dimensions.

    Keras 2, 3  Conv          "height width in out" (per group: `in` = inputs of a group, `out` = all outputs)
                Transpose     "height width out in"
                Depthwise     "height width in multiplier"; output channel `in * multiplier + m`
                Separable     depthwise as above; pointwise "1 1 (in multiplier) out"
    Keras 1     Conv1D        "length 1 in out"; others with `th` ordering "out in height width"; Deconvolution2D
                "height width in out" (tf) or "out in height width" (th); separable th "multiplier in height width"

Written by Theano, kernels are flipped in space (Theano convolves), except those of locally connected layers.
Transposed: the output of padding `same` is n * stride long; `layers/numerics.py` says where it is cut; padding in
pairs of numbers is what is cut off. Theano's `same` is not TensorFlow's: it is written as numbers where they differ.
Sources: keras/src/layers/convolutional (3.15.1); keras/layers/convolutional.py (1.2.2, 2.2.4); keras/engine/
topology.py, preprocess_weights_for_loading (2.2.4); keras/utils/layer_utils.py, convert_all_kernels_in_model (1.2.2).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wexport.features import SPATIAL, Dim, Value
from wexport.layers import quantized
from wexport.layers.activation import activation
from wexport.layers.keras import Keras, Ruling, Shapes, Slot, Stored, keras, rule
from wexport.layers.numerics import conv, depthwise_conv, transposed_conv, transposed_length
from wexport.layers.registry import (
    ACTIVATION,
    FORMAT,
    INT,
    INTS,
    PADDING,
    TEXT,
    Flow,
    computes,
    equations,
    flow,
    kind,
    optional,
)  # fmt: skip
from wexport.layers.step import Step, Terms
from wexport.layout import Flip, Rule
from wexport.layout import Step as LayoutStep
from wexport.model import Json

Array = NDArray[Any]


def channel_axis(attributes: Mapping[str, Any]) -> int:
    """The axis of x that holds the channels."""
    return 1 if attributes["data_format"] == "channels_first" else -1


_COMMON: dict[str, Json] = {
    "kernel_size": INTS, "strides": INTS, "padding": PADDING, "dilation": INTS, "data_format": FORMAT,
    "activation": ACTIVATION,
}  # fmt: skip
# a kernel that is computed is an argument: `kernel_axes` are its axes, as they are
_GIVEN: dict[str, Json] = {"kernel_axes": TEXT}
kind(
    "conv",
    feature_axis=channel_axis,
    maybe={**quantized.MAYBE, **_GIVEN},
    filters=optional(INT),
    groups=INT,
    **_COMMON,
)
kind(
    "conv_transpose",
    feature_axis=channel_axis,
    maybe={**_GIVEN, "groups": INT},
    filters=optional(INT),
    output_padding=optional(INTS),
    output_size=optional(INTS),
    **_COMMON,
)
kind("depthwise_conv", feature_axis=channel_axis, multiplier=INT, **_COMMON)
kind("separable_conv", feature_axis=channel_axis, filters=INT, multiplier=INT, **_COMMON)

_RANKS = {"1D": 1, "2D": 2, "3D": 3}


def rank_of(layer: Keras) -> int:
    """The number of spatial axes that a class name ends in: `Conv2DTranspose` has two."""
    return next(n for word, n in _RANKS.items() if word in layer.class_name)


def spatial_attributes(layer: Keras) -> dict[str, Json]:
    """The attributes that all convolutions share."""
    n = rank_of(layer)
    if layer.era.major == 1 and n > 1:
        size = [
            layer.integer(k)
            for k in (("nb_row", "nb_col") if n == 2 else ("kernel_dim1", "kernel_dim2", "kernel_dim3"))
        ]
    else:
        size = layer.numbers(n, "kernel_size", "filter_length")
    strides = layer.numbers(n, "strides", "subsample", "subsample_length", default=1)
    dilation = layer.numbers(n, "dilation_rate", "atrous_rate", default=1)
    return {
        "kernel_size": size,
        "strides": strides,
        "padding": padding_of(layer, size, strides, dilation),
        "dilation": dilation,
        "data_format": "channels_last" if layer.era.major == 1 and n == 1 else layer.data_format,
        "activation": activation(layer, "activation"),
    }


def padding_of(layer: Keras, size: Sequence[int], strides: Sequence[int], dilation: Sequence[int]) -> Json:
    """The zeros around x: a word, or pairs of numbers where the word means other things elsewhere.

    Theano's `same` pads half of a kernel on either side, whatever the stride, and cuts what is too much off the end
    (K.conv2d, _postprocess_conv2d_output); `full` puts every window that touches x.
    """
    word = str(layer.get("padding", "border_mode", default="valid"))
    reach = [(k - 1) * d + 1 for k, d in zip(size, dilation, strict=True)]
    if word == "full":
        return [[r - 1, r - 1] for r in reach]
    if word == "same" and layer.era.theano and (max(strides) > 1 or any(r % 2 == 0 for r in reach)):
        return [[r // 2, (r - 1) // 2] for r in reach]
    return word


def each_axis(padding: Json, n: int) -> list[Json]:
    """A padding for each of n spatial axes."""
    return [padding] * n if isinstance(padding, str) else list(padding)


def _flips(layer: Keras, axes: Sequence[str]) -> tuple[LayoutStep, ...]:
    return (Flip(tuple(axes)),) if layer.era.theano else ()


def _biased(layer: Keras) -> bool:
    return layer.flag("use_bias", "bias", default=True)


def _bias(layer: Keras) -> tuple[Slot, ...]:
    name = "b" if layer.era.major == 1 else "bias"
    return (Slot(name, rule("out -> bias: out")),) if _biased(layer) else ()


@keras(
    "Conv1D", "Conv2D", "Conv3D", "Convolution1D", "Convolution2D", "Convolution3D",
    "AtrousConvolution1D", "AtrousConvolution2D", "AtrousConv1D", "AtrousConv2D",
)  # fmt: skip
def _conv(layer: Keras) -> Stored:
    n = rank_of(layer)
    axes = SPATIAL[n]
    space = " ".join(axes)
    attributes = {
        "filters": layer.integer("filters", "nb_filter"),
        "groups": layer.integer("groups") if layer.get("groups") else 1,
        **spatial_attributes(layer),
    }
    how = quantized.policy(layer)
    attributes |= how.attributes()
    kept = f"{space} in out"
    if layer.era.major > 1:
        stored = kept
    elif n == 1:
        stored = "length 1 in out"
    else:
        stored = f"out in {space}" if attributes["data_format"] == "channels_first" else kept
    name = "W" if layer.era.major == 1 else "kernel"
    main = rule(f"{stored} -> kernel: {kept}", *_flips(layer, axes))
    ruling: Ruling = main
    if layer.era.major == 1 and n == 1:
        ruling = _old_conv1d(attributes["filters"], attributes["kernel_size"][0], main)
    splits = attributes["groups"] == 1 and how.splits
    kernel = Slot(name, ruling, splits=splits, trainable=how.rank is None, tracked=True)
    low: tuple[Slot, ...] = ()
    if how.rank is not None:
        low = (
            Slot("lora_kernel_a", rule(f"{space} in rank -> lora_a: {space} in rank"), splits=splits, merged=True),
            Slot("lora_kernel_b", rule("rank out -> lora_b: rank out"), merged=True),
        )
    return Stored("conv", attributes, (kernel, *_bias(layer), *low))


def _old_conv1d(filters: int, length: int, main: Rule) -> Ruling:
    """Keras 1.0 stored Conv1D kernels as "out in length 1", 1.1 and later as "length 1 in out"."""

    def make(shape: tuple[int, ...], _: Shapes) -> Rule:
        if len(shape) == 4 and (shape[:2] != (length, 1) or shape[3] != filters):
            return rule("out in length 1 -> kernel: length in out", *main.steps)
        return main

    return make


@keras(
    "Conv1DTranspose", "Conv2DTranspose", "Conv3DTranspose", "Convolution1DTranspose", "Convolution2DTranspose",
    "Convolution3DTranspose", "Deconvolution2D", "Deconvolution3D", "Deconv2D", "Deconv3D",
)  # fmt: skip
def _transpose(layer: Keras) -> Stored:
    n = rank_of(layer)
    axes = SPATIAL[n]
    space, kept = " ".join(axes), f"{' '.join(axes)} in out"
    attributes = {"filters": layer.integer("filters", "nb_filter"), **spatial_attributes(layer)}
    given = layer.get("output_padding")
    attributes["output_padding"] = None if given is None else layer.numbers(n, "output_padding")
    attributes["output_size"] = None
    if layer.era.theano and attributes["padding"] != "valid":
        attributes["padding"] = _theano_cut(attributes)
    stored = f"{space} out in"
    if layer.era.major == 1:
        shape = layer.get("output_shape") or ()
        first = attributes["data_format"] == "channels_first"
        attributes["output_size"] = [int(i) for i in (shape[2:] if first else shape[1:-1])]
        stored = f"out in {space}" if first else kept
    name = "W" if layer.era.major == 1 else "kernel"
    kernel = Slot(name, rule(f"{stored} -> kernel: {kept}", *_flips(layer, axes)), splits=True)
    return Stored("conv_transpose", attributes, (kernel, *_bias(layer)))


def _theano_cut(a: Mapping[str, Any]) -> Json:
    """What Theano's `same` cuts off the whole result: half a kernel before, behind it all but n * stride.

    Below zero, zeros are put there instead. With an `output_padding`, that many fewer are cut off.
    """
    cuts = []
    for k, s, d in zip(a["kernel_size"], a["strides"], a["dilation"], strict=True):
        reach = (k - 1) * d + 1
        after = reach - s - reach // 2 if a["output_padding"] is None else reach // 2
        cuts.append([reach // 2, after])
    return cuts


@keras("DepthwiseConv1D", "DepthwiseConv2D")
def _depthwise(layer: Keras) -> Stored:
    axes = f"{' '.join(SPATIAL[rank_of(layer)])} in multiplier"
    attributes = {"multiplier": layer.integer("depth_multiplier"), **spatial_attributes(layer)}
    name = "kernel" if layer.era.major == 3 else "depthwise_kernel"
    kernel = Slot(name, rule(f"{axes} -> kernel: {axes}", *_flips(layer, SPATIAL[rank_of(layer)])), splits=True)
    return Stored("depthwise_conv", attributes, (kernel, *_bias(layer)))


@keras("SeparableConv1D", "SeparableConv2D", "SeparableConvolution1D", "SeparableConvolution2D")
def _separable(layer: Keras) -> Stored:
    n = rank_of(layer)
    axes = SPATIAL[n]
    space, ones = " ".join(axes), " ".join("1" for _ in axes)
    multiplier = layer.integer("depth_multiplier")
    attributes = {
        "filters": layer.integer("filters", "nb_filter"),
        "multiplier": multiplier,
        **spatial_attributes(layer),
    }
    depth = f"{space} in multiplier -> depthwise: {space} in multiplier"
    point = f"{ones} (in multiplier) out -> pointwise: in multiplier out"
    if layer.era.major == 1 and attributes["data_format"] == "channels_first":
        depth = f"multiplier in {space} -> depthwise: {space} in multiplier"
        point = f"out (in multiplier) {ones} -> pointwise: in multiplier out"
    slots = (
        Slot("depthwise_kernel", rule(depth, *_flips(layer, axes)), splits=True),
        Slot("pointwise_kernel", rule(point, sizes={"multiplier": multiplier})),
        *_bias(layer),
    )
    return Stored("separable_conv", attributes, slots)


# -- shapes ------------------------------------------------------------------------------------------------------------


def window_length(n: Dim, size: int, stride: int, padding: Any, dilation: int = 1, ceil: bool = False) -> Dim:
    """The number of windows along an axis of length n; `ceil`: a last one need only begin within it."""
    if n is None:
        return None
    reach = (size - 1) * dilation + 1
    if ceil and padding not in ("same", "same_lower", "causal"):
        low, high = padding if isinstance(padding, list) else (0, 0)
        count = -(-(n + low + high - reach) // stride) + 1
        return count - ((count - 1) * stride >= n + low)
    if isinstance(padding, list):
        return (n + sum(padding) - reach) // stride + 1
    return -(-n // stride) if padding in {"same", "same_lower", "causal"} else (n - reach) // stride + 1


def mapped(f: Flow, channels: Dim, lengths: Sequence[Dim]) -> Mapping[str, Value]:
    """A feature map of its own: so many channels, these spatial lengths."""
    axis = channel_axis(f.attributes)
    shape = [channels, *lengths] if axis == 1 else [*lengths, channels]
    return {"y": f.source((*(f.x.shape or (None,))[:1], *shape), channel=axis)}


def spatial(x: Value, attributes: Mapping[str, Any]) -> list[Dim]:
    """The lengths of a value's spatial axes."""
    shape = list(x.shape or ())
    return shape[2:] if channel_axis(attributes) == 1 else shape[1:-1]


@flow("conv", "depthwise_conv", "separable_conv")
def _conv_flow(f: Flow) -> Mapping[str, Value]:
    a = f.attributes
    if f.x.shape is None:
        return {"y": f.source(None)}
    pads = each_axis(a["padding"], len(a["kernel_size"]))
    lengths = [
        window_length(*of)
        for of in zip(spatial(f.x, a), a["kernel_size"], a["strides"], pads, a["dilation"], strict=True)
    ]
    channels = a.get("filters")
    if "filters" not in a:
        inner = f.x.shape[channel_axis(a)]
        channels = None if inner is None else inner * a["multiplier"]
    return mapped(f, channels, lengths)


@flow("conv_transpose")
def _transpose_flow(f: Flow) -> Mapping[str, Value]:
    a = f.attributes
    if f.x.shape is None:
        return {"y": f.source(None)}
    extra = a["output_padding"] or [None] * len(a["kernel_size"])
    pads = each_axis(a["padding"], len(a["kernel_size"]))
    lengths: list[Dim] = []
    for i, n in enumerate(spatial(f.x, a)):
        of = (a["kernel_size"][i], a["strides"][i], pads[i], extra[i], a["dilation"][i])
        lengths.append(None if n is None else transposed_length(n, *of))
    return mapped(f, a["filters"], a["output_size"] or lengths)


# -- equations and computing -------------------------------------------------------------------------------------------


@equations("conv")
def _conv_equations(terms: Terms) -> list[str]:
    product = "conv(x, kernel)" if "kernel_axes" in terms.attributes else terms.product("kernel", "conv({x}, {w})")
    stored = terms.has("kernel") and "kernel_axes" not in terms.attributes
    whole = quantized.kernel_term(terms) if stored else None
    if whole is None and terms.has("lora_b"):
        low, inner = terms.attributes["lora"], terms.product("lora_a", "conv({x}, {w})")
        product += f" + {low['alpha'] / low['rank']} * ({inner}) @ {terms.ref('lora_b')}"
    if whole is not None:
        product = f"conv(x, {whole})"
    return [f"y = {terms.activation('activation', product + terms.plus('bias', 'added'))}"]


@equations("conv_transpose")
def _transpose_equations(terms: Terms) -> list[str]:
    given = "kernel_axes" in terms.attributes
    product = "conv_transpose(x, kernel)" if given else terms.product("kernel", "conv_transpose({x}, {w})")
    return [f"y = {terms.activation('activation', product + terms.plus('bias'))}"]


@equations("depthwise_conv")
def _depthwise_equations(terms: Terms) -> list[str]:
    reads = terms.attributes.get("reads") or ()
    product = terms.product("kernel", "depthwise_conv({x}, {w})").replace(" + ", ", ")
    product = f"concat({product})" if len(reads) > 1 else product
    return [f"y = {terms.activation('activation', product + terms.plus('bias', 'added'))}"]


@equations("separable_conv")
def _separable_equations(terms: Terms) -> list[str]:
    reads = terms.attributes.get("reads") or ()
    product = terms.product("depthwise", "depthwise_conv({x}, {w})").replace(" + ", ", ")
    product = f"concat({product})" if len(reads) > 1 else product
    mixed = f"d @ {terms.ref('pointwise')}{terms.plus('bias')}"
    return [f"d = {product}", f"y = {terms.activation('activation', mixed)}"]


def channels_last(step: Step) -> Array:
    """x with its channels last."""
    return np.moveaxis(step.x, 1, -1) if channel_axis(step.attributes) == 1 else step.x


def restored(step: Step, y: Array) -> Array:
    """A result with its channels where the layer has them."""
    return np.moveaxis(y, -1, 1) if channel_axis(step.attributes) == 1 else y


def _finished(step: Step, y: Array) -> Array:
    y, added = restored(step, step.bias(y, "bias")), step.args.get("added")
    return step.activate("activation", y if added is None else y + added)


def _kernel(step: Step) -> Array:
    """The kernel, `[*space, in, out]`."""
    axes = str(step.attributes.get("kernel_axes", "")).split()
    if not axes:
        return step.kernel()
    space = [a for a in axes if a not in {"in", "out"}]
    return np.transpose(step.args["kernel"], [axes.index(a) for a in (*space, "in", "out")])


@computes("conv")
def _compute_conv(step: Step) -> Array:
    a = step.attributes
    kernel = _kernel(step)
    if step.has("lora_b") and a.get("lora"):
        kernel = kernel + a["lora"]["alpha"] / a["lora"]["rank"] * (step.kernel("lora_a") @ step.weight("lora_b"))
    return _finished(step, conv(channels_last(step), kernel, a["strides"], a["padding"], a["dilation"], a["groups"]))


@computes("conv_transpose")
def _compute_transpose(step: Step) -> Array:
    a = step.attributes
    how = (a["strides"], a["padding"], a["dilation"], a["output_padding"], a["output_size"])
    x, kernel, groups = channels_last(step), _kernel(step), a.get("groups", 1)
    pairs = zip(np.split(x, groups, axis=-1), np.split(kernel, groups, axis=-2), strict=True)
    return _finished(step, np.concatenate([transposed_conv(*pair, *how) for pair in pairs], axis=-1))


@computes("depthwise_conv")
def _compute_depthwise(step: Step) -> Array:
    a = step.attributes
    return _finished(
        step, depthwise_conv(channels_last(step), step.kernel(), a["strides"], a["padding"], a["dilation"])
    )


@computes("separable_conv")
def _compute_separable(step: Step) -> Array:
    a = step.attributes
    d = depthwise_conv(channels_last(step), step.kernel("depthwise"), a["strides"], a["padding"], a["dilation"])
    pointwise = step.weight("pointwise")
    return _finished(step, d @ pointwise.reshape(-1, pointwise.shape[-1]))
