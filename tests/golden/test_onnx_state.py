"""PyTorch's own arrays come back: what the tensors' names say, undone, gives the `state_dict`, bit for bit."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import pytest
from cases import DATA, Case
from conftest import Exported
from rebuild import rebuilt

import wexport
from wexport import dtypes

GROUPS = DATA / "onnx"
FATES: dict[str, dict[str, Any]] = json.loads((GROUPS / "fates.json").read_text(encoding="utf-8"))

GATES = {"lstm": ("input", "forget", "cell", "output"), "gru": ("reset", "update", "candidate"), "rnn": ("",)}
ROLES = {
    "scale": "weight", "offset": "bias", "mean": "running_mean", "variance": "running_var", "embedding": "weight",
    "kernel": "weight", "bias": "bias", "alpha": "weight", "kernel_g": "weight_g", "kernel_v": "weight_v",
}  # fmt: skip
RECURRENT = {"kernel": "weight_ih", "recurrent": "weight_hh", "bias": "bias_ih", "recurrent_bias": "bias_hh"}
SPATIAL = ("depth", "height", "width", "length")


class Piece(NamedTuple):
    """One of PyTorch's arrays, made of a bundle's tensors: the layer's name and PyTorch's word for it."""

    layer: str
    word: str
    array: Any


def pieces(bundle: wexport.Bundle) -> Iterator[Piece]:
    """What every layer's tensors are in PyTorch's words and order of axes; constants, and packed projections."""
    made = list(_pieces(bundle))
    yield from made
    for key, item in bundle.manifest["weights"].items():
        if "constant" in item:
            yield Piece("", key, np.asarray(item["constant"], dtypes.numpy_dtype(item["dtype"])))
    biases = {p.layer: p.array for p in made if p.word == "bias"}
    for name in {layer.rpartition(".")[0] for layer in biases}:
        if all(f"{name}.{word}" in biases for word in ("query", "key", "value")):
            parts = [biases[f"{name}.{word}"] for word in ("query", "key", "value")]
            yield Piece(name, "in_proj_bias", np.concatenate(parts))


def _pieces(bundle: wexport.Bundle) -> Iterator[Piece]:
    for name, layer in bundle.manifest["layers"].items():
        tensors = {n: t for n, t in bundle.manifest["tensors"].items() if t["layer"] == name}
        if layer["kind"] in GATES and tensors:
            yield from recurrent(bundle, name, layer, tensors)
            continue
        for key in dict.fromkeys(t["weight"] for t in tensors.values()):
            parts = {n: t for n, t in tensors.items() if t["weight"] == key}
            (role,) = {t["role"] for t in parts.values()}
            yield Piece(name, ROLES.get(role, role), plain(bundle, key, layer["kind"], parts))
        for alias, item in bundle.manifest["aliases"].items():
            if item["layer"] == name:
                own = bundle[item["tensor"]] if not item.get("transposed") else bundle[alias].T
                yield Piece(name, ROLES.get(item["role"], item["role"]), own)


def plain(bundle: wexport.Bundle, key: str, kind: str, parts: dict[str, Any]) -> Any:
    """A layer's array; a kernel whose rows are split or in another order is put together by the manifest's rule."""
    item = bundle.manifest["weights"][key]
    first, axes = next((name, t["axes"]) for name, t in parts.items())
    words = axes.split()
    if len(parts) > 1 or "(" in axes:
        whole = dtypes.widen(rebuilt(bundle, key), item["dtype"])
        return whole.T if item["layout"].startswith("in") else whole
    array = bundle[first]
    if kind == "depthwise_conv" and "multiplier" in words:  # PyTorch: channel times multiplier, one, and the window
        return np.moveaxis(array, [words.index(w) for w in words if w in SPATIAL], range(-space(words), 0)).reshape(
            -1, 1, *(n for n, w in zip(array.shape, words, strict=True) if w in SPATIAL)
        )
    if {"in", "out"} <= set(words):
        heads = ["in", "out"] if kind == "conv_transpose" else ["out", "in"]
        return array.transpose([words.index(w) for w in (*heads, *(w for w in words if w in SPATIAL))])
    return array


def space(words: list[str]) -> int:
    return sum(w in SPATIAL for w in words)


def recurrent(bundle: wexport.Bundle, name: str, layer: Any, tensors: dict[str, Any]) -> Iterator[Piece]:
    """PyTorch's packed arrays: its own order of gates below each other, for each direction."""
    for direction in dict.fromkeys(t["at"].get("direction", "") for t in tensors.values()):
        suffix = "_reverse" if direction == "backward" else ""
        for role, word in RECURRENT.items():
            rows = []
            for gate in GATES[layer["kind"]]:
                found = [
                    n
                    for n, t in tensors.items()
                    if (t["role"], t["at"].get("gate", ""), t["at"].get("direction", "")) == (role, gate, direction)
                ]
                found.sort(key=lambda n: int(tensors[n]["at"].get("in", 0)))
                if found:
                    rows.append(np.concatenate([bundle[n] for n in found]).T)
            if rows:
                yield Piece(name, f"{word}{suffix}", np.concatenate(rows))
            elif role in layer.get("zero", []):
                biases = [p for p in tensors.values() if p["role"] == "bias"]
                size = sum(p["shape"][0] for p in biases if p["at"].get("direction", "") == direction)
                yield Piece(name, f"{word}{suffix}", np.zeros(size, np.float32))


