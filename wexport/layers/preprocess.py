"""Preprocessing layers: tables and bins instead of kernels.

    StringLookup, IntegerLookup, TextVectorization: the vocabulary is an attribute, never a tensor; it stands in the
    config or in the archive's `vocabulary.txt`. A config that names a file instead is shown, the file not opened.
    Discretization: bins from the config; tf.keras keeps adapted ones as `summary` "row entry" (values, weights).
    CategoryEncoding, random augmentation (nothing when predicting),
    RandomFourierFeatures: kernel_scale, kernel, bias

Sources: keras/src/layers/preprocessing (3.15.1, 2.15); keras/src/layers/kernelized.py (2.15).
"""

from __future__ import annotations

import re
import string
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wexport.features import Dim, Value
from wexport.layers.activation import unchanged
from wexport.layers.keras import Keras, Slot, Stored, keras, plain, rule
from wexport.layers.registry import (
    ANY,
    BOOL,
    INT,
    NUMBER,
    TEXT,
    Flow,
    computes,
    equations,
    flow,
    kind,
    optional,
)
from wexport.layers.step import Step, Terms
from wexport.model import Json

Array = NDArray[Any]

_ENCODED: dict[str, Json] = {"output_mode": TEXT}
kind(
    "lookup",
    vocabulary=optional(ANY),
    mask_token=ANY,
    oov_tokens=INT,
    invert=BOOL,
    depth=optional(INT),
    idf=optional(ANY),
    method=optional(ANY),
    **_ENCODED,
)
kind(
    "text_vectorization", vocabulary=optional(ANY), standardize=ANY, split=ANY, ngrams=ANY, output_length=optional(INT),
    depth=optional(INT), idf=optional(ANY), **_ENCODED,
)  # fmt: skip
kind("discretization", boundaries=optional(ANY), bins=optional(INT), maybe={"truncates": BOOL}, **_ENCODED)
kind("category_encoding", tokens=optional(INT), **_ENCODED)
kind("fourier_features", units=INT, scale=optional(NUMBER))


# -- vocabularies ------------------------------------------------------------------------------------------------------


def _vocabulary(layer: Keras, special: int) -> Json:
    """The tokens without the special ones; a string is a file's name and stays one."""
    found = plain(layer.get("vocabulary"))
    if isinstance(found, list):
        return found
    stored = layer.assets.get("vocabulary.txt")
    if stored is None:
        return None
    return list(stored[special:])


def _ghosts(layer: Keras) -> int:
    """tf.keras counts an adapted vocabulary among its weights."""
    return int(layer.era.tf and not isinstance(plain(layer.get("vocabulary")), list))


@keras("StringLookup", "IntegerLookup")
def _lookup(layer: Keras) -> Stored:
    mask = layer.get("mask_token", "mask_value")
    oov = layer.integer("num_oov_indices") if layer.get("num_oov_indices") is not None else 1
    mode = str(layer.get("output_mode", default="int"))
    special = oov + (1 if mask is not None and mode == "int" else 0)
    vocabulary = _vocabulary(layer, special)
    if isinstance(vocabulary, list) and layer.class_name == "IntegerLookup":
        vocabulary = [int(v) for v in vocabulary]
    depth = layer.get("max_tokens") if layer.get("pad_to_max_tokens") else layer.get("vocabulary_size")
    attributes = {
        "vocabulary": vocabulary,
        "mask_token": mask,
        "oov_tokens": oov,
        "invert": layer.flag("invert", default=False),
        "depth": depth if mode != "int" else None,
        "idf": plain(layer.get("idf_weights")),
        "output_mode": mode,
        "method": layer.get("oov_method"),
    }
    slots = (Slot("idf_weights", rule("token -> idf: token"), trainable=False),) if mode == "tf_idf" else ()
    return Stored("lookup", attributes, slots, ghosts=_ghosts(layer))


@keras("TextVectorization")
def _text(layer: Keras) -> Stored:
    mode = str(layer.get("output_mode", default="int")).replace("-", "_")
    special = 2 if mode == "int" else 1
    attributes = {
        "vocabulary": _vocabulary(layer, special),
        "standardize": plain(layer.get("standardize"), code=True),
        "split": plain(layer.get("split"), code=True),
        "ngrams": plain(layer.get("ngrams")),
        "output_length": layer.get("output_sequence_length"),
        "depth": layer.get("max_tokens") if layer.get("pad_to_max_tokens") else layer.get("vocabulary_size"),
        "idf": plain(layer.get("idf_weights")),
        "output_mode": mode,
    }
    slots: tuple[Slot, ...] = ()
    if mode == "tf_idf":
        slots = (Slot("idf_weights", rule("token -> idf: token"), trainable=False, path="_lookup_layer"),)
    return Stored("text_vectorization", attributes, slots, ghosts=_ghosts(layer))


