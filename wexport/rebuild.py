"""Stored arrays put together again from a bundle: the rules of its `weights` read backwards.

An array's bytes come in any order that they are asked for: each stretch of it is collected from the tensors that hold a
part of it, in a bounded amount of memory; only arrays that are no views of their bytes (`View.of`) are made whole.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wexport import dtypes
from wexport.bundle import Bundle
from wexport.errors import BundleError, UsageError
from wexport.layout import Leaf, Piece
from wexport.model import Array
from wexport.names import tensor_name
from wexport.storage import Bytes, Storage
from wexport.stream import Space, gather
from wexport.view import Unpack, View, c_strides, strided
from wexport.weights import leaves, pieces, tensor_type

BLOCK_BYTES = 8 << 20
_FEW = 1 << 20  # elements that an axis has, or that nobody stores; more only where the bundle itself is large


@dataclass(frozen=True, slots=True)
class Share:
    """A part of a stored array: where its elements lie, and the tensor that has them; zeros are nobody's."""

    view: View
    name: str | None
    tensor: Array | None


class Rebuilt:
    """A stored array's bytes, collected from the tensors; a `Storage` for one reader at a time."""

    def __init__(self, dtype: str, size: int, shares: Sequence[Share]) -> None:
        self.size, self._shares = size, shares
        self._dtype = dtypes.mover(dtype)
        self._whole: memoryview | None = None

    def read_into(self, buffer: memoryview, start: int) -> None:
        """Fill the buffer with the bytes from `start` on; both ends lie between two elements."""
        if any(share.view.of is not None for share in self._shares):
            if self._whole is None:
                self._whole = memoryview(self._put()).cast("B")
            buffer[:] = self._whole[start : start + len(buffer)]
            if start + len(buffer) == self.size:
                self._whole = None
            return
        flat = np.frombuffer(buffer, self._dtype)
        low = start // self._dtype.itemsize
        spaces = Space(self._dtype), Space(self._dtype)
        for share in self._shares:
            for part, corner in inside(share.view, low, low + flat.size):
                to = strided(flat, View(part.shape, part.strides, part.offset - low))
                _copy(share, part, corner, to, spaces)

    def _put(self) -> NDArray[Any]:
        flat = np.zeros(self.size // self._dtype.itemsize, self._dtype)
        for share in self._shares:
            if share.tensor is None:
                continue
            data = np.frombuffer(share.tensor.bytes(), self._dtype)
            share.view.put(data, flat)
            if isinstance(share.view.of, Unpack) and (share.view.take(flat).view(data.dtype).reshape(-1) != data).any():
                bits = f"{'' if share.view.of.signed else 'u'}int{share.view.of.bits}"
                raise UsageError(f"{share.name}: has a number that does not fit {bits}, the type in the source")
        return flat


def _copy(share: Share, part: View, corner: tuple[int, ...], to: NDArray[Any], spaces: tuple[Space, Space]) -> None:
    """Copy a block of a tensor, in the order in which the array stores it."""
    if share.tensor is None:
        to[...] = 0
        return
    order = tuple(sorted(range(to.ndim), key=lambda i: -abs(part.strides[i])))
    steps = c_strides(share.view.shape)
    block = View(part.shape, steps, sum(i * s for i, s in zip(corner, steps, strict=True)))
    stored = to.transpose(order)
    stored[...] = gather(share.tensor, block.permute(order), *spaces).reshape(stored.shape)


def inside(view: View, low: int, high: int) -> Iterator[tuple[View, tuple[int, ...]]]:
    """The blocks of a view whose elements lie between `low` and `high` of its base, each with its first index."""
    yield from _inside(view, low, high, (0,) * len(view.shape))


def _inside(view: View, low: int, high: int, corner: tuple[int, ...]) -> Iterator[tuple[View, tuple[int, ...]]]:
    start, stop = view.span
    if stop <= low or start >= high or start == stop:
        return
    if low <= start and stop <= high:
        yield view, corner
        return
    axis = max(range(len(view.shape)), key=lambda i: abs(view.strides[i]) if view.shape[i] > 1 else -1)
    n, step = view.shape[axis], abs(view.strides[axis])
    row = stop - start - (n - 1) * step  # what one index of the axis spans
    touched = max(0, -((start + row - 1 - low) // step)), min(n, (high - 1 - start) // step + 1)
    whole = max(0, -((start - low) // step)), min(n, (high - row - start) // step + 1)
    runs = [(i, 1) for i in range(*touched) if not whole[0] <= i < whole[1]]
    if whole[0] < whole[1]:
        runs.append((whole[0], whole[1] - whole[0]))
    for i, count in runs:
        first = i if view.strides[axis] > 0 else n - i - count
        at = (*corner[:axis], corner[axis] + first, *corner[axis + 1 :])
        yield from _inside(view.narrow(axis, first, count), low, high, at)


class Rebuilder:
    """A bundle's stored arrays, by key; `find` gives one, checked against the tensors that the bundle has."""

    def __init__(self, bundle: Bundle) -> None:
        self.bundle = bundle
        self.weights: Mapping[str, Mapping[str, Any]] = bundle.manifest["weights"]
        self._most = _FEW + sum(found.size for found in bundle.ranges.values())
        self._tensors: dict[str, dict[Any, str]] = {}
        for name, item in bundle.manifest["tensors"].items():
            own = self._tensors.setdefault(item["weight"], {})
            if own.setdefault(_place(item["role"], item["at"]), name) != name:
                raise BundleError(f"{name}: is the same part of {item['weight']!r} as another tensor; export again")
        if lost := [key for key in self._tensors if key not in self.weights]:
            raise BundleError(f"the manifest has tensors of {lost[0]!r}, which is none of its weights; export again")

    def find(self, key: str) -> Array:
        """A stored array, its bytes put together when they are read.

        Raises:
            BundleError: the manifest contradicts itself, or a tensor has another shape or type than its place.
        """
        item = self.weights[key]
        if "copy_of" in item:
            return self._copied(key, item)
        shape, dtype = tuple(item["shape"]), item["dtype"]
        if "constant" in item:
            return Array(key, shape, dtype, Bytes(_encoded(key, item["constant"], dtype, shape)))
        blank = Array(key, shape, dtype, Bytes(b""))
        storage: Storage = Rebuilt(dtype, blank.nbytes, self.shares(key))
        return Array(key, shape, dtype, storage, item.get("index"))

    def _copied(self, key: str, item: Mapping[str, Any]) -> Array:
        first = self.weights.get(item["copy_of"], {})
        if "copy_of" in first or (first.get("shape"), first.get("dtype")) != (item["shape"], item["dtype"]):
            raise BundleError(f"{key}: is said to be a copy of {item['copy_of']!r}, which it cannot be; export again")
        return self.find(item["copy_of"])

    def shares(self, key: str) -> list[Share]:
        """The parts that an array is put together from; together they are each of its elements once.

        Raises:
            BundleError: as for `find`.
        """
        item = self.weights[key]
        left = dict(self._tensors.get(key, {}))
        _check_count(key, item, len(self.bundle) + len(self.weights))
        _check_tiles(key, item, self._most)
        shares = [self._share(key, item, piece, left) for piece in pieces(key, item)]
        if left:
            name = next(iter(left.values()))
            raise BundleError(f"{name}: has a place that the layout of {key!r} does not have; export again")
        if (zeros := sum(s.view.size for s in shares if s.tensor is None)) > self._most:
            raise BundleError(f"{key}: has {zeros:,} elements that are said to be zero; that is refused: export again")
        return shares

    def _share(self, key: str, item: Mapping[str, Any], piece: Piece, left: dict[Any, str]) -> Share:
        name = left.pop(_place(piece.role, piece.at), None)
        if name is None:
            if piece.role not in self._zeros(key):
                raise BundleError(f"{key}: no tensor of the bundle holds its part {piece.name!r}; export again")
            return Share(piece.view, None, None)
        stated = self.bundle.manifest["tensors"][name]
        found, code = f"{stated['dtype']} {stated['shape']} ({stated['axes']})", tensor_type(item)
        if found != (wanted := f"{code} {list(piece.shape)} ({piece.axes})"):
            raise BundleError(
                f"{name}: is {found}, its place in {key!r} is {wanted}; give the tensor back its shape and type"
            )
        if name.partition("~")[0] != (meant := _name(piece, key, stated["layer"])).partition("~")[0]:
            raise BundleError(f"{name}: is the part of {key!r} that is called {meant!r}; export again")
        return Share(piece.view, name, Array(name, piece.shape, dtypes.name_of(code) or "", self.bundle.ranges[name]))

    def _zeros(self, key: str) -> list[str]:
        """The roles that are not stored because they are all zero, of the array's layers; of any, if all of it is."""
        stated, layers = self.bundle.manifest["tensors"], self.bundle.manifest["layers"]
        own = {stated[name]["layer"] for name in self._tensors.get(key, {}).values()} or set(layers)
        return [role for name in own for role in layers.get(name, {}).get("zero", ())]


def _name(piece: Piece, key: str, layer: str | None) -> str:
    """What a part is called, but for the numbers behind equal names."""
    if layer is None:
        return tensor_name("constants", key, None)
    if "layer" in piece.at:  # an array of several layers: its rule gives whole names
        return piece.name
    return tensor_name(layer, piece.name, piece.leaf.label if piece.leaf else None)


def counted(bundle: Bundle) -> tuple[int, int]:
    """How many weights and how many constants the source stores."""
    keys = {t.get("weight") for t in bundle.manifest["tensors"].values() if t.get("layer", "") is None}
    weights = bundle.manifest["weights"]
    constants = sum("constant" in item or key in keys for key, item in weights.items())
    return len(weights) - constants, constants


def _place(role: str, at: Mapping[str, Any]) -> Any:
    return role, tuple(sorted(at.items()))


def _check_count(key: str, item: Mapping[str, Any], most: int) -> None:
    """Refuse a rule with more labels than the bundle could have tensors, before it is followed."""
    labels: Any = item.get("labels", {})
    if not isinstance(labels, Mapping) or math.prod(len(found) for found in labels.values()) > most:
        raise BundleError(f"{key}: its labels name more tensors than the bundle has; export again")


def _check_tiles(key: str, item: Mapping[str, Any], most: int) -> None:
    """The rule's axes are a bijection; so the parts of a split axis need only be all of that axis, each place once."""
    for axis, parts in leaves(key, item).items():
        size = item.get("sizes", {}).get(axis)
        total = sum(leaf.size for leaf in parts)
        fits = total == size and total <= most and all(_inside_axis(leaf, total) for leaf in parts)
        if not fits or len(np.unique(np.concatenate([_places(leaf, total) for leaf in parts]))) != total:
            raise BundleError(f"{key}: the parts of its axis {axis!r} do not cover each place once; export again")


def _inside_axis(leaf: Leaf, size: int) -> bool:
    low, high = View(leaf.sizes, leaf.strides, leaf.start).span
    return low >= 0 and high <= size


def _places(leaf: Leaf, size: int) -> NDArray[Any]:
    """The places of an axis that a part holds."""
    return strided(np.arange(size), View(leaf.sizes, leaf.strides, leaf.start)).reshape(-1)


def _encoded(key: str, value: Any, dtype: str, shape: tuple[int, ...]) -> bytes:
    """The bytes of a constant that stands in the manifest."""
    try:
        if dtypes.bits(dtype) < 8:
            raise ValueError("its elements share bytes")
        made = np.asarray(value, object).reshape(shape) if shape else np.asarray(value, object)
        wide = made.astype(np.float64) if dtype.startswith(("float", "bfloat")) else made
        return wide.astype(dtypes.numpy_dtype(dtype)).tobytes()
    except (TypeError, ValueError, OverflowError) as error:
        raise BundleError(f"{key}: its constant is not {dtype} {list(shape)}: {error}; export again") from error
