"""Operations on single elements, beyond those of `merge` and `ops`: bits, bounds that are computed, GELU of a sum.

bitwise       and, or, xor, not, left_shift, right_shift of whole numbers
is_inf        whether an element is infinite, of the signs that count
dynamic_clip  clip with bounds that are arguments (`low`, `high`; either may be missing)
bias_gelu     gelu(x + bias)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wexport.features import Value
from wexport.layers.activation import unchanged
from wexport.layers.flows import opaque
from wexport.layers.numerics import gelu
from wexport.layers.registry import BOOL, TEXT, Flow, computes, equations, flow, kind
from wexport.layers.step import Step, Terms

Array = NDArray[Any]

BITWISE: dict[str, Callable[..., Array]] = {
    "and": np.bitwise_and, "or": np.bitwise_or, "xor": np.bitwise_xor, "not": np.bitwise_not,
    "left_shift": np.left_shift, "right_shift": np.right_shift,
}  # fmt: skip

kind("bitwise", function=TEXT)
kind("is_inf", negative=BOOL, positive=BOOL)
kind("dynamic_clip")
kind("bias_gelu", maybe={"approximate": BOOL})

opaque("bitwise")
flow("dynamic_clip", "bias_gelu")(unchanged)


@flow("is_inf")
def _is_inf_flow(f: Flow) -> Mapping[str, Value]:
    return {"y": f.source(f.x.shape, dtype="bool")}


@computes("bitwise")
def _compute_bitwise(step: Step) -> Array:
    return np.asarray(BITWISE[step.attributes["function"]](*step.xs))


@computes("is_inf")
def _compute_is_inf(step: Step) -> Array:
    a, x = step.attributes, step.x
    return np.asarray((np.isposinf(x) & a["positive"]) | (np.isneginf(x) & a["negative"]))


@computes("dynamic_clip")
def _compute_clip(step: Step) -> Array:
    x, low, high = step.x, step.args.get("low"), step.args.get("high")
    x = x if low is None else np.maximum(x, low)
    return x if high is None else np.minimum(x, high)


@equations("bias_gelu")
def _bias_gelu_equations(terms: Terms) -> list[str]:
    approximate = bool(terms.attributes.get("approximate"))
    return [f"y = gelu(x{terms.plus('bias')}, approximate={approximate})"]


@computes("bias_gelu")
def _compute_bias_gelu(step: Step) -> Array:
    return gelu(step.x + step.args["bias"], approximate=bool(step.attributes.get("approximate")))
