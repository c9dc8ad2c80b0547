"""Copies of the files beside a model that hold data of its tensors, with other data in some of their ranges."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import onnx

from wexport.errors import SourceError
from wexport.model import Array
from wexport.readers.onnx.container import EXTERNAL, Container
from wexport.readers.onnx.external import parts_of
from wexport.readers.onnx.splice import Frame, Splice, same, whole, write
from wexport.readers.onnx.wire import BYTES, Wire
from wexport.storage import Bytes, FileRange, SourceFile, Storage

_ENTRIES, _LOCATION = 13, 14  # of a TensorProto: external_data, data_location
_HEAD = {1, 2, 8, _ENTRIES, _LOCATION}  # and dims, data_type, name: all but its data


@dataclass(frozen=True, slots=True)
class _Tensor:
    """A tensor whose data are in the file `name`; `range` is unknown for a type that is never read."""

    frame: Frame
    key: str
    name: str
    range: FileRange | None
    new: Storage | None


@dataclass(slots=True)
class Beside:
    """The tensors of a model whose data are beside it, and what is to become of them."""

    container: Container
    wire: Wire
    tensors: list[_Tensor] = field(default_factory=list)
    files: dict[str, SourceFile] = field(default_factory=dict)  # by their locations
    checksums: dict[Path, str] = field(default_factory=dict)

    def takes(self, frame: Frame, new: Storage | None) -> bool:
        """Whether this tensor's data are beside the model; then they shall become `new`, if that is given.

        Raises:
            SourceError: they are not where the tensor says, or outside of the model's folder.
        """
        parts = [part for part in self.wire.fields(frame.start, frame.end) if part.number in _HEAD]
        if not any(part.number == _LOCATION for part in parts):
            return False
        head = onnx.TensorProto.FromString(b"".join(self.wire.read(part.tag, part.end) for part in parts))
        if head.data_location != EXTERNAL:
            return False
        where = f"{self.container.path}: tensor {head.name[:200]!r}"
        location = next((entry.value for entry in head.external_data if entry.key == "location"), "")
        name = PurePosixPath(*parts_of(location, where)).as_posix()
        made = self.container.array(head, head.name)
        self.files[name] = self.container.external.open(location, where)
        found = made.storage if isinstance(made, Array) else None
        self.tensors.append(_Tensor(frame, head.name, name, found if isinstance(found, FileRange) else None, new))
        return True

    def write(self, place: Path, name: str, rename: Callable[[str], str], splice: Splice) -> None:
        """Write the files, and have the model say where they are.

        Raises:
            SourceError: two of them, or one and the model, would have the same name; or data that shall become
                different share bytes.
        """
        names = self._names(name, rename)
        written: dict[str, Path] = {}  # those that are not as they were
        for old, file in self.files.items():
            target = place / names[old]
            target.parent.mkdir(parents=True, exist_ok=True)
            tensors = [t for t in self.tensors if t.name == old]
            _copy(file, target, tensors)
            if any(t.new is not None for t in tensors):
                self._check(target, tensors)
                written[old] = target
        for tensor in self.tensors:
            values = {} if names[tensor.name] == tensor.name else {"location": names[tensor.name]}
            self._entries(tensor.frame, values, written.get(tensor.name), splice)

    def _names(self, name: str, rename: Callable[[str], str]) -> dict[str, str]:
        """The new locations."""
        taken, found = {name: "the model"}, {}
        for old in self.files:
            new = PurePosixPath(*parts_of(rename(old), f"{self.container.path}: data in {old!r}")).as_posix()
            if new in taken:
                raise SourceError(
                    f"{self.container.path}: has data in {old!r}, whose copy would be called {new!r} as that of "
                    f"{taken[new]}; choose another name or folder"
                )
            taken[new], found[old] = repr(old), new
        return found

    def _check(self, target: Path, tensors: Sequence[_Tensor]) -> None:
        """Compare the data of tensors that share bytes with what each shall have."""
        with SourceFile(target) as copy:
            for shared in _shared(tensors):
                for tensor, found in shared:
                    there = FileRange(copy, found.offset, found.size)
                    if not same(found if tensor.new is None else tensor.new, there):
                        raise SourceError(
                            f"{self.container.path}: tensor {tensor.key[:200]!r}: shares bytes of {tensor.name!r} with "
                            "a tensor that shall have others there; change both alike"
                        )

    def _entries(self, frame: Frame, values: Mapping[str, str], file: Path | None, splice: Splice) -> None:
        """Set entries of a tensor's `external_data`; a checksum is that of the file, if one is given."""
        for part in self.wire.fields(frame.start, frame.end):
            if part.number != _ENTRIES or part.wire != BYTES:
                continue
            entry = frame.inner(self.wire, part)
            texts = {p.number: p for p in self.wire.fields(part.start, part.end) if p.wire == BYTES}  # the last counts
            if not texts.keys() >= {1, 2}:
                continue
            key = self.wire.read(texts[1].start, texts[1].end).decode("utf-8", "replace")
            value = self._checksum(file) if key == "checksum" and file is not None else values.get(key)
            if value is not None:
                text = entry.inner(self.wire, texts[2])
                splice.replace(text, text.start, text.end, whole(Bytes(value.encode())))

    def _checksum(self, file: Path) -> str:
        if file not in self.checksums:
            found = hashlib.sha1(usedforsecurity=False)
            with SourceFile(file) as copy:
                for block in whole(copy).blocks():
                    found.update(block)
            self.checksums[file] = found.hexdigest()
        return self.checksums[file]


def _copy(file: SourceFile, target: Path, tensors: Sequence[_Tensor]) -> None:
    """Copy a file, and write the new data into their ranges."""
    with target.open("xb") as out:
        write(out, whole(file))
        for tensor in tensors:
            if tensor.new is not None and tensor.range is not None:
                out.seek(tensor.range.offset)
                write(out, whole(tensor.new))


def _shared(tensors: Sequence[_Tensor]) -> list[list[tuple[_Tensor, FileRange]]]:
    """Rows of tensors whose ranges overlap, those in which one gets new data."""
    ranges = [(t, t.range) for t in tensors if t.range is not None and t.range.size]
    rows: list[list[tuple[_Tensor, FileRange]]] = []
    end = 0
    for tensor, found in sorted(ranges, key=lambda pair: pair[1].offset):
        if found.offset >= end:
            rows.append([])
        rows[-1].append((tensor, found))
        end = max(end, found.offset + found.size)
    return [row for row in rows if len(row) > 1 and any(tensor.new is not None for tensor, _ in row)]
