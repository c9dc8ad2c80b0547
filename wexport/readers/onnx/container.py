"""An ONNX file: all that it says, and its tensors as arrays whose bytes stay where they are.

The `onnx` package reads the skeleton only (`skeleton`), so that no model is too large; it is loaded by nothing else.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError, Message

from wexport import dtypes
from wexport.errors import SourceError
from wexport.model import Array, LeftOut
from wexport.readers.onnx import wire
from wexport.readers.onnx.external import External
from wexport.readers.onnx.skeleton import Skeleton, skeleton
from wexport.readers.onnx.tensors import (
    inline,
    read_small,
    shape_of,
    sparse_shapes,
    stored,
    type_of,
)
from wexport.storage import FileRange, SourceFile, Storage

__all__ = ["Container", "Placed", "open_container", "read_small"]

EXTERNAL = 1  # TensorProto.DataLocation


@dataclass(frozen=True, slots=True)
class Placed:
    """The data of a tensor or an attribute that starts at byte `place` of the model file."""

    storage: Storage
    place: int

    @property
    def size(self) -> int:
        """The number of bytes."""
        return self.storage.size

    def read_into(self, buffer: memoryview, start: int) -> None:
        """Fill the buffer from `start` on."""
        self.storage.read_into(buffer, start)


@dataclass(frozen=True, slots=True)
class Container:
    """A file that is open; `proto` has no data of its larger tensors, ask `array` for them."""

    path: Path
    proto: onnx.ModelProto
    file: SourceFile
    skeleton: Skeleton = field(repr=False)
    external: External = field(repr=False)

    def files(self) -> tuple[SourceFile, ...]:
        """The model's file, and those beside it that were opened so far."""
        return (self.file, *self.external.files)

    def close(self) -> None:
        """Close them all."""
        for file in self.files():
            file.close()

    def array(self, tensor: onnx.TensorProto, key: str) -> Array | LeftOut:
        """A tensor of this file as an array; strings and complex128 cannot be one.

        Raises:
            SourceError: its dims, its type and its data do not fit together, or its data are not there.
        """
        where = self._where(key)
        dtype = type_of(tensor.data_type, where)
        shape = shape_of(tensor.dims, where)
        if not dtypes.is_stored(dtype):
            return LeftOut(key, shape, f"{dtype} is no type that a tensor can have")
        if tensor.HasField("segment"):
            raise SourceError(f"{where}: is stored in segments, expected whole; export the model again")
        payloads = self._payloads(tensor, where)
        if tensor.data_location != EXTERNAL:
            found = stored(payloads, tensor.data_type, shape, where)
            return Array(key, shape, dtype, self.placed(found, tensor.doc_string))
        if payloads:
            raise SourceError(f"{where}: has data both in the model and beside it; export the model again")
        wanted = dtypes.nbytes(dtype, math.prod(shape))
        entries = ((entry.key, entry.value) for entry in tensor.external_data)
        return Array(key, shape, dtype, self.placed(self.external.find(entries, wanted, where), tensor.doc_string))

    def placed(self, storage: Storage, doc_string: str) -> Storage:
        """The data of a message with this text, which knows where the message is if the skeleton tells."""
        place = self.skeleton.place(doc_string)
        return storage if place is None else Placed(storage, place)

    def sparse(
        self, tensor: onnx.SparseTensorProto, key: str
    ) -> tuple[Array | LeftOut, Array | LeftOut, tuple[int, ...]]:
        """A sparse tensor's values (called `key`), its indices (`key.indices`), and the dims of the dense one.

        Raises:
            SourceError: the three do not fit together.
        """
        where = self._where(key)
        dims = shape_of(tensor.dims, where)
        values, indices = self.array(tensor.values, key), self.array(tensor.indices, f"{key}.indices")
        if not isinstance(indices, Array) or not re.fullmatch(r"u?int(8|16|32|64)", indices.dtype):
            raise SourceError(f"{where}: has indices that are no whole numbers; export the model again")
        sparse_shapes(values.shape, indices.shape, dims, where)
        return values, indices, dims

    def _where(self, key: str) -> str:
        return f"{self.path}: tensor {key[:200]!r}"

    def _payloads(self, tensor: onnx.TensorProto, where: str) -> dict[int, Storage]:
        """The fields of a tensor that hold data: those left in the file, and those that were small."""
        cuts = self.skeleton.find(tensor.raw_data)
        found = inline(tensor.SerializeToString(), where)
        if cuts is None:
            return found
        del found[wire.RAW]  # the mark
        return found | {number: FileRange(self.file, *place) for number, place in cuts.items()}


def open_container(path: Path, file: SourceFile, places: bool = False) -> Container:
    """Read what an ONNX file says, but for its tensors' data; the caller closes the file if this fails.

    With `places` the arrays' data are `Placed`.

    Raises:
        SourceError: it is no whole model.
    """
    if not file.size:
        raise SourceError(f"{path}: is empty; expected an ONNX model")
    bones = skeleton(file, str(path), places)
    try:
        proto = onnx.ModelProto.FromString(bones.data)
    except (DecodeError, RecursionError, ValueError) as error:
        raise SourceError(
            f"{path}: cannot be decoded as an ONNX model; it is damaged or no ONNX file: export it again"
        ) from error
    if not proto.HasField("graph"):
        raise SourceError(f"{path}: has no graph; expected an ONNX model")
    if not _is_text(proto):
        raise SourceError(f"{path}: has a name that is no UTF-8 text; it is damaged: export it again")
    return Container(path, proto, file, bones, External(path))


def _is_text(message: Message) -> bool:
    """Whether every string in a message is one: protobuf gives `bytes` where it is no UTF-8."""
    for about, value in message.ListFields():
        values = (value,) if isinstance(value, (str, bytes, Message)) else value
        if about.type == about.TYPE_MESSAGE:
            if not all(map(_is_text, values)):
                return False
        elif about.type == about.TYPE_STRING and not all(isinstance(text, str) for text in values):
            return False
    return True
