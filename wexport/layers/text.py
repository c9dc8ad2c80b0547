"""Texts.

    text_join       two arrays of texts, one behind the other
    text_split      texts cut at `delimiter` (or at spaces), at most `most` times, into as many columns as the longest
                    needs, empty ones behind; and how many parts each has
    tokens          the runs in texts that are of the characters of a class, or (`single`) single ones, of at least
                    `shortest` characters, in as many columns as the longest text needs, `filler` behind
    text_normal     texts without those that are `stops`, in `case` LOWER, UPPER or as they are (NONE)
    ngram_counts    how often runs of words stand in a row, of the `shortest` to the `longest`, with up to `skips` words
                    between two: `grams` are the runs, `columns` the column of each; `mode` TF counts, IDF weighs what
                    is there, TFIDF weighs the counts

Source: onnx/docs/Operators.md, StringConcat-20, StringSplit-20, StringNormalizer-10, TfIdfVectorizer-9;
onnxruntime/docs/ContribOperators.md, Tokenizer.
"""

from __future__ import annotations

import itertools
import re
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wexport.layers.flows import opaque
from wexport.layers.registry import BOOL, INT, INTS, NUMBERS, TEXT, computes, kind, optional
from wexport.layers.step import Step

Array = NDArray[Any]

kind("text_join")
kind("text_split", delimiter=optional(TEXT), most=optional(INT))
kind("tokens", characters=TEXT, single=BOOL, shortest=INT, filler=TEXT)
kind("text_normal", stops=NUMBERS, case=TEXT, case_counts=BOOL)
kind(
    "ngram_counts",
    grams=NUMBERS,
    columns=INTS,
    weights=optional(NUMBERS),
    mode=TEXT,
    skips=INT,
    shortest=INT,
    longest=INT,
)
opaque("text_join", "text_normal", "tokens", y="string")
opaque("text_split", y="string", counts="int64")
opaque("ngram_counts", y="float32")


@computes("text_join")
def _compute_join(step: Step) -> Array:
    a, b = np.broadcast_arrays(*(np.asarray(x).astype(str) for x in step.xs))
    return np.char.add(a, b)


@computes("text_split")
def _compute_split(step: Step) -> dict[str, Array]:
    a, x = step.attributes, np.asarray(step.x).astype(str)
    most = -1 if a["most"] is None else a["most"]
    parts = [str(text).split(a["delimiter"] or None, most) if text else [] for text in x.reshape(-1)]
    longest = max(map(len, parts), default=0)
    y = np.asarray([[*p, *[""] * (longest - len(p))] for p in parts], str).reshape(*x.shape, longest)
    return {"y": y, "counts": np.asarray([len(p) for p in parts], np.int64).reshape(x.shape)}


def _characters(text: str) -> set[str]:
    """The characters of a class: `a-c_` are a, b, c and _."""
    ranges = re.findall(r"(.)-(.)", text)
    return {*re.sub(".-.", "", text), *(chr(c) for low, high in ranges for c in range(ord(low), ord(high) + 1))}


def _runs(text: str, known: set[str], single: bool) -> list[str]:
    runs = ["".join(run) for there, run in itertools.groupby(text, known.__contains__) if there]
    return list("".join(runs)) if single else runs


@computes("tokens")
def _compute_tokens(step: Step) -> Array:
    a, x = step.attributes, np.asarray(step.x).astype(str)
    known = _characters(a["characters"])
    parts = [[t for t in _runs(str(text), known, a["single"]) if len(t) >= a["shortest"]] for text in x.reshape(-1)]
    longest = max(map(len, parts), default=0)
    y = [[*p, *[a["filler"]] * (longest - len(p))] for p in parts]
    return np.asarray(y, str).reshape(*x.shape, longest)


@computes("text_normal")
def _compute_normal(step: Step) -> Array:
    a, x = step.attributes, np.asarray(step.x).astype(str)
    change = {"LOWER": str.lower, "UPPER": str.upper}.get(a["case"], str)
    same = str if a["case_counts"] else str.lower
    stops = {same(s) for s in a["stops"]}
    kept = [change(str(text)) for text in x.reshape(-1) if same(str(text)) not in stops] or [""]
    return np.asarray(kept, str).reshape((1, -1) if x.ndim == 2 else -1)


@computes("ngram_counts")
def _compute_ngrams(step: Step) -> Array:
    a, x = step.attributes, np.asarray(step.x)
    words = x.astype(str) if x.dtype.kind in "OUS" else x.astype(np.int64)
    rows = words.reshape(-1, words.shape[-1]) if words.ndim > 1 else words[None]
    places = {tuple(gram): column for gram, column in zip(a["grams"], a["columns"], strict=True)}
    y = np.zeros((len(rows), max(a["columns"], default=-1) + 1))
    for row, counts in zip(rows.tolist(), y, strict=True):
        for n in range(a["shortest"], a["longest"] + 1):
            for apart in range(1, (a["skips"] if n > 1 else 0) + 2):
                for first in range(len(row) - (n - 1) * apart):
                    column = places.get(tuple(row[first : first + (n - 1) * apart + 1 : apart]))
                    if column is not None:
                        counts[column] += 1
    weights = np.ones(y.shape[1])
    if a["weights"] is not None:
        weights[a["columns"]] = a["weights"]
    found = {"TF": y, "IDF": (y > 0) * weights, "TFIDF": y * weights}[a["mode"]]
    return found if words.ndim > 1 else found[0]
