"""What is in a bundle or a model file: its tensors as a list, or one tensor's numbers."""

from __future__ import annotations

import fnmatch
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wexport import dtypes
from wexport.errors import UsageError
from wexport.stats import Stats, scratch
from wexport.subject import Subject

BINS = 16


@dataclass(frozen=True, slots=True)
class Numbers:
    """A tensor's numbers: its statistics as in the manifest, and how its finite elements spread.

    `edges` are the bounds of the bins, `counts` the elements in each; a complex number counts as two.
    """

    stats: Mapping[str, Any]
    edges: tuple[float, ...]
    counts: tuple[int, ...]


def listing(subject: Subject, pattern: str | None = None) -> list[str]:
    """The names of the tensors, a layer's together and by gate; those that a name or glob means.

    Raises:
        UsageError: there is no such tensor.
    """
    tensors = subject.manifest["tensors"]
    if pattern is not None and pattern in tensors:
        return [pattern]
    alias = subject.manifest["aliases"].get(pattern)
    if alias is not None:
        return [str(alias["tensor"])]
    names = list(tensors)
    if pattern is not None:
        names = [name for name in names if fnmatch.fnmatchcase(name, pattern)]
        if not names:
            subject.entry(pattern)
    return subject.by_gate(names)


def numbers(subject: Subject, name: str, bins: int = BINS) -> Numbers:
    """A tensor's statistics and histogram, computed from the data in two passes of bounded memory."""
    dtype = dtypes.name_of(subject.entry(name)["dtype"]) or "uint8"
    work = scratch()
    stats = Stats(dtype)
    subject.feed(name, lambda chunk: stats.update(chunk, work))
    found = stats.result(work)
    low, high = _range(subject, name, dtype) if found["nonfinite"] else (stats.low, stats.high)
    if not math.isfinite(low):
        return Numbers(found, (), ())
    if low == high:
        return Numbers(found, (low, high), (stats.count - stats.nonfinite,))
    edges = np.linspace(low, high, bins + 1)
    counts = np.zeros(bins, np.int64)

    def count(chunk: NDArray[Any]) -> None:
        counts[...] += np.histogram(_floats(chunk, dtype), edges)[0]

    subject.feed(name, count)
    return Numbers(found, tuple(float(e) for e in edges), tuple(int(c) for c in counts))


def _range(subject: Subject, name: str, dtype: str) -> tuple[float, float]:
    """The smallest and the largest of the finite elements."""
    ends = [math.inf, -math.inf]

    def widen(chunk: NDArray[Any]) -> None:
        x = _floats(chunk, dtype)
        x = x[np.isfinite(x)]
        if x.size:
            ends[:] = [min(ends[0], float(x.min())), max(ends[1], float(x.max()))]

    subject.feed(name, widen)
    return ends[0], ends[1]


def _floats(chunk: NDArray[Any], dtype: str) -> NDArray[Any]:
    x = dtypes.widen(chunk, dtype)
    return (x.view(np.float32) if x.dtype == np.complex64 else x).astype(np.float64)


def plot(subject: Subject, name: str, path: str) -> None:
    """Draw a tensor's histogram and heat map to a file; its ending says the kind (png, svg, pdf).

    Raises:
        UsageError: the extra for plotting is not installed, or it does not know the ending.
        OutputError: the file cannot be written.
    """
    from wexport.picture import draw

    item = subject.entry(name)
    array = subject.array(name)
    if np.iscomplexobj(array):
        raise UsageError(f"{name}: is complex; only real tensors can be plotted")
    draw(name, item["axes"], array.astype(np.float64), path)
