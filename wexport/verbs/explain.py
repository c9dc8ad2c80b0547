"""A layer explained: its equations, its tensors, and where a user of the framework would find each of them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from wexport.bundle import hint
from wexport.errors import UsageError
from wexport.layout import Piece
from wexport.pythonic import expression
from wexport.subject import Subject, look
from wexport.weights import pieces


@dataclass(frozen=True, slots=True)
class Part:
    """A tensor of a layer.

    `short` is its name below the layer, as the equations use it; `source` its place in the array that the file
    stores, as Python with NumPy, None where no slice can say it.
    """

    name: str
    short: str
    dtype: str
    shape: tuple[int, ...]
    axes: str
    weight: str
    source: str | None


@dataclass(frozen=True, slots=True)
class Explanation:
    """A layer: what it is, what it is applied to, its equations and its tensors."""

    layer: str
    kind: str
    class_name: str
    attributes: Mapping[str, Any]
    calls: tuple[Mapping[str, Any], ...]
    equations: tuple[str, ...]
    parts: tuple[Part, ...]


def explain(
    path: str | os.PathLike[str], layer: str, *, architecture: str | os.PathLike[str] | None = None
) -> Explanation:
    """Explain a layer of a bundle or a model file.

    Raises:
        UsageError: there is no such layer.
        WexportError: the file cannot be read.
    """
    with look(path, architecture) as subject:
        return explanation(subject, layer)


def explanation(subject: Subject, layer: str) -> Explanation:
    """Explain a layer of what is open already.

    Raises:
        UsageError: there is no such layer.
    """
    manifest = subject.manifest
    entry = manifest["layers"].get(layer)
    if entry is None:
        raise UsageError(f"{subject.path}: has no layer {layer!r}{hint(layer, manifest['layers'])}")
    names = subject.by_gate(n for n, item in manifest["tensors"].items() if item["layer"] == layer)
    return Explanation(
        layer,
        entry["kind"],
        entry["class"],
        {k: v for k, v in entry.items() if k not in {"kind", "class"}},
        tuple(call for call in manifest["calls"] if call["layer"] == layer),
        tuple(manifest["equations"].get(layer, ())),
        tuple(_part(subject, layer, name) for name in names),
    )


def _part(subject: Subject, layer: str, name: str) -> Part:
    item = subject.manifest["tensors"][name]
    shape = tuple(item["shape"])
    return Part(name, name[len(layer) + 1 :], item["dtype"], shape, item["axes"], item["weight"], place(subject, name))


def place(subject: Subject, name: str) -> str | None:
    """Where a tensor lies in what `get_weights()` gives, or, if the file tells no order, in the array of its key."""
    item = subject.manifest["tensors"][name]
    weight = subject.manifest["weights"][item["weight"]]
    piece = _piece(pieces(item["weight"], weight), item)
    index = weight["index"]
    array = f"get_weights()[{index}]" if index is not None else f"weights[{item['weight']!r}]"
    return None if piece is None else expression(array, weight["shape"], piece.view, piece.shape)


def _piece(found: list[Piece], item: Mapping[str, Any]) -> Piece | None:
    return next((p for p in found if p.role == item["role"] and dict(p.at) == item["at"]), None)
