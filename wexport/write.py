"""Writing a bundle's files: the data stream in, checksums and statistics are taken on the way."""

from __future__ import annotations

import hashlib
import json
import os
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from wexport.bundle import DATA, INDEX, MANIFEST, fingerprint
from wexport.digest import Digest, Digester, Item, Progress, move_all
from wexport.manifest import VERSION, dump
from wexport.storage import write_at
from wexport.tensorfile import header, shard_names

_NO_DIGEST = "0" * 64


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

    __slots__ = ("_fd", "_place", "_progress", "digester")

    def __init__(self, item: Item, fd: int, place: int, local: threading.local, progress: Progress) -> None:
        self._fd, self._place, self._progress = fd, place, progress
        self.digester = Digester(item, local)

    def __call__(self, chunk: NDArray[Any]) -> None:
        data = memoryview(chunk).cast("B")
        _write_at(self._fd, data, self._place)
        self._place += len(data)
        self.digester(chunk)
        self._progress(len(data))


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
        results = _move_all(shards, progress)
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


def _move_all(shards: Sequence[_Shard], progress: Progress) -> dict[str, Digest]:
    local = threading.local()
    feeds: dict[str, _Feed] = {}
    for shard in shards:
        place = shard.start
        for item in shard.items:
            feeds[item.name] = _Feed(item, shard.fd, place, local, progress)
            place += item.size
    move_all([item for shard in shards for item in shard.items], feeds)
    return {name: feed.digester.result() for name, feed in feeds.items()}


def _completed(manifest: Mapping[str, Any], results: Mapping[str, Digest]) -> dict[str, Any]:
    tensors = {name: {**item, "sha256": results[name].sha256} for name, item in manifest["tensors"].items()}
    stats = {name: results[name].stats for name in tensors}
    sketches = {name: results[name].sketches for name in tensors if results[name].sketches}
    model = {**manifest["model"], "fingerprint": fingerprint(tensors)}
    return {**manifest, "model": model, "tensors": tensors, "stats": stats, "sketches": sketches}


_turn = threading.Lock()  # a file system lets one writer at a time into a file; there, the others would wait busily


def _write_at(fd: int, data: memoryview, place: int) -> None:
    with _turn:
        write_at(fd, data, place)


__all__ = ["DATA", "Item", "Progress", "write_bundle"]