def encoded(f: Flow, depth: Dim) -> Mapping[str, Value]:
    """What `encode` makes of x: whole numbers, or vectors of this size."""
    mode = f.attributes["output_mode"]
    shape = f.x.shape
    if shape is None:
        return {"y": f.source(None)}
    if mode == "int":
        return {"y": f.source(shape, dtype="int64")}
    if mode == "one_hot" and not (len(shape) > 1 and shape[-1] == 1):
        return {"y": f.source((*shape, depth), dtype="float32")}
    left = shape[:-1] if mode == "one_hot" else (*shape[:1], *shape[2:])
    return {"y": f.source((*left, depth), dtype="float32")}


@flow("lookup")
def _lookup_flow(f: Flow) -> Mapping[str, Value]:
    if f.attributes["invert"]:
        return {"y": f.source(f.x.shape, dtype="string")}
    return encoded(f, f.attributes["depth"])


@flow("text_vectorization")
def _text_flow(f: Flow) -> Mapping[str, Value]:
    a, batch = f.attributes, (f.x.shape or (None,))[:1]
    if a["output_mode"] == "int":
        return {"y": f.source((*batch, a["output_length"]), dtype="int64")}
    return {"y": f.source((*batch, a["depth"]), dtype="float32")}


def encode(indices: Array, mode: str, depth: int, weights: Array | None = None) -> Array:
    """Indices as they are, or as one-hot, multi-hot or counting vectors; negative ones count nowhere.

    A row's vectors are added up along its first axis, however many follow (keras/src/utils/numerical_utils.py, 3.15.1).
    """
    if mode == "int":
        return indices
    hot = (indices[..., None] == np.arange(depth)) * (1.0 if weights is None else np.asarray(weights)[..., None])
    if mode == "one_hot":
        return np.squeeze(hot, -2) if indices.ndim > 1 and indices.shape[-1] == 1 else hot
    counts = hot.sum(axis=1) if indices.ndim > 1 else hot
    return np.asarray((counts > 0) * 1.0 if mode in {"multi_hot", "binary"} else counts)


def _indices(step: Step, x: Array, oov: int, mask: Any) -> Array:
    a = step.attributes
    vocabulary = a["vocabulary"]
    lead = 1 if mask is not None and a["output_mode"] == "int" else 0
    table = {str(t): i + lead + oov for i, t in enumerate(vocabulary)}
    flat = [str(t) for t in np.asarray(x).reshape(-1).tolist()]
    numbers = np.array([table.get(t, lead) for t in flat])
    if mask is not None:
        numbers = np.array([0 if t == str(mask) and lead else n for t, n in zip(flat, numbers, strict=True)])
    return numbers.reshape(np.shape(x))


@computes("lookup")
def _compute_lookup(step: Step) -> Array:
    a, x = step.attributes, step.x
    if a["invert"]:
        lead = (["" if a["mask_token"] is None else a["mask_token"]] if a["mask_token"] is not None else []) + [
            "[UNK]"
        ] * a["oov_tokens"]
        return np.array([*lead, *a["vocabulary"]])[x.astype(int)]
    numbers = _indices(step, x, a["oov_tokens"], a["mask_token"])
    y = encode(numbers, "count" if a["output_mode"] == "tf_idf" else a["output_mode"], a["depth"] or 0)
    return y * _idf(step) if a["output_mode"] == "tf_idf" else y


@equations("lookup", "text_vectorization")
def _idf_equations(terms: Terms) -> list[str]:
    return [f"y = counts(x) * {terms.ref('idf')}"] if terms.has("idf") else []


def _idf(step: Step) -> Array:
    found = step.get("idf")
    return np.asarray(step.attributes["idf"]) if found is None else found


@computes("text_vectorization")
def _compute_text(step: Step) -> Array:
    a = step.attributes
    rows = []
    for text in np.asarray(step.x).reshape(len(step.x), -1)[:, 0].tolist():
        text = str(text)
        if a["standardize"] in {"lower_and_strip_punctuation", "lower"}:
            text = text.lower()
        if a["standardize"] in {"lower_and_strip_punctuation", "strip_punctuation"}:
            text = re.sub(f"[{re.escape(string.punctuation)}]", "", text)
        words = text.split() if a["split"] == "whitespace" else list(text) if a["split"] == "character" else [text]
        rows.append(_ngrams(words, a["ngrams"]))
    if a["output_mode"] == "int":
        length = a["output_length"] or max(map(len, rows), default=0)
        table = {t: i + 2 for i, t in enumerate(a["vocabulary"])}
        numbers = [[table.get(w, 1) for w in row][:length] for row in rows]
        return np.array([n + [0] * (length - len(n)) for n in numbers], dtype=np.int64)
    table = {t: i + 1 for i, t in enumerate(a["vocabulary"])}
    counts = np.zeros((len(rows), a["depth"]))
    for i, row in enumerate(rows):
        for word in row:
            counts[i, table.get(word, 0)] += 1
    if a["output_mode"] == "tf_idf":
        return counts * _idf(step)
    return (counts > 0) * 1.0 if a["output_mode"] in {"multi_hot", "binary"} else counts


def _ngrams(words: Sequence[str], ngrams: Json) -> list[str]:
    if not ngrams:
        return list(words)
    sizes = ngrams if isinstance(ngrams, list) else range(1, int(ngrams) + 1)
    return [" ".join(words[i : i + n]) for n in sizes for i in range(len(words) - n + 1)]


