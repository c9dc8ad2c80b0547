"""Losses that a model computes itself: how unlikely the labels are.

    likelihood_loss   x: logarithms of probabilities `[batch, class, ...]`; labels `[batch, ...]`, of which those that
                      are `ignored` do not count; `weights` of the classes. `reduction`: none, sum, mean (of weights)
    cross_entropy     the same of scores, whose softmax is the probabilities; also gives their logarithms

Source: onnx/docs/Operators.md, NegativeLogLikelihoodLoss-22, SoftmaxCrossEntropyLoss-13.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from wexport.layers.flows import opaque
from wexport.layers.numerics import apply
from wexport.layers.registry import INT, TEXT, computes, kind, optional
from wexport.layers.step import Step

Array = NDArray[Any]

kind("likelihood_loss", "cross_entropy", ignored=optional(INT), reduction=TEXT)
opaque("likelihood_loss", "cross_entropy")


def _loss(step: Step, logarithms: Array) -> Array:
    a, labels, weights = step.attributes, np.asarray(step.args["labels"]).astype(int), step.args.get("weights")
    counts = np.ones(labels.shape) if a["ignored"] is None else (labels != a["ignored"]).astype(np.float64)
    labels = np.where(counts > 0, labels, 0)
    if weights is not None:
        counts = counts * np.asarray(weights)[labels]
    y = -np.take_along_axis(logarithms, np.expand_dims(labels, 1), axis=1)[:, 0] * counts
    if a["reduction"] == "none":
        return np.asarray(y)
    return np.asarray(y.sum() / (counts.sum() if a["reduction"] == "mean" else 1))


@computes("likelihood_loss")
def _compute_likelihood(step: Step) -> Array:
    return _loss(step, step.x)


@computes("cross_entropy")
def _compute_cross_entropy(step: Step) -> dict[str, Array]:
    logarithms = apply({"name": "log_softmax", "axis": 1}, step.x)
    return {"y": _loss(step, logarithms), "logarithms": logarithms}
