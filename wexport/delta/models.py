"""Two matched models, and what a difference between them is said with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from wexport.delta.change import Change
from wexport.delta.graph import Node
from wexport.delta.match import Matching

STRUCTURE, GRAPH, NAMES, VALUES = "structure", "graph", "names", "values"
Manifest = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Fact:
    """One difference.

    `what` says what it is (`layer added`, `attribute changed` ...); `a` and `b` are the layer, tensor, input or output
    on both sides; `detail` is what was found, from A to B. `category` is `structure`, `names`, `values`, or `graph`:
    layers without weights that only one of two frameworks writes, which may compute the same with other layers.
    """

    what: str
    category: str
    a: str | None
    b: str | None
    detail: Mapping[str, Any] = field(default_factory=dict)
    change: Change | None = None

    @property
    def name(self) -> str:
        """What B calls it, or A if B has none."""
        return self.b if self.b is not None else self.a or ""


@dataclass(frozen=True, slots=True)
class Models:
    """Two manifests and how their layers were matched.

    `loose` compares across frameworks; `bare` says that one side is a file of weights alone, which tells no graph.
    """

    a: Manifest
    b: Manifest
    layers: Matching
    loose: bool
    bare: bool

    def sure(self, a: Node | None, b: Node | None) -> bool:
        """Whether two layers are the same sort of layer, so that what differs of them is no other way of writing it."""
        return not self.loose or (a is not None and b is not None and a.kind == b.kind)
