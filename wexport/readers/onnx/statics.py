"""What is known of values without running the model, and how it is asked for."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from numpy.typing import NDArray

from wexport.readers.onnx.ops import Op
from wexport.readers.onnx.views import Virtual

Array = NDArray[Any]


@dataclass(slots=True)
class Statics:
    """`views`, `known` and `uniform` by value; `fixed` are all values that do not depend on the model's inputs.

    `lengths` are lists of lengths that the model takes from shapes, a free one by its name. `states` are the arrays
    that recurrent layers begin with: no weights.
    """

    views: dict[str, Virtual] = field(default_factory=dict)
    known: dict[str, Array] = field(default_factory=dict)
    uniform: dict[str, float] = field(default_factory=dict)
    lengths: dict[str, list[Any]] = field(default_factory=dict)
    states: set[str] = field(default_factory=set)
    fixed: set[str] = field(default_factory=set)


def numbers(op: Op, found: Statics, i: int, name: str) -> list[int] | None:
    """A setting that is an input or, in old opsets, an attribute; None where it is missing or not known."""
    if i < len(op.inputs) and op.inputs[i]:
        known = found.known.get(op.inputs[i])
        return None if known is None else [int(n) for n in known.reshape(-1)]
    given = op.attributes.get(name)
    return None if given is None else [int(n) for n in (given if isinstance(given, list) else [given])]
