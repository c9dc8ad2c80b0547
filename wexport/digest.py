"""Checksums and statistics of tensors: one pass over their data, on several threads, in bounded memory.

`write` takes them on the way to a file, others without one.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from numpy.typing import NDArray

from wexport import dtypes
from wexport.bundle import Bundle
from wexport.model import Array
from wexport.planning import Plan
from wexport.sketch import METHOD, Sketch
from wexport.stats import Stats, scratch
from wexport.stream import Sink, groups, move
from wexport.view import View
from wexport.work import run_all

Progress = Callable[[int], None]  # called with the number of bytes that were taken


@dataclass(frozen=True, slots=True)
class Item:
    """A tensor to move: its name, safetensors type and shape, and where its elements are.

    `stored_as` is the source's type where it has no safetensors type of its own.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    array: Array
    view: View
    stored_as: str | None = None

    @property
    def size(self) -> int:
        """The number of bytes."""
        return self.view.size * dtypes.itemsize(dtypes.name_of(self.dtype) or "uint8")


class Digest(NamedTuple):
    """What one pass over a tensor's elements tells: the SHA-256 of its bytes, its statistics, and its sketch.

    `sketches` is the tensor's entry in the manifest's section of that name, empty where it has none.
    """

    sha256: str
    stats: dict[str, Any]
    sketches: dict[str, str]


class Digester:
    """A sink that takes a tensor's elements in, and then tells their digest.

    `local` holds the working memory of each thread, for all tensors.
    """

    __slots__ = ("_hash", "_local", "_sketch", "_stats")

    def __init__(self, item: Item, local: threading.local) -> None:
        self._local = local
        self._hash = hashlib.sha256()
        self._sketch = Sketch()
        numbers = not (item.stored_as or "").startswith("float")  # else they are the bit patterns of another type
        self._stats = Stats(dtypes.name_of(item.dtype) or "uint8", self._sketch.add if numbers else None)

    def __call__(self, chunk: NDArray[Any]) -> None:
        """Take the next elements in, flat, as unsigned integers."""
        self._hash.update(memoryview(chunk).cast("B"))
        self._stats.update(chunk, _scratch(self._local))

    def result(self) -> Digest:
        """The digest, once all elements were taken in."""
        stats = self._stats.result(_scratch(self._local))  # gives the sketch the last elements, too
        text = self._sketch.result()
        return Digest(self._hash.hexdigest(), stats, {} if text is None else {METHOD: text})


def planned(plan: Plan) -> list[Item]:
    """The tensors of a plan, in the data's order."""
    return [Item(t.name, t.dtype, t.shape, t.array, t.view, t.stored_as) for t in plan.tensors]


def bundled(bundle: Bundle) -> list[Item]:
    """The tensors of a bundle, in the data's order."""
    found = []
    for name, entry in bundle.manifest["tensors"].items():
        shape = tuple(entry["shape"])
        array = Array(name, shape, dtypes.name_of(entry["dtype"]) or "uint8", bundle.ranges[name])
        found.append(Item(name, entry["dtype"], shape, array, View.whole(shape), entry.get("stored_as")))
    return found


def digests(items: Sequence[Item], progress: Progress = lambda size: None) -> dict[str, Digest]:
    """The digest of every tensor, by name.

    Args:
        items: the tensors of a plan (`planned`), of a bundle (`bundled`), or others.
        progress: called with the number of bytes read, from several threads.

    Raises:
        SourceError: a file ends early, or cannot be read.
    """
    local = threading.local()
    found = {item.name: Digester(item, local) for item in items}

    def sink(name: str) -> Sink:
        digester = found[name]

        def take(chunk: NDArray[Any]) -> None:
            digester(chunk)
            progress(chunk.nbytes)

        return take

    move_all(items, {name: sink(name) for name in found})
    return {name: digester.result() for name, digester in found.items()}


def move_all(items: Sequence[Item], sinks: Mapping[str, Sink]) -> None:
    """Send every tensor to its sink, by name; those of one array that can, in lockstep. Large jobs come first."""
    by_array: dict[int, list[Item]] = {}
    for item in items:
        by_array.setdefault(id(item.array), []).append(item)
    jobs: list[list[Item]] = []
    for own in by_array.values():
        jobs += [[own[i] for i in group] for group in groups([item.view for item in own])]
    jobs.sort(key=lambda job: -sum(item.size for item in job))

    def run(job: list[Item]) -> None:
        move(job[0].array, [item.view for item in job], [sinks[item.name] for item in job])

    run_all(run, jobs, sum(item.size for item in items))


def _scratch(local: threading.local) -> NDArray[Any]:
    found: NDArray[Any] | None = getattr(local, "scratch", None)
    if found is None:
        found = local.scratch = scratch()
    return found
