"""A bundle held against a model file: each stored array put together again and compared, byte for byte."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wexport import dtypes
from wexport.model import Array, Model
from wexport.rebuild import BLOCK_BYTES, Rebuilder, Share
from wexport.storage import Storage
from wexport.stream import move
from wexport.work import run_all

Progress = Callable[[int], None]


@dataclass(slots=True)
class Comparison:
    """What was found: arrays that are not the same in both, and the tensors in which they differ.

    `missing` are arrays of one side only, `unfit` those of another shape or type, both with the reason; `edited` gives
    for each array the number of differing elements by tensor, "" standing for a part that is nobody's.
    """

    bytes: int = 0
    missing: dict[str, str] = field(default_factory=dict)
    unfit: dict[str, str] = field(default_factory=dict)
    edited: dict[str, dict[str, int]] = field(default_factory=dict)

    def lines(self) -> Iterator[str]:
        """Each difference, the tensor or array first."""
        yield from (f"{key}: {reason}" for key, reason in (self.missing | self.unfit).items())
        for key, tensors in self.edited.items():
            for name, count in tensors.items():
                elements = f"{count:,} element{' differs' if count == 1 else 's differ'}"
                yield f"{name or key}: {elements} from {key!r} of the model" if name else f"{key}: {elements}"


def compare(rebuilder: Rebuilder, model: Model, progress: Progress) -> Comparison:
    """Compare every array that either side knows.

    Raises:
        BundleError: the manifest contradicts itself.
        SourceError: the model's data cannot be read.
    """
    arrays, weights = model.arrays(), rebuilder.weights
    found = Comparison()
    left = dict.fromkeys(item.key for item in model.left_out)
    stated_left = rebuilder.bundle.manifest["left_out"]
    for key in {**weights, **stated_left}:
        if key not in arrays and key not in left:
            found.missing[key] = "the model stores no such array; was the bundle made from another file?"
    for key in [*arrays, *left]:
        if key not in weights and key not in stated_left:
            found.missing[key] = "is an array of the model that the bundle says nothing of"
    both = [key for key in weights if key in arrays]
    for key in both:
        stated, array = weights[key], arrays[key]
        if (tuple(stated["shape"]), stated["dtype"]) != (array.shape, array.dtype):
            found.unfit[key] = (
                f"is {array.dtype} {list(array.shape)} in the model, {stated['dtype']} {stated['shape']} in the bundle"
            )
    same = [key for key in both if key not in found.unfit]
    found.bytes = sum(arrays[key].nbytes for key in same)

    def check(key: str) -> None:
        if equal(arrays[key].storage, rebuilder.find(key).storage, progress):
            return
        if counts := _differing(rebuilder, key, arrays[key]):  # what is left of a last byte is no element
            found.edited[key] = counts

    run_all(check, sorted(same, key=lambda key: -arrays[key].nbytes), found.bytes)
    found.edited = {key: found.edited[key] for key in same if key in found.edited}
    return found


def equal(one: Storage, two: Storage, progress: Progress = lambda size: None) -> bool:
    """Whether the bytes are the same; no more of them are read than it takes to tell."""
    if one.size != two.size:
        return False
    a, b = (np.empty(min(one.size, BLOCK_BYTES), np.uint8) for _ in range(2))
    for start in range(0, one.size, BLOCK_BYTES):
        n = min(BLOCK_BYTES, one.size - start)
        one.read_into(memoryview(a)[:n], start)
        two.read_into(memoryview(b)[:n], start)
        progress(n)
        if not np.array_equal(a[:n], b[:n]):
            return False
    return True


def _differing(rebuilder: Rebuilder, key: str, array: Array) -> dict[str, int]:
    """The tensors of an array that the model has otherwise, with the number of elements."""
    item: Mapping[str, Any] = rebuilder.weights[key]
    if "copy_of" in item or "constant" in item:
        return {"": _count(array, rebuilder.find(key))}
    counts: dict[str, int] = {}
    for share in rebuilder.shares(key):
        if n := _share_count(array, share):
            counts[share.name or ""] = n
    return counts


def _count(array: Array, other: Array) -> int:
    one, two = (np.frombuffer(a.bytes(), dtypes.mover(a.dtype)) for a in (array, other))
    return int((one != two).sum())


def _share_count(array: Array, share: Share) -> int:
    found = place = 0

    def look(chunk: NDArray[Any]) -> None:
        nonlocal found, place
        other = np.zeros_like(chunk)
        if share.tensor is not None:
            share.tensor.storage.read_into(memoryview(other).cast("B"), place)
        place += other.nbytes
        found += int((chunk.view(other.dtype) != other).sum())

    move(array, [share.view], [look])
    return found
