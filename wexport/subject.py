"""A bundle or a model file, seen alike: what its manifest says (or would say), and its tensors' elements."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wexport import dtypes
from wexport.bundle import Bundle, hint, is_bundle
from wexport.describe import describe
from wexport.digest import Item, bundled, planned
from wexport.errors import UsageError
from wexport.manifest import Manifest
from wexport.planning import make_plan
from wexport.readers import open_model
from wexport.storage import FileRange
from wexport.stream import BLOCK_BYTES, Sink, move
from wexport.words import by_gate


@dataclass(frozen=True, slots=True)
class Subject:
    """What `show` and `explain` look at. `stored` says whether it is a bundle, with checksums and statistics;
    `items` are its tensors as `digests` takes them."""

    path: Path
    stored: bool
    manifest: Manifest
    warnings: tuple[str, ...]
    feed: Callable[[str, Sink], None]
    items: Callable[[], Sequence[Item]]
    close: Callable[[], None]

    def entry(self, name: str) -> dict[str, Any]:
        """A tensor's entry in the manifest.

        Raises:
            UsageError: there is no such tensor.
        """
        found: dict[str, Any] | None = self.manifest["tensors"].get(name)
        if found is None:
            raise UsageError(f"{self.path}: has no tensor {name!r}{hint(name, self.manifest['tensors'])}")
        return found

    def array(self, name: str) -> NDArray[Any]:
        """A tensor, whole, as numbers."""
        item = self.entry(name)
        dtype = dtypes.name_of(item["dtype"]) or "uint8"
        chunks: list[NDArray[Any]] = []
        self.feed(name, lambda chunk: chunks.append(chunk.copy()))
        flat = np.concatenate(chunks) if chunks else np.empty(0, dtypes.mover(dtype))
        numbers: NDArray[Any] = dtypes.widen(flat, dtype).reshape(item["shape"])
        return numbers

    def by_gate(self, names: Iterable[str]) -> list[str]:
        """Names in the order in which people read them: layers in theirs, then direction, cell, gate, then role."""
        return by_gate(self.manifest, names)

    def __enter__(self) -> Subject:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def look(path: str | os.PathLike[str], architecture: str | os.PathLike[str] | None = None) -> Subject:
    """Open a bundle or a model file to look at.

    Raises:
        WexportError: it is neither, or it cannot be read.
    """
    place = Path(path)
    if not is_bundle(place):
        return _model(place, Path(architecture) if architecture is not None else None)
    if architecture is not None:
        raise UsageError(f"{path}: is a bundle and knows its layers; --architecture is for files with weights only")
    bundle = Bundle(place)
    feed = partial(_stream, bundle)
    return Subject(bundle.path, True, bundle.manifest, (), feed, partial(bundled, bundle), bundle.close)


def _model(path: Path, architecture: Path | None) -> Subject:
    model = open_model(path, architecture)
    try:
        plan = make_plan(model)
    except BaseException:
        model.close()
        raise
    tensors = {t.name: t for t in plan.tensors}

    def feed(name: str, sink: Sink) -> None:
        move(tensors[name].array, [tensors[name].view], [sink])

    return Subject(path, False, describe(plan), plan.warnings, feed, partial(planned, plan), plan.close)


def _stream(bundle: Bundle, name: str, sink: Sink) -> None:
    found: FileRange = bundle.ranges[name]
    dtype = dtypes.mover(dtypes.name_of(bundle.manifest["tensors"][name]["dtype"]) or "uint8")
    for start in range(0, found.size, BLOCK_BYTES):
        block: NDArray[Any] = np.empty(min(BLOCK_BYTES, found.size - start) // dtype.itemsize, dtype)
        found.read_into(memoryview(block).cast("B"), start)
        sink(block)
