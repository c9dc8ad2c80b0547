"""Writing a bundle's files: the data stream in, checksums and statistics are taken on the way."""

from __future__ import annotations

import hashlib
import json
import os
import threading
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from wexport import dtypes
from wexport.bundle import DATA, INDEX, MANIFEST, fingerprint
from wexport.manifest import VERSION, dump
from wexport.model import Array
from wexport.sketch import METHOD, Sketch
from wexport.stats import Stats, scratch
from wexport.storage import write_at
from wexport.stream import groups, move
from wexport.tensorfile import header, shard_names
from wexport.view import View
from wexport.work import run_all

Progress = Callable[[int], None]  # called with the number of bytes that were written
Result = tuple[str, dict[str, Any], str | None]
_NO_DIGEST = "0" * 64


@dataclass(frozen=True, slots=True)
class Item:
    """A tensor to write: its name, safetensors type and shape, and where its elements are."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    array: Array
    view: View

    @property
    def size(self) -> int:
        """The number of bytes."""
        return self.view.size * dtypes.itemsize(dtypes.name_of(self.dtype) or "uint8")


@dataclass(slots=True)
class _Shard:
    path: Path
    items: list[Item]
    fd: int = -1
    start: int = 0

    def header(self, digest: str) -> bytes:
        entries = [(i.name, i.dtype, i.shape, i.size) for i in self.items]
        return header(entries, {"format": "wexport", "version": str(VERSION), "manifest_sha256": digest})


class _Feed:
    """A tensor on its way to the file."""

    __slots__ = ("_digest", "_fd", "_local", "_place", "_progress", "_sketch", "stats")

    def __init__(
        self, item: Item, fd: int, place: int, sketched: bool, local: threading.local, progress: Progress
    ) -> None:
        self._fd, self._place, self._local, self._progress = fd, place, local, progress
        self._digest = hashlib.sha256()
        self._sketch = Sketch()
        self.stats = Stats(dtypes.name_of(item.dtype) or "uint8", self._sketch.add if sketched else None)

    def __call__(self, chunk: NDArray[Any]) -> None:
        data = memoryview(chunk).cast("B")
        _write_at(self._fd, data, self._place)
        self._place += len(data)
        self._digest.update(data)
        self.stats.update(chunk, _scratch(self._local))
        self._progress(len(data))

    def result(self) -> Result:
        """The checksum, the statistics and the sketch, once all is written."""
        stats = self.stats.result(_scratch(self._local))
        return self._digest.hexdigest(), stats, self._sketch.result()


def write_bundle(
    folder: Path, manifest: Mapping[str, Any], items: Sequence[Item], shard_size: int, progress: Progress
) -> dict[str, Any]:
    """Write a bundle's files into a folder; gives the manifest, with what the data added to it.

    Args:
        folder: an empty folder.
        manifest: all but checksums, statistics and the fingerprint.
        items: the tensors, in the data's order.
        shard_size: above this many bytes, the data become several files.
        progress: told of every step, from several threads.
    """
    shards = _shards(folder, items, shard_size)
    try:
        for shard in shards:
            head = shard.header(_NO_DIGEST)
            shard.fd, shard.start = os.open(shard.path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666), len(head)
        results = _move_all(
            shards, {name for name, item in manifest["tensors"].items() if _has_numbers(item)}, progress
        )
        full = _completed(manifest, results)
        text = dump(full)
        digest = hashlib.sha256(text).hexdigest()
        for shard in shards:
            _write_at(shard.fd, memoryview(shard.header(digest)), 0)
    finally:
        for shard in shards:
            if shard.fd >= 0:
                os.close(shard.fd)
    if len(shards) > 1:
        (folder / INDEX).write_text(_index(shards), encoding="utf-8")
    (folder / MANIFEST).write_bytes(text)
    return full


def _shards(folder: Path, items: Sequence[Item], limit: int) -> list[_Shard]:
    runs: list[list[Item]] = [[]]
    room = limit
    for item in items:
        if item.size > room and runs[-1]:
            runs.append([])
            room = limit
        runs[-1].append(item)
        room -= item.size
    return [_Shard(folder / name, run) for name, run in zip(shard_names(len(runs)), runs, strict=True)]


def _index(shards: Sequence[_Shard]) -> str:
    total = sum(item.size for shard in shards for item in shard.items)
    places = {item.name: shard.path.name for shard in shards for item in shard.items}
    return json.dumps({"metadata": {"total_size": total}, "weight_map": places}, indent=2, ensure_ascii=False) + "\n"


def _move_all(shards: Sequence[_Shard], sketched: Set[str], progress: Progress) -> dict[str, Result]:
    local = threading.local()
    feeds: dict[str, _Feed] = {}
    by_array: dict[int, list[Item]] = {}
    for shard in shards:
        place = shard.start
        for item in shard.items:
            feeds[item.name] = _Feed(item, shard.fd, place, item.name in sketched, local, progress)
            by_array.setdefault(id(item.array), []).append(item)
            place += item.size
    jobs: list[list[Item]] = []
    for own in by_array.values():
        jobs += [[own[i] for i in group] for group in groups([item.view for item in own])]
    jobs.sort(key=lambda job: -sum(item.size for item in job))

    def run(job: list[Item]) -> None:
        move(job[0].array, [item.view for item in job], [feeds[item.name] for item in job])

    run_all(run, jobs, sum(item.size for shard in shards for item in shard.items))
    return {name: feed.result() for name, feed in feeds.items()}


def _has_numbers(entry: Mapping[str, Any]) -> bool:
    """Whether a tensor's elements are numbers, not the bit patterns of a float type that another one stands in for."""
    return not str(entry.get("stored_as", "")).startswith("float")


def _completed(manifest: Mapping[str, Any], results: Mapping[str, Result]) -> dict[str, Any]:
    tensors = {name: {**item, "sha256": results[name][0]} for name, item in manifest["tensors"].items()}
    stats = {name: results[name][1] for name in tensors}
    sketches = {name: {METHOD: text} for name in tensors if (text := results[name][2]) is not None}
    model = {**manifest["model"], "fingerprint": fingerprint(tensors)}
    return {**manifest, "model": model, "tensors": tensors, "stats": stats, "sketches": sketches}


def _scratch(local: threading.local) -> NDArray[Any]:
    found: NDArray[Any] | None = getattr(local, "scratch", None)
    if found is None:
        found = local.scratch = scratch()
    return found


_turn = threading.Lock()  # a file system lets one writer at a time into a file; there, the others would wait busily


def _write_at(fd: int, data: memoryview, place: int) -> None:
    with _turn:
        write_at(fd, data, place)


__all__ = ["DATA", "Item", "Progress", "write_bundle"]
