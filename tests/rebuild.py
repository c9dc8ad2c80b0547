"""Stored arrays put together again from a bundle: its tensors, and what its manifest says of their places."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

import wexport
from wexport import dtypes
from wexport.layout import Piece
from wexport.view import Unpack, strided
from wexport.weights import pieces

Array = np.ndarray[Any, Any]


def rebuilt(bundle: wexport.Bundle, key: str) -> Array:
    """A stored array's elements, as unsigned integers of their width in the array's shape; of elements that share
    bytes, the bytes.

    Every element must be written exactly once, and every tensor of the array must be used.
    """
    item = bundle.manifest["weights"][key]
    if "copy_of" in item:
        return rebuilt(bundle, item["copy_of"])
    count = int(np.prod(item["shape"], dtype=int))
    if dtypes.bits(item["dtype"]) < 8:
        count = dtypes.nbytes(item["dtype"], count)
    flat, times = np.zeros(count, dtypes.mover(item["dtype"])), np.zeros(count, np.uint8)
    left = {name: t for name, t in bundle.manifest["tensors"].items() if t["weight"] == key}
    for piece in pieces(key, item):
        name = _tensor_of(piece, left)
        if name is None:
            assert piece.role in _zero_roles(bundle, key), f"{key}: no tensor holds {piece.name}"
        else:
            tensor = left.pop(name)
            assert (tensor["shape"], tensor["axes"]) == (list(piece.shape), piece.axes), name
            piece.view.put(bundle.raw(name), flat)
        _count(piece, times)
    assert not left, f"{key}: no rule speaks of {list(left)}"
    assert (times == 1).all(), f"{key}: elements are covered {sorted(set(times.tolist()))} times"
    return flat if dtypes.bits(item["dtype"]) < 8 else flat.reshape(item["shape"])


def _tensor_of(piece: Piece, tensors: Mapping[str, Mapping[str, Any]]) -> str | None:
    found = [n for n, t in tensors.items() if (t["role"], t["at"]) == (piece.role, dict(piece.at))]
    assert len(found) <= 1, f"{found} are the same piece"
    return found[0] if found else None


def _zero_roles(bundle: wexport.Bundle, key: str) -> list[str]:
    layers = {t["layer"] for t in bundle.manifest["tensors"].values() if t["weight"] == key}
    if not layers:  # nothing but zeros
        return [role for layer in bundle.manifest["layers"].values() for role in layer.get("zero", [])]
    assert len(layers) == 1, f"{key}: belongs to {layers}"
    return bundle.manifest["layers"][layers.pop()].get("zero", [])


def _count(piece: Piece, times: Array) -> None:
    """Count each stored element that the piece holds; of bytes that hold two numbers, each byte once."""
    if isinstance(piece.view.of, Unpack):
        numbers = np.arange(int(np.prod(piece.view.of.shape)))
        assert (np.sort(strided(numbers, piece.view), axis=None) == numbers).all()
        times += 1
        return
    piece.view.put(piece.view.take(times) + 1, times)
