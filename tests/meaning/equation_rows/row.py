"""A layer as the manifest would have it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
_RANDOM = np.random.default_rng(5)
LINEAR, TANH, SIGMOID = {"name": "linear"}, {"name": "tanh"}, {"name": "sigmoid"}


def f(*shape: int) -> Array:
    return _RANDOM.normal(size=shape)


@dataclass(frozen=True)
class Row:
    """A layer: its kind and attributes, its tensors with their axes, the arguments of a call."""

    kind: str
    attributes: Mapping[str, Any]
    tensors: Mapping[str, tuple[str, Array]]
    args: Mapping[str, Any]
    several: Mapping[str, tuple[str | None, ...]] = field(default_factory=dict)
    note: str = ""

    @property
    def id(self) -> str:
        return f"{self.kind}-{self.note}" if self.note else self.kind


X = f(2, 5, 3)  # [batch, step, feature]
MASK = np.asarray([[1, 1, 0, 1, 0], [0, 1, 1, 1, 1]], bool)
