"""A copy of an ONNX model with other data in some of its arrays; every byte of the rest stays as it is.

Where an array's data stand is found once more in the file: the skeleton has every tensor and attribute say where it
starts (`Placed`), so that keys are given by the one reader that gives them. Data go back into the field that they came
from and in its form (raw, packed, with a tag for each number, beside the model); only fields of integers change their
size, and with it the lengths around them.

An entry `checksum` of external data is computed anew for the tensors of a file that changed.

Source: onnx/onnx.proto, TensorProto and AttributeProto.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from wexport.errors import SourceError
from wexport.model import Array
from wexport.readers.onnx import wire
from wexport.readers.onnx.beside import Beside
from wexport.readers.onnx.container import Container, Placed, open_container
from wexport.readers.onnx.encode import Elements, Run, runs
from wexport.readers.onnx.graph import read_graph
from wexport.readers.onnx.splice import Frame, Splice, messages, same, whole
from wexport.readers.onnx.tensors import TYPES
from wexport.readers.onnx.wire import BYTES, FIXED32, FIXED64, VARINT, Field, Wire
from wexport.storage import SourceFile, Storage

_KINDS = {
    wire.FLOATS: FIXED32,
    wire.DOUBLES: FIXED64,
}  # of numbers that are not packed; those of the others are varints
# of an attribute: floats or not, one number or a list -> its field
_ATTRIBUTE = {(True, False): 2, (False, False): 3, (True, True): 7, (False, True): 8}


def rewrite(
    path: Path, changed: Mapping[str, Storage], place: Path, name: str, rename: Callable[[str], str] = lambda old: old
) -> None:
    """Write a copy of the model file `path` into the folder `place` under `name`, with new data for some arrays.

    The files beside the model that hold data of its tensors are copied too, to the same places in `place`.

    Args:
        path: the model file; it is opened, and closed, here.
        changed: by the keys that arrays of the model have (`Array.key`), all their bytes, laid out as `Array.storage`.
        place: a folder that exists; nothing in it is replaced.
        name: the name of the copy.
        rename: gives the location of a file beside the model ("sub/w.bin") in the copy.

    Raises:
        SourceError: the model is damaged, has no such array, one of another size, or two that share bytes which
            shall become different; or the files' new names clash.
        OSError: the copy cannot be written.
    """
    with SourceFile(path) as file:
        container = open_container(path, file, places=True)
        try:
            _Rewriter(container, changed).write(place, name, rename)
        finally:
            container.close()


@dataclass(frozen=True, slots=True)
class _New:
    """What stands at one place in the model file, and the data that shall."""

    array: Array
    storage: Storage


@dataclass(slots=True)
class _Rewriter:
    container: Container
    changed: Mapping[str, Storage]
    new: dict[int, _New] = field(init=False)
    wire: Wire = field(init=False)
    splice: Splice = field(init=False)

    def __post_init__(self) -> None:
        self.wire = Wire(self.container.file, str(self.container.path))
        self.splice = Splice(self.container.file)
        self.new = self._new()

    def write(self, place: Path, name: str, rename: Callable[[str], str]) -> None:
        """Write the copy and the files beside it."""
        beside = Beside(self.container, self.wire)
        waiting = dict(self.new)
        for kind, frame in messages(self.wire):
            new = waiting.pop(frame.start, None)
            if kind == "Tensor" and beside.takes(frame, None if new is None else new.storage):
                continue
            if new is not None:
                self._replace(kind, frame, new)
        if waiting:
            raise self._lost(next(iter(waiting.values())).array.key)
        beside.write(place, name, rename, self.splice)
        with (place / name).open("xb") as out:
            self.splice.write(out)

    def _refuse(self, key: str, what: str) -> SourceError:
        return SourceError(f"{self.container.path}: tensor {key[:200]!r}: {what}")

    def _lost(self, key: str) -> SourceError:
        return self._refuse(key, "its data cannot be put back where they are; please report this with the file")

    # -- what is asked for --

    def _new(self) -> dict[int, _New]:
        """The new data, by the places of what they belong to. A place has several keys if a function is called with
        an attribute several times."""
        arrays = read_graph(self.container).arrays
        for key, storage in self.changed.items():
            if key not in arrays:
                raise self._refuse(key, "is not in the model; expected a key that the model has")
            if storage.size != arrays[key].nbytes:
                raise self._refuse(
                    key, f"cannot take {storage.size:,} bytes, expected {arrays[key].nbytes:,} as it has them"
                )
        keys: dict[int, list[str]] = {}
        for key, array in arrays.items():
            if not isinstance(array.storage, Placed):
                raise self._lost(key)
            keys.setdefault(array.storage.place, []).append(key)
        found: dict[int, _New] = {}
        for place, twins in keys.items():
            if not any(key in self.changed and arrays[key].count for key in twins):
                continue
            first, *others = (self.changed.get(key, arrays[key].storage) for key in twins)
            for key, other in zip(twins[1:], others, strict=True):
                if not same(first, other):
                    raise self._refuse(key, f"is the same part of the file as {twins[0][:200]!r}; change both alike")
            found[place] = _New(arrays[twins[0]], first)
        return found

    # -- in the model file --

    def _replace(self, message: str, frame: Frame, new: _New) -> None:
        """Put the data of a tensor or an attribute into the field where they are."""
        if message == "Attribute":
            number = _ATTRIBUTE[new.array.dtype == "float32", bool(new.array.shape)]
            kind = FIXED32 if new.array.dtype == "float32" else VARINT
            self._numbers(frame, new, number, kind, single=not new.array.shape)
            return
        raw = [part for part in self.wire.fields(frame.start, frame.end) if part[:2] == (wire.RAW, BYTES)]
        if not raw:
            data_type = next(n for n, (name, _) in TYPES.items() if name == new.array.dtype)
            number = TYPES[data_type][1]
            self._numbers(frame, new, number, _KINDS.get(number, VARINT))
        elif raw[-1].end - raw[-1].start != new.storage.size:
            raise self._lost(new.array.key)
        else:
            self.splice.replace(frame.inner(self.wire, raw[-1]), raw[-1].start, raw[-1].end, whole(new.storage))

    def _numbers(self, frame: Frame, new: _New, number: int, kind: int, single: bool = False) -> None:
        """Put elements in the place of a field's numbers, wherever those are."""
        elements = Elements.of(new.storage, new.array.dtype, new.array.shape, kind)
        found = list(runs(self.wire, frame.start, frame.end, number, kind))
        if single:
            found = [run for run in found if run.field.wire == kind]
            if [run.count for run in found] != [1]:  # the last one counts; none at all means zero
                found = [Run(Field(number, kind, frame.end, frame.end, frame.end), 1)]
        if sum(run.count for run in found) != elements.count:
            raise self._lost(new.array.key)
        first = 0
        for run in found:
            data, part = elements.written(first, run, kind), run.field
            if part.wire == BYTES:
                self.splice.replace(frame.inner(self.wire, part), part.start, part.end, data)
            else:
                self.splice.replace(frame, part.tag, part.end, data)
            first += run.count
