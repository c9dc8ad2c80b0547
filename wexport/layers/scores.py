"""Models that are no networks: linear ones, and support vector machines; scaling of features.

    linear_regressor     y = x @ kernel + bias
    linear_classifier    scores likewise; of one row and two classes they are -s and s
    svm_regressor        y = sum over the support vectors of coefficient * k(x, vector), plus rho
    svm_classifier       one such sum for each pair of classes, and a vote for the winner; `prob_a`, `prob_b` make them
                         probabilities (Platt 1999), joined for all classes as in LIBSVM (Wu, Lin & Weng 2004)
    scaler               (x - offset) * scale
    feature_vectorizer   inputs side by side, each cut or filled with zeros to its size

`post_transform` is what becomes of the scores: NONE, SOFTMAX, LOGISTIC, SOFTMAX_ZERO (scores of zero stay small),
PROBIT. The label is the class of the largest score; without labels, its number.
Source: onnx/docs/Operators-ml.md, with what onnxruntime does where it says nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wexport.features import Value, concat
from wexport.layers.numerics import sigmoid, softmax
from wexport.layers.registry import BOOL, INT, INTS, NUMBERS, TEXT, Flow, computes, equations, flow, kind
from wexport.layers.step import Step, Terms, unread

Array = NDArray[Any]


def _last(_: Mapping[str, Any]) -> int:
    return -1


kind("linear_regressor", feature_axis=_last, units=INT, post_transform=TEXT)
kind("linear_classifier", feature_axis=_last, units=INT, classes=NUMBERS, post_transform=TEXT)
kind("svm_regressor", kernel_type=TEXT, one_class=BOOL, post_transform=TEXT)
kind("svm_classifier", kernel_type=TEXT, classes=NUMBERS, post_transform=TEXT)
kind("scaler")
kind("feature_vectorizer", sizes=INTS)


def _softmax_zero(scores: Array) -> Array:
    top = scores.max(axis=-1, keepdims=True)
    e = np.where(np.abs(scores) > 1e-7, np.exp(scores - top), scores * np.exp(-top))
    total = e.sum(axis=-1, keepdims=True)
    return np.where(total == 0, 0.5, e / np.where(total == 0, 1, total))


def _probit(p: Array) -> Array:
    """The inverse of the normal distribution function (Winitzki's approximation, as ONNX' runtimes have it)."""
    x = 2 * p - 1
    with np.errstate(all="ignore"):
        log = np.log((1 - x) * (1 + x))
        v = 2 / (np.pi * 0.147) + 0.5 * log
        return 1.41421356 * np.where(log == -np.inf, 0, np.sign(x) * np.sqrt(np.sqrt(v * v - log / 0.147) - v))


TRANSFORMS: dict[str, Callable[[Array], Array]] = {
    "NONE": lambda x: x, "LOGISTIC": sigmoid, "SOFTMAX": lambda x: softmax(x, -1), "SOFTMAX_ZERO": _softmax_zero,
    "PROBIT": _probit,
}  # fmt: skip


def labels(classes: Sequence[Any], places: Array) -> Array:
    """The classes at these places; the places where the classes have no labels."""
    if not classes:
        return places.astype(np.int64)
    return np.asarray(classes, None if isinstance(classes[0], str) else np.int64)[places]


def labelled(f: Flow, units: int | None) -> Mapping[str, Value]:
    """A class for each row, and scores."""
    rows = (f.x.shape or (None,))[0]
    classes = f.attributes["classes"]
    kind_of = "string" if classes and isinstance(classes[0], str) else "int64"
    scores = f.source((rows, units), "scores", dtype="float32")
    return {"labels": f.source((rows,), "labels", dtype=kind_of), "scores": scores}


def rows_of(step: Step) -> Array:
    """x with a row for each sample."""
    return np.atleast_2d(np.asarray(step.x, np.float64))


# -- linear ------------------------------------------------------------------------------------------------------------


@flow("linear_regressor")
def _linear_flow(f: Flow) -> Mapping[str, Value]:
    return {"y": f.source(((f.x.shape or (None,))[0], f.attributes["units"]), dtype="float32")}


@flow("linear_classifier")
def _classifier_flow(f: Flow) -> Mapping[str, Value]:
    units, classes = f.attributes["units"], f.attributes["classes"]
    return labelled(f, 2 if units == 1 and len(classes) == 2 else units)


def named(word: str, text: str) -> str:
    """A term with what becomes of scores."""
    return text if word == "NONE" else f"{word.lower()}({text})"


@equations("linear_regressor")
def _linear_equations(terms: Terms) -> list[str]:
    return ["y = " + named(terms.attributes["post_transform"], terms.product("kernel") + terms.plus("bias"))]


@equations("linear_classifier")
def _classifier_equations(terms: Terms) -> list[str]:
    a = terms.attributes
    lines = [f"s = {terms.product('kernel')}{terms.plus('bias')}"]
    classes, word = a["classes"], a["post_transform"]
    if a["units"] == 1 and len(classes) == 2:
        lines.append("s = concat(-s, s)")
    lines.append(f"scores = {named(word, 's')}")
    if a["units"] != 1 or len(classes) == 2:
        return [*lines, f"labels = {label_text(classes, 'argmax(scores)')}"]
    name = classes[0] if classes else 1
    other = "" if isinstance(name, str) else 0
    return [*lines, f"labels = where(scores[:, 0] >= {0 if word == 'NONE' else 0.5}, {name!r}, {other!r})"]


def label_text(classes: Sequence[Any], places: str) -> str:
    """The classes at these places, in an equation."""
    return f"classes[{places}]" if classes else places


def _linear(step: Step) -> Array:
    return step.bias(rows_of(step) @ step.kernel(), "bias")


@computes("linear_regressor")
def _compute_regressor(step: Step) -> Array:
    return TRANSFORMS[step.attributes["post_transform"]](_linear(step))


@computes("linear_classifier")
def _compute_classifier(step: Step) -> dict[str, Array]:
    a, scores = step.attributes, _linear(step)
    classes, word = a["classes"], a["post_transform"]
    if scores.shape[1] == 1 and len(classes) == 2:
        scores = np.concatenate([-scores, scores], axis=1)
    scores = TRANSFORMS[word](scores)
    if scores.shape[1] > 1:
        return {"labels": labels(classes, scores.argmax(axis=1)), "scores": scores}
    positive = scores[:, 0] >= (0 if word == "NONE" else 0.5)
    names = classes[:1] or [1]
    other = "" if isinstance(names[0], str) else 0
    return {"labels": np.asarray([other, *names])[positive.astype(np.int64)], "scores": scores}


# -- support vectors ---------------------------------------------------------------------------------------------------


@flow("svm_regressor")
def _regressor_flow(f: Flow) -> Mapping[str, Value]:
    return {"y": f.source(((f.x.shape or (None,))[0], 1), dtype="float32")}


@flow("svm_classifier")
def _svm_flow(f: Flow) -> Mapping[str, Value]:
    return labelled(f, None)


def _alike(terms: Terms) -> str:
    """How alike x and every support vector are, in an equation."""
    word = terms.attributes["kernel_type"].lower()
    return f"{word}(x, {terms.ref('support_vectors')}{_parameters(terms)})"


def _parameters(terms: Terms) -> str:
    return f", {terms.ref('kernel_params')}" if terms.has("kernel_params") else ""


@equations("svm_regressor")
def _svm_regressor_equations(terms: Terms) -> list[str]:
    alike, rest = (_alike(terms), "") if terms.has("support_vectors") else ("x", unread(terms, "kernel_params"))
    line = named(terms.attributes["post_transform"], f"{alike} @ {terms.ref('coefficients')}.T{terms.plus('rho')}")
    return [f"y = {f'where({line} > 0, 1, -1)' if terms.attributes['one_class'] else line}{rest}"]


@equations("svm_classifier")
def _svm_classifier_equations(terms: Terms) -> list[str]:
    classes, word = terms.attributes["classes"], terms.attributes["post_transform"]
    coefficients, rho = terms.ref("coefficients"), terms.ref("rho")
    if terms.has("support_vectors"):
        counts = terms.ref("vectors_per_class")
        lines = [f"s = by_pairs({_alike(terms)}, {coefficients}, {counts}) + {rho}", f"v = votes(s, {counts})"]
    else:
        rest = unread(terms, "kernel_params", "vectors_per_class", "prob_a", "prob_b")
        lines = [f"s = x @ {coefficients}.T + {rho}[0]{rest}", "v = s"]
    probable = terms.has("prob_a") and terms.has("support_vectors")
    if probable:
        lines.append(f"p = joined(1 - sigmoid(s * {terms.ref('prob_a')}{terms.plus('prob_b')}))")
    scores = "p" if probable else "both_ways(s)" if len(classes) == 2 else "s"
    lines.append(f"scores = {named(word, scores)}")
    if not classes:
        return [*lines, "labels = where(max(v, over=-1) > 0, 1, 0)"]
    if probable or len(classes) != 2:
        return [*lines, "labels = classes[argmax(v)]"]
    floor = "" if terms.has("support_vectors") else ", 0"
    return [*lines, f"labels = classes[second(v, {coefficients}{floor})]"]


def _kernel(step: Step, x: Array, vectors: Array) -> Array:
    """How alike every row of x and every vector are: [row, vector]."""
    given = step.get("kernel_params")
    gamma, offset, degree = (0.0, 0.0, 0.0) if given is None else given[:3]
    word = step.attributes["kernel_type"].upper() if step.has("support_vectors") else "LINEAR"
    product = x @ vectors.T
    if word == "RBF":
        square = np.sum(x * x, 1)[:, None] + np.sum(vectors * vectors, 1) - 2 * product
        return np.exp(-gamma * np.maximum(square, 0))
    if word == "LINEAR":
        return product
    inner = gamma * product + offset
    return inner ** int(degree) if word == "POLY" else np.tanh(inner)


@computes("svm_regressor")
def _compute_svm_regressor(step: Step) -> Array:
    coefficients = step.weight("coefficients")
    rho = step.get("rho")
    vectors = step.get("support_vectors")
    if vectors is None:
        y = _kernel(step, rows_of(step), coefficients)
    else:
        y = _kernel(step, rows_of(step), vectors) @ coefficients[0][:, None]
    y = y if rho is None else y + rho[0]
    y = TRANSFORMS[step.attributes["post_transform"]](y)
    return np.where(y > 0, 1.0, -1.0) if step.attributes["one_class"] else y


@computes("svm_classifier")
def _compute_svm_classifier(step: Step) -> dict[str, Array]:
    a = step.attributes
    coefficients = step.weight("coefficients")
    places, scores = _svm_scores(step)
    probable = step.has("prob_a") and step.has("support_vectors")
    best = places.max(axis=1)
    chosen = places.argmax(axis=1)
    count = len(a["classes"])
    if probable:
        scores = np.stack([_joined(_pairs(step, row, places.shape[1])) for row in scores])
    if count == 2 and not probable and coefficients.min() >= 0:
        chosen = np.where(best >= 0.5, 1, chosen)  # a score of positive numbers alone is a probability
    elif count == 2 and not step.has("support_vectors"):
        chosen = np.where(best > 0, 1, chosen)
    if count == 0:
        return {"labels": np.where(best > 0, 1, 0), "scores": TRANSFORMS[a["post_transform"]](scores)}
    if scores.shape[1] == 1 and count == 2:
        scores = np.concatenate([-scores, scores], axis=1)
    return {"labels": labels(a["classes"], chosen), "scores": TRANSFORMS[a["post_transform"]](scores)}


def _svm_scores(step: Step) -> tuple[Array, Array]:
    """What speaks for each class, [row, class], and the scores: of classes, or of pairs of them."""
    coefficients, rho, vectors = step.weight("coefficients"), step.weight("rho"), step.get("support_vectors")
    if vectors is None:
        scores = _kernel(step, rows_of(step), coefficients) + rho[0]
        return scores, scores
    alike = _kernel(step, rows_of(step), vectors)
    counts = step.weight("vectors_per_class").astype(int)
    ends = np.cumsum(counts)
    own = [slice(end - n, end) for n, end in zip(counts, ends, strict=True)]
    votes, scores = np.zeros((len(alike), len(counts))), []
    for k, (i, j) in enumerate(combinations(range(len(counts)), 2)):
        s = rho[k] + alike[:, own[i]] @ coefficients[j - 1, own[i]] + alike[:, own[j]] @ coefficients[i, own[j]]
        scores.append(s)
        votes[:, i] += s > 0
        votes[:, j] += s <= 0
    return votes, np.stack(scores, axis=1)


def _pairs(step: Step, scores: Array, count: int) -> Array:
    """How probable the first of each pair of classes is, [class, class]."""
    a, b = step.weight("prob_a"), step.weight("prob_b")
    found = np.zeros((count, count))
    for k, (i, j) in enumerate(combinations(range(count), 2)):
        found[i, j] = np.clip(1 - sigmoid(np.asarray(scores[k] * a[k] + b[k])), 1e-7, 1 - 1e-7)
        found[j, i] = 1 - found[i, j]
    return found


def _joined(pairs: Array) -> Array:
    """The classes' probabilities from those of pairs (LIBSVM, multiclass_probability)."""
    k = len(pairs)
    q = -pairs.T * pairs
    q[np.diag_indices(k)] = np.sum(pairs**2, axis=0) - np.diag(pairs) ** 2
    p = np.full(k, 1 / k)
    for _ in range(max(100, k)):
        qp = q @ p
        total = p @ qp
        if np.abs(qp - total).max() < 0.005 / k:
            break
        for t in range(k):
            step = (total - qp[t]) / q[t, t]
            p[t] += step
            total = (total + step * (step * q[t, t] + 2 * qp[t])) / (1 + step) ** 2
            qp = (qp + step * q[t]) / (1 + step)
            p /= 1 + step
    return p


