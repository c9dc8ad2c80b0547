"""What changed between two models, by meaning."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

from wexport.delta.difference import Difference, difference
from wexport.delta.gates import Tripped, check, tripped
from wexport.delta.side import Progress, open_sides, stated
from wexport.errors import UsageError
from wexport.trust import trusting

Place = str | os.PathLike[str]


@dataclass(frozen=True, slots=True)
class Verdict:
    """A difference, and what the gates say of it: `fails` is whether it is one too many."""

    difference: Difference
    gates: tuple[str, ...]
    tripped: tuple[Tripped, ...]

    @property
    def fails(self) -> bool:
        """With gates, whether one trips; without, whether anything differs."""
        return bool(self.tripped) if self.gates else not self.difference.same


def diff(
    a: Place,
    b: Place,
    *,
    match: str = "all",
    tolerance: float = 0.0,
    top: int = 0,
    fail_on: Sequence[str] = (),
    verify: bool = False,
    architecture: Place | None = None,
    progress: Progress = lambda size: None,
) -> Verdict:
    """Compare two models.

    Args:
        a: the older one: a bundle's folder, a manifest, or a model file.
        b: the newer one.
        match: `all`, or `name` to match by names alone.
        tolerance: tensors whose relative change is at most this count as equal.
        top: how many places of each axis of a changed tensor to name that moved most.
        fail_on: gates, each `structure`, `names`, `values` or a rule such as `relative>0.1`.
        verify: hold every tensor of a bundle against its checksum first.
        architecture: as for `export`; for model files that hold weights only.
        progress: called with the number of bytes read, from several threads.

    Raises:
        WexportError: a side cannot be read, or a bundle's data do not fit its manifest.
        UsageError: a gate is none, or asks for what cannot be told from what is at hand.
    """
    if match not in ("all", "name"):
        raise UsageError(f"match={match!r}: expected 'all' or 'name'")
    if not tolerance >= 0:
        raise UsageError(f"tolerance={tolerance!r}: expected a relative change of zero or more")
    check(fail_on)
    with open_sides(a, b, architecture, verify, progress) as (one, two), trusting(*stated(one, two)):
        found = difference(one, two, by_name=match == "name", tolerance=tolerance, top=top, progress=progress)
        return Verdict(found, tuple(fail_on), tuple(tripped(found, fail_on)))
