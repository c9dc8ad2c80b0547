"""Flow rules that many rooms share: what only passes through, and what is a source of its own."""

from __future__ import annotations

from collections.abc import Mapping

from wexport.features import Value
from wexport.layers.registry import Flow, FlowRule, flow


def opaque(*kinds: str, **dtypes: str) -> None:
    """Every output of these kinds is a source of its own, of a shape that the file may tell; types by role."""
    flow(*kinds)(_opaque(dtypes))


def _opaque(dtypes: Mapping[str, str]) -> FlowRule:
    def rule(f: Flow) -> Mapping[str, Value]:
        return {role: f.source(None, role, dtype=dtypes.get(role)) for role in f.names}

    return rule


def typed(*kinds: str) -> None:
    """As `opaque`, and the attribute `type` says of which type the result is."""

    def rule(f: Flow) -> Mapping[str, Value]:
        return {"y": f.source(None, dtype=f.attributes["type"])}

    flow(*kinds)(rule)
