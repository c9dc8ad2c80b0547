"""A graph in normal form: operators with unique names for values, and what is stored."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import onnx
from numpy.typing import NDArray

from wexport.model import Array, LeftOut

PROGRAM = "wexport"  # the domain of operators that this program makes up


@dataclass(frozen=True, slots=True)
class Held:
    """An attribute that is a stored array: the value that it is, and whether it is a weight of its operator."""

    value: str
    weight: bool = False


@dataclass(slots=True)
class Op:
    """One operator; an input or output that is left out is the empty string.

    `path` is where it stands: the calls and bodies around it. `meta` is the exporter's metadata. `absorbed` are values
    that operators read which this one stands for.
    """

    type: str
    domain: str
    version: int
    name: str
    inputs: list[str]
    outputs: list[str]
    attributes: dict[str, Any] = field(default_factory=dict)
    bodies: dict[str, Body] = field(default_factory=dict)
    path: str = ""
    meta: Mapping[str, str] = field(default_factory=dict)
    absorbed: tuple[str, ...] = ()

    def reads(self) -> Iterator[str]:
        """The values that it reads, in its bodies too."""
        yield from (i for i in self.inputs if i)
        for body in self.bodies.values():
            own = {*body.inputs, *(o for op in body.ops for o in op.outputs)}
            for op in body.ops:
                yield from (name for name in op.reads() if name not in own)
            yield from (name for name in body.outputs if name not in own)


@dataclass(slots=True)
class Body:
    """A graph inside an operator."""

    inputs: list[str]
    outputs: list[str]
    ops: list[Op]


@dataclass(slots=True)
class Graph:
    """The whole graph. `stored` maps values to the arrays that they are; `texts` are stored strings.

    A sparse tensor is two of them, and an operator that spreads them out.
    """

    inputs: list[onnx.ValueInfoProto]
    outputs: list[str]
    ops: list[Op]
    arrays: dict[str, Array] = field(default_factory=dict)
    stored: dict[str, str] = field(default_factory=dict)
    texts: dict[str, NDArray[Any]] = field(default_factory=dict)
    left_out: list[LeftOut] = field(default_factory=list)
    meta: dict[str, Mapping[str, str]] = field(default_factory=dict)  # of values that have metadata


def rename(ops: Iterable[Op], names: Mapping[str, str]) -> None:
    """Give values other names, in bodies too."""
    for op in ops if names else ():
        op.inputs = [names.get(i, i) for i in op.inputs]
        op.outputs = [names.get(o, o) for o in op.outputs]
        for body in op.bodies.values():
            body.outputs = [names.get(o, o) for o in body.outputs]
            rename(body.ops, names)
