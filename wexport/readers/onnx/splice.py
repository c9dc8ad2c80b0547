"""A copy of a file in the wire format with some of its bytes replaced; the lengths of the messages around them follow.

All else is copied by position, as it stands: unknown fields, the order of fields, numbers longer than they need be.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO, NamedTuple, Protocol

from wexport.readers.onnx.skeleton import NESTING
from wexport.readers.onnx.wire import BYTES, Field, Wire, varint
from wexport.storage import Bytes, Storage

_BLOCK = 8 << 20  # long enough that what is collected from a transposed tensor is read in long rows


class Data(Protocol):
    """Bytes to write, a block after the other."""

    @property
    def size(self) -> int:
        """The number of bytes."""

    def blocks(self) -> Iterator[bytes | memoryview]:
        """All of them in order; a block is gone when the next one is asked for."""


@dataclass(frozen=True, slots=True)
class Part:
    """A run of bytes of a storage."""

    storage: Storage
    start: int
    size: int

    def blocks(self) -> Iterator[memoryview]:
        """All of them in order."""
        buffer = memoryview(bytearray(min(self.size, _BLOCK)))
        for done in range(0, self.size, _BLOCK):
            block = buffer[: self.size - done]
            self.storage.read_into(block, self.start + done)
            yield block


def whole(storage: Storage) -> Part:
    """All bytes of a storage."""
    return Part(storage, 0, storage.size)


def same(one: Storage, other: Storage) -> bool:
    """Whether two storages hold the same bytes."""
    return one.size == other.size and all(
        a == b for a, b in zip(whole(one).blocks(), whole(other).blocks(), strict=True)
    )


@dataclass(eq=False, slots=True)
class Frame:
    """A field of bytes: where its length stands, where its value starts and ends, and how much longer it becomes."""

    around: Frame | None
    length: int
    start: int
    end: int
    growth: int = 0

    def inner(self, wire: Wire, field: Field) -> Frame:
        """A field of bytes in this one."""
        return Frame(self, wire.varint(field.tag, field.start)[1], field.start, field.end)


def messages(wire: Wire) -> Iterator[tuple[str, Frame]]:
    """Every `Tensor` and every `Attribute` of a model whose skeleton could be made."""
    return _inside(wire, "Model", Frame(None, 0, 0, wire.size))


def _inside(wire: Wire, kind: str, frame: Frame) -> Iterator[tuple[str, Frame]]:
    if kind in {"Tensor", "Attribute"}:
        yield kind, frame
    nesting = NESTING[kind]
    for part in wire.fields(frame.start, frame.end) if nesting else ():
        inner = nesting.get(part.number) if part.wire == BYTES else None
        if inner is not None:
            yield from _inside(wire, inner.rstrip("!"), frame.inner(wire, part))


class _Edit(NamedTuple):
    start: int
    end: int
    data: Data


class Splice:
    """What is to be replaced in the bytes of a file."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._edits: list[_Edit] = []
        self._touched: dict[int, Frame] = {}  # by their starts, of which no two are equal

    def replace(self, frame: Frame, start: int, end: int, data: Data) -> None:
        """Put data in the place of these bytes, which lie in this field but in none inside of it."""
        self._edits.append(_Edit(start, end, data))
        frame.growth += data.size - (end - start)
        while frame.around is not None and frame.start not in self._touched:
            self._touched[frame.start] = frame
            frame = frame.around

    def write(self, out: BinaryIO) -> None:
        """Write the copy."""
        self._lengths()
        done = 0
        for edit in sorted(self._edits, key=lambda e: e[:2]):
            assert done <= edit.start, "two edits of the same bytes"
            write(out, Part(self._storage, done, edit.start - done))
            write(out, edit.data)
            done = edit.end
        write(out, Part(self._storage, done, self._storage.size - done))

    def _lengths(self) -> None:
        """Set the lengths, those of inner fields first: a length may itself become longer."""
        for _, frame in sorted(self._touched.items(), reverse=True):
            if frame.growth and frame.around is not None:
                length = Bytes(varint(frame.end - frame.start + frame.growth))
                self._edits.append(_Edit(frame.length, frame.start, whole(length)))
                frame.around.growth += frame.growth + length.size - (frame.start - frame.length)


def write(out: BinaryIO, data: Data) -> None:
    """Write data a block after the other."""
    for block in data.blocks():
        out.write(block)
