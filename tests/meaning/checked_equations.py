"""While a model is computed, every call's equations are computed too, from their text, and compared."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from unittest import mock

import numpy as np
from equations import evaluated

from wexport.evaluate import _Machine

Array = np.ndarray[Any, Any]
TOLERANCE = 1e-9  # relative to the largest number: all is float64, before a result is rounded to its stated type


class WrongEquationError(AssertionError):
    """What a text says is not what the layer computes."""


@contextmanager
def checked() -> Iterator[Counter[tuple[str, str]]]:
    """Counts, by kind and role, what was compared."""
    seen: Counter[tuple[str, str]] = Counter()
    original = _Machine.computed

    def computed(self: _Machine, call: Mapping[str, Any], tensors: Any, args: Any, values: Any) -> Any:
        found = original(self, call, tensors, args, values)
        lines = self.manifest["equations"].get(call["layer"])
        if lines:
            entry = self.manifest["layers"][call["layer"]]
            seen.update((entry["kind"], role) for role in compared(lines, entry, tensors, args, found))
        return found

    with mock.patch.object(_Machine, "computed", computed):
        yield seen


def compared(lines: Any, entry: Any, tensors: Any, args: Any, wanted: Mapping[str, Any]) -> list[str]:
    """The roles that the lines define, after each was compared.

    Raises:
        WrongEquationError: one differs, or none is defined.
    """
    text = f"{entry['kind']}: " + "\n  ".join(lines)
    try:
        found = evaluated(lines, entry, tensors, args)
    except Exception as error:
        raise WrongEquationError(f"{text}\n  cannot be computed: {error!r}") from error
    roles = [role for role in found if wanted.get(role) is not None]
    if not roles:
        raise WrongEquationError(f"{text}\n  defines none of {', '.join(wanted)}")
    for role in roles:
        if (reason := different(found[role], wanted[role])) is not None:
            raise WrongEquationError(f"{text}\n  {role}: {reason}")
    return roles


def different(found: Any, wanted: Any) -> str | None:
    """How two results differ; None if they do not."""
    if isinstance(wanted, tuple):
        reasons = [different(f, w) for f, w in zip(found, wanted, strict=True)]
        return next((r for r in reasons if r), None)
    a, b = np.asarray(found), np.asarray(wanted)
    if a.shape != b.shape:
        return f"has the shape {a.shape}, expected {b.shape}"
    if b.dtype.kind not in "fiub":
        return None if (a == b).all() else f"is {a.reshape(-1)[:5]}, expected {b.reshape(-1)[:5]}"
    a, b = a.astype(np.float64), b.astype(np.float64)
    if not ((np.isnan(a) == np.isnan(b)) & (np.isinf(a) == np.isinf(b))).all():
        return "is not finite elsewhere"
    finite = np.isfinite(b)
    off, size = np.abs(a[finite] - b[finite]).max(initial=0), max(np.abs(b[finite]).max(initial=0), 1e-30)
    return None if off <= TOLERANCE * size else f"differs by {off:.3g}, of {size:.3g}"
