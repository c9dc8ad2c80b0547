"""Weights that are computed when the model runs: arguments that stand for several tensors.

The attribute `computed` tells of each such argument, by its role, how it is laid out, as a weight's entry does:

    {"kernel": {"layout": "1 (gate unit) in", "as": "{gate}.kernel: in unit", "labels": {"gate": ["input", ...]}}}
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wexport.layout import Rule, expand
from wexport.model import Json

_LABEL = re.compile(r"\{(\w+)\}")


def told(rule: Rule) -> dict[str, Json]:
    """What the attribute says of one argument."""
    labels = {axis: list(labels) for axis, labels in rule.labels.items()}
    return {"layout": rule.layout, "as": rule.target, "labels": labels}


def terms(how_of: Mapping[str, Any]) -> dict[str, str]:
    """The tensors that arguments stand for, by name: each as a part of its argument, `kernel[forward, input]`."""
    found = {}
    for role, how in how_of.items():
        target = how["as"].partition(":")[0]
        axes = _LABEL.findall(target)
        for labels in itertools.product(*(how["labels"][axis] for axis in axes)):
            name = target.format(**dict(zip(axes, labels, strict=True)))
            found[name] = f"{role}[{', '.join(labels)}]" if labels else role
    return found


def tensors(how_of: Mapping[str, Any], args: Mapping[str, Any]) -> dict[str, tuple[str, NDArray[Any]]]:
    """The tensors that arguments stand for, with their axes.

    Raises:
        LayoutError: an argument is of another shape than its layout.
    """
    found = {}
    for role, how in how_of.items():
        whole = np.asarray(args[role])
        rule = Rule(how["layout"], how["as"], {axis: tuple(labels) for axis, labels in how["labels"].items()})
        for piece in expand(rule, whole.shape):
            found[piece.name] = (piece.axes, piece.view.take(np.ascontiguousarray(whole).reshape(-1)))
    return found