# -- features ----------------------------------------------------------------------------------------------------------


@flow("scaler")
def _scaler_flow(f: Flow) -> Mapping[str, Value]:
    return {"y": Value(f.x.shape, "float32", f.x.parts)}


@equations("scaler")
def _scaler_equations(terms: Terms) -> list[str]:
    top = f"(x - {terms.ref('offset')})" if terms.has("offset") else "x"
    return [f"y = {top} * {terms.ref('scale')}" if terms.has("scale") else f"y = {top}"]


@computes("scaler")
def _compute_scaler(step: Step) -> Array:
    offset, scale = step.get("offset"), step.get("scale")
    y = np.asarray(step.x, np.float64)
    y = y if offset is None else y - offset
    return y if scale is None else y * scale


@flow("feature_vectorizer")
def _vectorizer_flow(f: Flow) -> Mapping[str, Value]:
    values, sizes = f.values(), f.attributes["sizes"]
    whole = [v.shape is not None and len(v.shape) == 2 and v.shape[1] == n for v, n in zip(values, sizes, strict=False)]
    if not all(whole) or len(values) != len(sizes):
        return {"y": f.source(None, dtype="float32")}
    found = concat(values, 1)
    return {"y": Value(found.shape, "float32", found.parts)}


@computes("feature_vectorizer")
def _compute_vectorizer(step: Step) -> Array:
    parts = []
    for x, n in zip(step.xs, step.attributes["sizes"], strict=True):
        x = np.asarray(x, np.float64)
        x = x.reshape(-1, 1) if x.ndim == 1 else x
        parts.append(np.pad(x[:, :n], [(0, 0), (0, max(0, n - x.shape[1]))]))
    return np.concatenate(parts, axis=1)
