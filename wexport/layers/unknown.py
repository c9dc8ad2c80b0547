"""Layers that wexport does not know: custom classes, code, operations outside the vocabulary.

Their arrays are exported whole, under the file's own names; their config is shown as data, code left out. `reason` says
of an operator of the vocabulary what is strange about its use.
"""

from __future__ import annotations

from collections.abc import Mapping

from wexport.features import Value
from wexport.layers.registry import ANY, TEXT, Flow, flow, kind
from wexport.layout import Rule

kind("unknown", maybe={"config": ANY, "reason": TEXT})


@flow("unknown")
def _flow(f: Flow) -> Mapping[str, Value]:
    return {role: f.source(None, role) for role in f.names}


def whole(name: str, rank: int) -> Rule:
    """The rule of an array of which nothing but its name is known."""
    axes = " ".join(f"axis_{i + 1}" for i in range(rank))
    return Rule(axes, f"{name}: {axes}")
