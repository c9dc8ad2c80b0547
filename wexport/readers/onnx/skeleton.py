"""An ONNX file's skeleton: all that it says, with the tensors' data left in the file.

`skeleton` copies a `ModelProto` but cuts the data out of every larger `TensorProto`. A tensor that was cut ends with
a `raw_data` that is `Skeleton.mark`, sixteen random bytes, and the number of its cuts: no file can guess the mark, so
none can pretend to have been cut. Small messages are copied as they are, data and all.

With `places`, the text `doc_string` of every tensor and attribute is the mark and where the message starts in the file,
so that whoever holds a copy of the message can say where it came from.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field

from wexport.readers.onnx.wire import BYTES, PAYLOADS, RAW, Field, Wire, varint
from wexport.storage import Storage

_SMALL, _SMALL_TENSOR = 4096, 256  # bytes of a message that is copied whole
_LARGEST = 1 << 30  # a skeleton; protobuf itself reads less than 2 GB
_MAX_DEPTH = 100  # protobuf's own limit
_DOC_STRINGS = {"Tensor": 12, "Attribute": 13}  # field numbers

# message -> the fields that may lead to a TensorProto and what is in them; those marked "!" stand once
NESTING: Mapping[str, Mapping[int, str]] = {
    "Model": {7: "Graph!", 20: "Training", 25: "Function"},
    "Graph": {1: "Node", 5: "Tensor", 15: "Sparse"},
    "Node": {5: "Attribute"},
    "Attribute": {5: "Tensor!", 6: "Graph!", 10: "Tensor", 11: "Graph", 22: "Sparse!", 23: "Sparse"},
    "Sparse": {1: "Tensor!", 2: "Tensor!"},
    "Training": {1: "Graph!", 2: "Graph!"},
    "Function": {7: "Node", 11: "Attribute"},
    "Tensor": {},
}


@dataclass(frozen=True, slots=True)
class Skeleton:
    """A model without its tensors' data; `cuts` are, for each tensor that was cut, the places of its fields."""

    data: bytes
    mark: bytes
    cuts: list[dict[int, tuple[int, int]]]

    def find(self, raw_data: bytes) -> dict[int, tuple[int, int]] | None:
        """What was cut out of the tensor with this `raw_data`: offset and size by field; None for one left whole."""
        if not raw_data.startswith(self.mark):
            return None
        return self.cuts[int(raw_data[len(self.mark) :])]

    def place(self, doc_string: str) -> int | None:
        """Where the tensor or attribute with this text starts in the file; None if the skeleton does not tell."""
        mark = self.mark.hex()
        return int(doc_string[len(mark) :]) if doc_string.startswith(mark) else None


@dataclass(slots=True)
class _Cutter:
    """One pass over a model; `parts` are the skeleton's bytes so far."""

    wire: Wire
    mark: bytes
    places: bool
    parts: list[bytes] = field(default_factory=list)
    cuts: list[dict[int, tuple[int, int]]] = field(default_factory=list)
    size: int = 0

    def message(self, kind: str, start: int, end: int, depth: int) -> None:
        """Copy a message, but for the data of the tensors in it."""
        if depth > _MAX_DEPTH:
            raise self.wire.wrong(start, f"is nested too deeply (over {_MAX_DEPTH} messages)")
        if kind == "Tensor":
            if end - start > _SMALL_TENSOR:
                self.tensor(start, end)
            else:
                self.copy(start, end)
            self.place(kind, start)
            return
        nesting = NESTING[kind]
        copied, seen = start, set()
        for part in self.wire.fields(start, end):
            inner = nesting.get(part.number) if part.wire == BYTES else None
            if inner is None:
                continue
            if inner.endswith("!"):
                inner = inner[:-1]
                if part.number in seen:
                    raise self.wire.wrong(part.tag, f"has field {part.number} of a {kind}Proto a second time")
                seen.add(part.number)
            if self.places or part.end - part.start > (_SMALL_TENSOR if inner == "Tensor" else _SMALL):
                self.copy(copied, part.tag)
                copied = part.end
                self.nested(inner, part, depth)
        self.copy(copied, end)
        self.place(kind, start)

    def nested(self, kind: str, part: Field, depth: int) -> None:
        """Copy a field that is a message; its length is known only behind it."""
        place, before = len(self.parts), self.size
        self.parts.append(b"")
        self.message(kind, part.start, part.end, depth + 1)
        head = varint(part.number << 3 | BYTES) + varint(self.size - before)
        self.parts[place] = head
        self.size += len(head)

    def tensor(self, start: int, end: int) -> None:
        """Copy a tensor without its data."""
        cuts: dict[int, tuple[int, int]] = {}
        copied, loose = start, set()
        for part in self.wire.fields(start, end):
            if part.number not in PAYLOADS:
                continue
            if part.number in cuts or (part.wire == BYTES and part.number in loose):
                raise self.wire.wrong(part.tag, f"has data of a tensor (field {part.number}) a second time")
            if part.wire == BYTES:
                self.copy(copied, part.tag)
                copied = part.end
                cuts[part.number] = (part.start, part.end - part.start)
            else:
                loose.add(part.number)
        self.copy(copied, end)
        self.text(RAW, self.mark + b"%d" % len(self.cuts))
        self.cuts.append(cuts)

    def place(self, kind: str, start: int) -> None:
        """Say where a message came from, if that is asked for; the last of a field is the one that counts."""
        if self.places and kind in _DOC_STRINGS:
            self.text(_DOC_STRINGS[kind], b"%s%d" % (self.mark.hex().encode(), start))

    def text(self, number: int, data: bytes) -> None:
        """A field of bytes that is not in the file."""
        self.add(varint(number << 3 | BYTES) + varint(len(data)) + data)

    def copy(self, start: int, end: int) -> None:
        """Bytes of the file go into the skeleton as they are."""
        if start < end:
            if self.size + end - start > _LARGEST:
                raise self.wire.wrong(start, f"is not yet the end, after {_LARGEST:,} bytes that are no tensors' data")
            self.add(self.wire.read(start, end))

    def add(self, data: bytes) -> None:
        """More bytes of the skeleton."""
        self.parts.append(data)
        self.size += len(data)


def skeleton(storage: Storage, name: str, places: bool = False) -> Skeleton:
    """The model in these bytes, without the data of its tensors; `places` has it say where each message came from.

    Raises:
        SourceError: it is damaged; `name` says whose bytes they are.
    """
    cutter = _Cutter(Wire(storage, name), os.urandom(16), places)
    cutter.message("Model", 0, storage.size, 1)
    return Skeleton(b"".join(cutter.parts), cutter.mark, cutter.cuts)