# -- bins, categories --------------------------------------------------------------------------------------------------


@keras("Discretization")
def _discretization(layer: Keras) -> Stored:
    found = plain(layer.get("bin_boundaries", "bins"))
    boundaries = [b for b in found if b != float("inf")] if isinstance(found, list) else None
    mode = str(layer.get("output_mode", default="int"))
    attributes = {"boundaries": boundaries, "bins": layer.get("num_bins"), "output_mode": mode}
    if layer.era.major == 3 and str(plain(layer.get("dtype", default=""))).startswith("int"):
        # `predict` casts x to the layer's type first (TFDataLayer.__call__, 3.0.5 to 3.11.3)
        attributes["truncates"] = True
    adapted = boundaries is None and layer.era.tf
    slots = (Slot("summary", rule("row entry -> summary: row entry"), trainable=False),) if adapted else ()
    return Stored("discretization", attributes, slots)


@flow("discretization")
def _discretization_flow(f: Flow) -> Mapping[str, Value]:
    a = f.attributes
    return encoded(f, len(a["boundaries"]) + 1 if a["boundaries"] is not None else a["bins"])


@equations("discretization")
def _discretization_equations(terms: Terms) -> list[str]:
    a = terms.attributes
    x = "trunc(x)" if a.get("truncates") else "x"
    edges = f"quantiles({terms.ref('summary')}, {a['bins']})" if a["boundaries"] is None else "boundaries"
    place = f"bin({x}, {edges})"
    word = a["output_mode"]
    return [f"y = {place}" if word == "int" else f"y = {word}({place})"]


@computes("discretization")
def _compute_discretization(step: Step) -> Array:
    a = step.attributes
    boundaries = a["boundaries"]
    if boundaries is None:
        values, weights = step.weight("summary")
        share = np.cumsum(weights) / weights.sum()
        boundaries = np.interp(np.arange(1, a["bins"] + 1) / a["bins"], share, values)[:-1]
    x = np.trunc(step.x) if a.get("truncates") else step.x
    found = np.digitize(x.astype(np.float32), np.asarray(boundaries, np.float32))
    return encode(found, a["output_mode"], len(boundaries) + 1)


@keras("CategoryEncoding")
def _category(layer: Keras) -> Stored:
    mode = str(layer.get("output_mode", default="multi_hot"))
    attributes = {
        "tokens": layer.get("num_tokens", "max_tokens"),
        "output_mode": {"binary": "multi_hot"}.get(mode, mode),
    }
    return Stored("category_encoding", attributes, call=("x", "count_weights"))


@flow("category_encoding")
def _category_flow(f: Flow) -> Mapping[str, Value]:
    return encoded(f, f.attributes["tokens"])


@computes("category_encoding")
def _compute_category(step: Step) -> Array:
    return encode(step.x, step.attributes["output_mode"], step.attributes["tokens"], step.args.get("count_weights"))


# -- images ------------------------------------------------------------------------------------------------------------

kind("augmentation", moves=True)
_RANDOM = (
    "RandomBrightness", "RandomColorDegeneration", "RandomColorJitter", "RandomContrast", "RandomElasticTransform",
    "RandomErasing", "RandomFlip", "RandomGaussianBlur", "RandomGrayscale", "RandomHeight", "RandomHue",
    "RandomInvert", "RandomPerspective", "RandomPosterization", "RandomRotation", "RandomSaturation",
    "RandomSharpness", "RandomShear", "RandomTranslation", "RandomWidth", "RandomZoom", "AugMix", "CutMix", "MixUp",
    "RandAugment",
)  # fmt: skip


@keras(*_RANDOM)
def _augmentation(layer: Keras) -> Stored:
    return Stored("augmentation")


flow("augmentation")(unchanged)


@computes("augmentation")
def _compute_augmentation(step: Step) -> Array:
    return step.x


# -- fixed and random features -----------------------------------------------------------------------------------------


@keras("RandomFourierFeatures")
def _fourier(layer: Keras) -> Stored:
    slots = (
        Slot("kernel_scale", rule("1 -> kernel_scale:")),
        Slot("unscaled_kernel", rule("in out -> kernel: in out"), trainable=False),
        Slot("bias", rule("out -> bias: out"), trainable=False),
    )
    attributes = {"units": layer.integer("output_dim"), "scale": layer.get("scale")}
    return Stored("fourier_features", attributes, slots)


@flow("fourier_features")
def _fourier_flow(f: Flow) -> Mapping[str, Value]:
    return {"y": f.source((*(f.x.shape or (None, None))[:-1], f.attributes["units"]))}


@equations("fourier_features")
def _fourier_equations(terms: Terms) -> list[str]:
    scale = terms.ref("kernel_scale")
    return [f"y = cos(x @ ({terms.ref('kernel')} / {scale}) + {terms.ref('bias')})"]


@computes("fourier_features")
def _compute_fourier(step: Step) -> Array:
    kernel = step.weight("kernel") / step.weight("kernel_scale")
    return np.asarray(np.cos(step.x @ kernel + step.weight("bias")))
