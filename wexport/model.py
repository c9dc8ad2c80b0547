"""What every reader gives: layers, calls and arrays that are read only when asked.

The vocabulary is wexport's own. A `Layer` is what a model is made of, a `Call` is one use of it, a value is
what a call gives out, known by a name that is unique in the model.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from wexport import dtypes
from wexport.layout import Packed, Rule
from wexport.storage import SourceFile, Storage

Shape = tuple[int | None, ...]
Json = Any  # what the json module reads: a dict, a list, a string, a number, a bool, None


@dataclass(frozen=True, slots=True)
class Array:
    """One array as the file stores it; `key` is its path or name there, `index` its place in the
    framework's own list of weights (None where the file does not tell).

    The elements of types shorter than a byte share bytes, in the order of the flattened array (`unpacking`).
    """

    key: str
    shape: tuple[int, ...]
    dtype: str
    storage: Storage
    index: int | None = None

    @property
    def count(self) -> int:
        """The number of elements."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """The number of bytes that it takes in the file."""
        return dtypes.nbytes(self.dtype, self.count)

    def bytes(self) -> bytearray:
        """All of the array's bytes."""
        data = bytearray(self.nbytes)
        self.storage.read_into(memoryview(data), 0)
        return data


def unpacking(array: Array) -> Packed | None:
    """The step that every rule for the array needs because its elements share bytes, or None."""
    bits = dtypes.bits(array.dtype)
    return Packed(None, dtypes.held_as(array.dtype) == "int8", bits) if bits < 8 else None


@dataclass(frozen=True, slots=True)
class Weight:
    """An array and the rule that says which tensors of its layer it holds.

    `splits` says whether the `in` axis may be split by source. `copy_of` is the key of an array that the
    format is known to store twice.
    """

    array: Array
    rule: Rule
    splits: bool = False
    copy_of: str | None = None


@dataclass(frozen=True, slots=True)
class Layer:
    """A layer: `kind` and `attributes` in wexport's words, `class_name` in the framework's.

    `compute` is the type of its float results, None where the file does not say.
    """

    name: str
    kind: str
    class_name: str
    attributes: Mapping[str, Json] = field(default_factory=dict)
    weights: tuple[Weight, ...] = ()
    compute: str | None = None


@dataclass(frozen=True, slots=True)
class Const:
    """A constant argument: a number, a string or nested lists of them; `stored` is the key of the array that it is."""

    value: Json
    dtype: str
    shape: tuple[int, ...]
    stored: str | None = None


@dataclass(frozen=True, slots=True)
class Ref:
    """An argument that is a stored array, whole, by its key."""

    array: str


Arg = str | Const | Ref | None | tuple["Arg", ...]  # a value's name, a constant, an array, a missing one, several


@dataclass(frozen=True, slots=True)
class Out:
    """One output of a call; `value` is None where nobody takes it."""

    role: str
    value: str | None


@dataclass(frozen=True, slots=True)
class Call:
    """One use of a layer; `bodies` are the graphs that control flow runs."""

    layer: str
    args: Mapping[str, Arg]
    out: tuple[Out, ...]
    bodies: Mapping[str, Body] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Body:
    """A graph inside a call: its inputs' names, its calls, and the values that it gives. It sees the values outside."""

    inputs: tuple[str, ...]
    calls: tuple[Call, ...]
    outputs: tuple[Arg, ...]


def every(calls: Iterable[Call]) -> Iterator[Call]:
    """Calls, and those in their bodies before them."""
    for call in calls:
        for body in call.bodies.values():
            yield from every(body.calls)
        yield call


@dataclass(frozen=True, slots=True)
class Port:
    """What is known of a value before anything is computed; the batch is the first axis."""

    shape: Shape | None
    dtype: str | None


@dataclass(frozen=True, slots=True)
class Constant:
    """An array that the graph reads and that is no weight; `value` are its elements, where the manifest has them."""

    array: Array
    value: Json = None


@dataclass(frozen=True, slots=True)
class LeftOut:
    """An array that no prediction reads, or that cannot be a tensor, and why."""

    key: str
    shape: tuple[int, ...]
    reason: str


@dataclass(frozen=True, slots=True)
class Model:
    """A model file, read as far as names and shapes go.

    `known` holds shapes that the file states for values; `warnings` say what a reader could not make sense of.
    `attentions` are the values that attentions take as query, key and value. `named` says whether the name is the
    model's own; else it is the file's.
    """

    name: str
    framework: str
    framework_version: str | None
    source: Mapping[str, Json]
    inputs: Mapping[str, Port]
    outputs: Mapping[str, str]
    layers: tuple[Layer, ...]
    calls: tuple[Call, ...]
    left_out: tuple[LeftOut, ...] = ()
    known: Mapping[str, Port] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    files: tuple[SourceFile, ...] = ()
    constants: tuple[Constant, ...] = ()
    attentions: tuple[tuple[str, str, str], ...] = ()
    named: bool = True

    def arrays(self) -> dict[str, Array]:
        """Every weight and constant, by its key."""
        found = {w.array.key: w.array for layer in self.layers for w in layer.weights}
        return found | {c.array.key: c.array for c in self.constants}

    def close(self) -> None:
        """Close the files that the arrays are read from."""
        for file in self.files:
            file.close()
