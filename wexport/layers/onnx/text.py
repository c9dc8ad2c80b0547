"""ONNX' operators on texts.

A pattern in a file could keep a machine busy: of those only runs of plain characters are read (Tokenizer, of
com.microsoft), and RegexFullMatch stays whole.
Source: onnx/docs/Operators.md; onnxruntime/docs/ContribOperators.md.
"""

from __future__ import annotations

import re
from itertools import pairwise

from wexport.layers.onnx import Lowered, Node, UnclearError, onnx
from wexport.model import Json


@onnx("StringConcat")
def _concat(node: Node) -> Lowered:
    return Lowered("text_join", {}, {"x": (node.need(0), node.need(1))})


@onnx("StringSplit")
def _split(node: Node) -> Lowered:
    most = node.get("maxsplit")
    attributes = {"delimiter": node.get("delimiter"), "most": None if most is None else int(most)}
    return Lowered("text_split", attributes, {"x": node.need(0)}, (), ("y", "counts"))


# a class of letters, digits and other characters that mean nothing in a class, or ranges of the first two
_CLASS = re.compile(r"\[((?:[A-Za-z0-9](?:-[A-Za-z0-9])?|[_ .,:;!?/@#$%&*+=<>])+)\](\+?)")


@onnx("Tokenizer", domain="com.microsoft")
def _tokens(node: Node) -> Lowered:
    pattern = str(node.get("tokenexp") or "")
    found = _CLASS.fullmatch(pattern)
    if found is None or node.get("mark", 0):
        raise UnclearError(f"Tokenizer: its pattern {pattern!r} is no run of plain characters, or it marks the ends")
    attributes = {"characters": found[1], "single": not found[2], "shortest": int(node.get("mincharnum", 1))}
    return Lowered("tokens", {**attributes, "filler": str(node.get("pad_value", ""))}, {"x": node.need(0)})


@onnx("StringNormalizer")
def _normal(node: Node) -> Lowered:
    attributes = {
        "stops": list(node.get("stopwords") or []),
        "case": node.word("case_change_action", "NONE", "LOWER", "UPPER"),
        "case_counts": bool(node.get("is_case_sensitive", 0)),
    }
    return Lowered("text_normal", attributes, {"x": node.need(0)})


@onnx("TfIdfVectorizer")
def _ngrams(node: Node) -> Lowered:
    """The pool has all single words, then all pairs, and so on; `ngram_counts` says where each length begins."""
    words = list(node.get("pool_strings") or node.get("pool_int64s") or [])
    starts, columns = (list(node.ints(k) or []) for k in ("ngram_counts", "ngram_indexes"))
    grams: list[Json] = []
    for n, (first, last) in enumerate(pairwise([*starts, len(words)]), 1):
        grams += [words[i : i + n] for i in range(first, last, n)]
    if len(grams) != len(columns):
        raise UnclearError(f"TfIdfVectorizer: {len(grams)} runs of words for {len(columns)} columns")
    weights = node.get("weights")
    attributes: dict[str, Json] = {
        "grams": grams, "columns": columns, "weights": None if weights is None else [float(w) for w in weights],
        "mode": node.word("mode", "TF", "IDF", "TFIDF"), "skips": int(node.get("max_skip_count", 0)),
        "shortest": int(node.get("min_gram_length", 1)), "longest": int(node.get("max_gram_length", 1)),
    }  # fmt: skip
    return Lowered("ngram_counts", attributes, {"x": node.need(0)})
