"""How ONNX writes an operator down, in every opset.

A `Node` is one operator with its operands; `Lowered` is what a room makes of it: the kind, the attributes in
wexport's words, the arguments by role, and the operands that are weights, each with the rule that says which
tensors it holds. `@onnx("Gemm")` signs an operator in. Operator names from a file are keys into this table
and nothing else.

Rules are written for the operand as the operator takes it; the reader restates them for what is stored, where
the operand is a view of it (a transposed kernel, gates put together from slices).

Source: onnx/docs/Operators.md and Changelog.md (opsets 7 to 28), onnx/docs/IR.md.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from wexport.errors import LayoutError
from wexport.layout import Rule
from wexport.model import Const, Json, Shape


@dataclass(frozen=True, slots=True)
class Operand:
    """An operator's input or output: its name in the graph, and what is known of it without running anything.

    `shape` has all axes (None for lengths that are not known). `stored`: it is a view of arrays that the file
    stores. `known` gives the elements of a constant that is small, or worked out from shapes; `uniform` the number
    that all its elements are. `scaled`: it is a stored array of integers, dequantized.
    """

    value: str
    shape: Shape | None = None
    dtype: str | None = None
    stored: bool = False
    known: NDArray[Any] | None = None
    uniform: float | None = None
    scaled: Scaled | None = None

    @property
    def rank(self) -> int:
        """The number of axes; -1 where it is not known."""
        return -1 if self.shape is None else len(self.shape)


@dataclass(frozen=True, slots=True)
class Scaled:
    """What a dequantized operand is made of: integers, scales, zero points; `block` elements along `axis` share one
    (0: the scale is of one element, or has one for each position of the axis)."""

    integers: Operand
    scale: Operand
    zero: Operand | None
    axis: int
    block: int = 0


class UnclearError(LayoutError):
    """An operator is used in a way that its room does not understand; it is exported whole."""


_NONE: Any = object()


@dataclass(frozen=True, slots=True)
class Node:
    """One operator; an operand that is left out is None. `version` is the opset of its domain.

    `bodies` are the names of the inputs and outputs of the graphs inside it.
    """

    op: str
    domain: str
    version: int
    inputs: tuple[Operand | None, ...]
    outputs: tuple[Operand | None, ...]
    attributes: Mapping[str, Any] = field(default_factory=dict)
    bodies: Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]] = field(default_factory=dict)

    def operand(self, i: int) -> Operand | None:
        """An input that may be left out."""
        return self.inputs[i] if i < len(self.inputs) else None

    def need(self, i: int) -> Operand:
        """An input that must be there."""
        found = self.operand(i)
        if found is None:
            raise UnclearError(f"{self.op} has no input {i}")
        return found

    def get(self, name: str, default: Json = None) -> Any:
        """An attribute: a number, a string, a list of them, or an array."""
        return self.attributes.get(name, default)

    def word(self, name: str, default: str, *others: str) -> str:
        """An attribute that is one of these words.

        Raises:
            UnclearError: it is another one.
        """
        found = self.attributes.get(name, default)
        if found not in (default, *others):
            raise UnclearError(f"{self.op}: {name} is {found!r}, expected one of {', '.join((default, *others))}")
        return str(found)

    def array(self, name: str, i: int | None = None) -> NDArray[Any] | None:
        """A setting that is an attribute in some opsets and input `i` in others; None where it is left out.

        Raises:
            UnclearError: it is computed when the model runs.
        """
        if name in self.attributes:
            return np.asarray(self.attributes[name])
        given = None if i is None else self.operand(i)
        if given is None:
            return None
        if given.known is None:
            raise UnclearError(f"{self.op}: {name} is computed when the model runs")
        return given.known

    def ints(self, name: str, i: int | None = None, default: Sequence[int] | None = None) -> list[int] | None:
        """A setting that is a list of whole numbers."""
        found = self.array(name, i)
        return (None if default is None else list(default)) if found is None else [int(n) for n in found.reshape(-1)]

    def integer(self, name: str, i: int | None = None, default: int = 0) -> int:
        """A setting that is a whole number."""
        found = self.array(name, i)
        return default if found is None or not found.size else int(found.reshape(-1)[0])

    def number(self, name: str, i: int | None = None, default: float | None = None) -> float | None:
        """A setting that is a number."""
        found = self.array(name, i)
        return default if found is None or not found.size else float(found.reshape(-1)[0])

    def axis(self, name: str = "axis", default: int = 0, extra: int = 0) -> int:
        """An axis, counted from the front where the first input's rank (plus `extra`) is known."""
        found = int(self.get(name, default))
        rank = self.need(0).rank
        return found + rank + extra if found < 0 <= rank else found


Argument = Operand | Const | None | tuple["Argument", ...]


@dataclass(frozen=True, slots=True)
class Own:
    """An operand that is a weight: its rule, or (None) that it is one tensor under its role, in stored axes.

    `splits`: its `in` axis may be split by source.
    """

    operand: Operand
    role: str
    rule: Rule | None = None
    splits: bool = False


@dataclass(frozen=True, slots=True)
class Lowered:
    """What a room makes of a node.

    `args` are the arguments by role; one that is stored and no listed weight becomes a tensor of the layer, or a
    constant, by its type and size. `roles` are the outputs' roles.
    """

    kind: str
    attributes: Mapping[str, Json] = field(default_factory=dict)
    args: Mapping[str, Argument] = field(default_factory=dict)
    weights: tuple[Own, ...] = ()
    roles: tuple[str, ...] = ("y",)


Room = Callable[[Node], Lowered]
ROOMS: dict[tuple[str, str], Room] = {}
ATTRIBUTES: dict[tuple[str, str], frozenset[str]] = {}  # those that are arrays of weights
R = TypeVar("R", bound=Room)


def onnx(*operators: str, domain: str = "") -> Callable[[R], R]:
    """Sign in a room for these operators."""

    def sign(room: R) -> R:
        for name in operators:
            assert (domain, name) not in ROOMS, f"{name} is signed in twice"
            ROOMS[domain, name] = room
        return room

    return sign


def holds(domain: str, operator: str, *attributes: str) -> None:
    """Attributes of an operator are weights: lists of numbers, or tensors, which its room sees as stored operands."""
    ATTRIBUTES[domain, operator] = frozenset(attributes)


def inline(value: Any, dtype: str) -> Const:
    """A constant argument that a room states."""
    found = np.asarray(value)
    return Const(found.tolist(), dtype, found.shape)
