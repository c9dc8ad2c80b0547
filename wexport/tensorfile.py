"""The safetensors container: its header, written so that data can stream behind it, and read with distrust.

Source: safetensors README ("Format"): 8 bytes little-endian length, that many bytes of JSON (names, `dtype`, `shape`,
`data_offsets` from the end of the header; `__metadata__` maps strings to strings), then the data without holes.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from wexport import dtypes
from wexport.errors import BundleError, SourceError
from wexport.storage import FileRange, SourceFile

_MAX_HEADER = 100_000_000  # the limit of the safetensors library
_ALIGNMENT = 64


@dataclass(frozen=True, slots=True)
class Entry:
    """A tensor in a safetensors file: its safetensors type, its shape, and its bytes."""

    dtype: str
    shape: tuple[int, ...]
    start: int
    stop: int


def header(entries: Sequence[tuple[str, str, Sequence[int], int]], metadata: Mapping[str, str]) -> bytes:
    """The bytes before the data, for tensors `(name, dtype, shape, bytes)` in the data's order.

    Spaces pad it so that the data start at a multiple of 64 bytes.
    """
    content: dict[str, object] = {"__metadata__": dict(metadata)}
    place = 0
    for name, dtype, shape, size in entries:
        content[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [place, place + size]}
        place += size
    text = json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode("utf-8")
    text += b" " * (-(len(text) + 8) % _ALIGNMENT)
    return len(text).to_bytes(8, "little") + text


def read_header(file: SourceFile) -> tuple[dict[str, Entry], dict[str, str], int]:
    """A file's tensors in the data's order, its metadata, and where its data start.

    Raises:
        BundleError: the header is damaged, or does not fit the file's size.
    """
    try:
        length = int.from_bytes(file.read(0, 8), "little")
        if file.size < 8 or length > min(_MAX_HEADER, file.size - 8):
            raise ValueError(f"its header says {length:,} bytes, the file has {file.size:,}")
        content = json.loads(file.read(8, length))
        metadata = {str(k): str(v) for k, v in content.pop("__metadata__", {}).items()}
        entries = {str(name): _entry(str(name), item) for name, item in content.items()}
        entries = dict(sorted(entries.items(), key=lambda item: (item[1].start, item[1].stop)))
        _check_places(entries, file.size - 8 - length)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError, SourceError) as error:
        raise BundleError(f"{file.path}: is no safetensors file: {_reason(error)}; export the model again") from error
    return entries, metadata, 8 + length


def _reason(error: Exception) -> str:
    return str(error) if type(error) in (ValueError, SourceError) else "its header cannot be read"


def _entry(name: str, item: Mapping[str, object]) -> Entry:
    shape, offsets = item["shape"], item["data_offsets"]
    if not isinstance(shape, list) or not isinstance(offsets, list) or len(offsets) != 2:
        raise ValueError(f"the entry of {name!r} is malformed")
    if not all(type(n) is int and n >= 0 for n in (*shape, *offsets)):
        raise ValueError(f"the entry of {name!r} has a size that is none")
    code = str(item["dtype"])
    known = dtypes.name_of(code)
    if known is not None and math.prod(shape) * dtypes.itemsize(known) != offsets[1] - offsets[0]:
        raise ValueError(f"{name!r} has {offsets[1] - offsets[0]:,} bytes, not those of {code} {shape}")
    return Entry(code, tuple(shape), offsets[0], offsets[1])


def _check_places(entries: Mapping[str, Entry], size: int) -> None:
    place = 0
    for name, entry in entries.items():
        if entry.start != place:
            raise ValueError(f"{name!r} starts at byte {entry.start:,}, expected {place:,}")
        place = entry.stop
        if place > size:
            raise ValueError(f"{name!r} ends at byte {place:,} of the data, which are cut at {size:,}")
    if place != size:
        raise ValueError(f"the tensors take {place:,} bytes, the file holds {size:,}")


def data_of(file: SourceFile, start: int, entry: Entry) -> FileRange:
    """Where a tensor's bytes are; `start` is where the file's data start."""
    return FileRange(file, start + entry.start, entry.stop - entry.start)


def shard_names(count: int) -> list[Path]:
    """The data files' names: one, or as the Hugging Face libraries name shards."""
    if count == 1:
        return [Path("model.safetensors")]
    return [Path(f"model-{i:05d}-of-{count:05d}.safetensors") for i in range(1, count + 1)]