# What a word may also be called: (PyTorch's words, what the bundle says).
ALSO = [
    (r"(in_proj_|[qkv]_proj_)?weight|W", r"weight"),
    (r"in_proj_bias", r"bias"),
    (r"weight_(ih|hh)", r"weight|kernel_hh"),  # a cell of its own, unrolled
    (r"bias_(ih|hh)", r"bias"),
    (r"original0", r"weight_g"),
    (r"original1", r"weight_v"),
    (r"pos|scale|shift", r"operand|weight"),
    (r"weight|bias", r"operand"),  # of a group normalization that became arithmetic
]
# Layers that are not called as PyTorch's module: file and array, the name, why.
ELSEWHERE = {
    r"A1_key/key\.legacy_jitscript\.onnx lstm\..*": "LSTM",  # a script's operators have no scope
    r"A1_key/key\.legacy_modfuncs\.onnx lstm\..*": r"out\.KeyModel\.LSTM_0\.LSTM_30",  # the call's node is misnamed
    r"A4_attn/tied_lm\..* model\.embed_tokens\.weight": r"lm_head(~2)?",  # of tied weights the last name is left
}
# Arrays whose numbers a file holds, but which no tensor is: file and array, why.
CHANGED = {
    r".*num_batches_tracked": "no prediction reads it",
    r"A2_rnn/lstm_proj\.dynamo\.onnx rnn\.weight_hr_l0": "PyTorch's exporter lost what it belongs to",
    r"A2_rnn/lstm_learned_state\.dynamo\.onnx [hc]0": "repeated for every sequence of the batch",
    r"A4_attn/norms(_hand)?\.dynamo(_opset23)?\.onnx inorm_track\..*": "the same",
    r"A4_attn/xattn\.dynamo\.onnx x\.bias_[kv]": "the same",
}
# Arrays that a file holds no more: file and array, why.
LOST = {
    r".*num_batches_tracked": "no prediction reads it",
    r"A1_key/key\.(dynamo_program_noinit|legacy_noparams)\.onnx .*": "exported without weights",
    r"A2_rnn/lstm_proj\.dynamo\.onnx rnn\..*": "PyTorch's exporter lost them",
    r"A[35]_\w+/cnn\.(dynamo|legacy)\w*\.onnx (stem\.[01]|dil|bn|dw\.\w+|up|bn_up)\.\w+": "its normalization is folded",
    r"A3_cnn/cnn13d\.\w+\.onnx (\w\d|fc|bnfc)\.\w+": "the same",
    r"A[35]_\w+/cnn\.\w+\.onnx act\.weight": "one number in a shape of its own is not found by comparing",
    r"A3_cnn/cnn\.legacy_train\.onnx .*\.running_(mean|var)": "updated while it was exported",
    r"A3_cnn/weightnorm\w*\.(dynamo|legacy13)\.onnx .*(weight_[gv]|original\d?|_u|_v)": "computed by the exporter",
    r"A4_attn/xattn\.legacy(14)?\.onnx (dec\.multihead_attn\.in_proj_(weight|bias)|x\.in_proj_bias)": "cut into parts",
}


def listed(table: dict[str, str], file: str, key: str) -> str | None:
    return next((value for pattern, value in table.items() if re.fullmatch(pattern, f"{file} {key}")), None)


def of_module(layer: str, module: str) -> bool:
    """Whether a layer is called as a module; of several operators each has its number or its own word behind it."""
    return not module or bool(re.fullmatch(rf"{re.escape(module)}(\.\w+)?(~\d+)?", layer))


def same(piece: Piece, word: str, wanted: Any) -> bool:
    """Whether a piece is an array: by its word, its shape and its bytes (bfloat16 is widened in the golden files)."""
    own = re.sub(r"_l\d(_reverse)?$", r"\1", word)
    if piece.word != own and not any(re.fullmatch(a, own) and re.fullmatch(b, piece.word) for a, b in ALSO):
        return False
    array = piece.array.T if word == "W" else piece.array  # x @ W: no module's, and so not turned
    if array.shape != wanted.shape and piece.word != "operand" and wanted.size > 1:
        return False
    return np.asarray(array).astype(wanted.dtype).tobytes() == wanted.tobytes()


@pytest.mark.parametrize("file", FATES)
def test_what_a_file_holds_comes_back(file: str, exported: Exported) -> None:
    path = GROUPS / file
    found = list(pieces(exported(Case(path, None, path))))
    with np.load(path.with_name(FATES[file]["state"])) as state:
        for key in FATES[file]["stored"]:
            if listed(CHANGED, file, key):
                continue
            module, _, word = key.rpartition(".")
            module = module.partition(".parametrizations.")[0]
            equal = [p for p in found if same(p, word, state[key])]
            assert equal, f"{key}: no tensors are this array"
            name = listed(ELSEWHERE, file, key)
            right = [p for p in equal if (re.fullmatch(name, p.layer) if name else of_module(p.layer, module))]
            assert right, f"{key}: is called {[p.layer for p in equal]}"


@pytest.mark.parametrize("file", FATES)
def test_what_a_file_does_not_hold_is_listed(file: str) -> None:
    assert [key for key in FATES[file]["lost"] if not listed(LOST, file, key)] == []


def test_the_tables_are_needed() -> None:
    stored, lost = (
        [f"{file} {key}" for file, fate in FATES.items() for key in fate[what]] for what in ("stored", "lost")
    )
    for table, names in ((ELSEWHERE, stored), (CHANGED, stored), (LOST, lost)):
        for pattern in table:
            assert any(re.fullmatch(pattern, name) for name in names), pattern
    assert sum(not any(re.fullmatch(p, name) for p in CHANGED) for name in stored) > 1200
