"""How far values moved: the numbers of a change, measured or estimated, of a tensor or of several together."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from wexport.sketch import ERROR, FLOOR, METHOD, decode

Manifest = Mapping[str, Any]
Top = tuple[tuple[int, float, float | None], ...]  # index, length of the change, the same relative to what was there
EXACT = ("max_abs", "share", "top")  # what no sketch tells


@dataclass(frozen=True, slots=True)
class Change:
    """How far a tensor moved; lengths are Euclidean, over the elements that are finite on both sides.

    `moved`, `size_a` and `size_b` are the lengths of the difference and of both sides, None where they are not known;
    `share` is the part of the elements that differ, `nonfinite` how many became NaN or infinite, `jumps` how many
    changed to, from or between these; `rounded` says, of another type, that one side is the other, rounded. `error` is
    the relative standard error of an estimated `moved`, and `floor` the length below which an estimate cannot tell a
    change from the rounding of the sketches.
    """

    moved: float | None
    size_a: float | None
    size_b: float | None
    max_abs: float | None = None
    cosine: float | None = None
    share: float | None = None
    nonfinite: int | None = None
    jumps: int = 0
    rounded: bool | None = None
    top: Mapping[str, Top] = field(default_factory=dict)
    error: float | None = None
    floor: float = 0.0

    @property
    def estimated(self) -> bool:
        """Whether it comes from sketches."""
        return self.error is not None

    @property
    def relative(self) -> float | None:
        """The length of the change by that of what was there; None where that is zero or not known."""
        if self.moved is None or self.size_a is None:
            return None
        return self.moved / self.size_a if self.size_a else 0.0 if self.moved == 0 else None

    @property
    def at_most(self) -> float | None:
        """The relative change, or how much it may be where an estimate cannot tell it from rounding."""
        if self.estimated and self.moved is not None and self.moved < self.floor and self.size_a:
            return self.floor / self.size_a
        return self.relative

    @property
    def from_zero(self) -> bool:
        """Whether there was nothing but zeros before."""
        return self.size_a == 0 and bool(self.moved)


def estimated(a: Manifest, b: Manifest, one: str | None, two: str | None) -> Change:
    """The change from a tensor of A to one of B, as far as their manifests tell; None stands for zeros.

    The length of the difference comes from the sketches; where one side is zero, it is the other's, exactly. What
    became NaN or infinite is told by the counts only if there was none before.

    Raises:
        BundleError: a sketch is damaged.
    """
    zeros: dict[str, Any] = {"l2": 0.0, "nonfinite": 0}
    old_stats = zeros if one is None else a["stats"].get(one, {})
    new_stats = zeros if two is None else b["stats"].get(two, {})
    sizes = old_stats.get("l2"), new_stats.get("l2")
    before, now = old_stats.get("nonfinite"), new_stats.get("nonfinite")
    nonfinite, jumps = None, 0
    if before is not None and now is not None:
        nonfinite, jumps = (now if 0 in (before, now) else None), abs(now - before)  # at least so many jumped
    if 0.0 in sizes and None not in sizes:
        stats = (old_stats, new_stats)
        ends = [abs(x) for found in stats for x in (found.get("min"), found.get("max")) if x is not None]
        return Change(
            max(x or 0.0 for x in sizes),
            sizes[0],
            sizes[1],
            max_abs=max(ends, default=0.0),
            nonfinite=nonfinite,
            jumps=jumps,
            error=0.0,
        )
    texts = [side["sketches"].get(name, {}).get(METHOD) for side, name in ((a, one), (b, two))]
    if None in texts:
        return Change(None, sizes[0], sizes[1], nonfinite=nonfinite, jumps=jumps)
    old, new = decode(texts[0]), decode(texts[1])
    moved, cosine = math.dist(old, new), None
    if sizes[0] and sizes[1]:
        cosine = (sizes[0] ** 2 + sizes[1] ** 2 - moved**2) / 2 / (sizes[0] * sizes[1])
        cosine = max(-1.0, min(1.0, cosine))
    floor = FLOOR * max(math.hypot(*old), math.hypot(*new))
    return Change(moved, sizes[0], sizes[1], cosine=cosine, nonfinite=nonfinite, jumps=jumps, error=ERROR, floor=floor)


def together(changes: Iterable[Change], still: Iterable[float | None]) -> Change:
    """Several tensors as one: those that moved, and the lengths of those that did not."""
    found, rest = list(changes), list(still)
    if len(found) == 1 and not rest:
        return found[0]
    errors = [change.error for change in found if change.error is not None]
    moved = _length(change.moved for change in found)
    error = None
    if errors and moved:
        # the estimates are independent: the error of a sum of squares is that of its parts, weighed by their squares
        parts = (2 * (change.error or 0.0) * (change.moved or 0.0) ** 2 for change in found)
        error = math.hypot(*parts) / (2 * moved**2)
    elif errors:
        error = max(errors)
    largest = [change.max_abs for change in found]
    return Change(
        moved,
        _length([*(change.size_a for change in found), *rest]),
        _length([*(change.size_b for change in found), *rest]),
        max_abs=None if None in largest else max((x for x in largest if x is not None), default=0.0),
        nonfinite=None if any(c.nonfinite is None for c in found) else sum(c.nonfinite or 0 for c in found),
        jumps=sum(c.jumps for c in found),
        error=error,
        floor=math.hypot(*(change.floor for change in found)),
    )


def _length(parts: Iterable[float | None]) -> float | None:
    found = list(parts)
    known = [x for x in found if x is not None]
    return math.hypot(*known) if len(known) == len(found) else None


def change_json(change: Change) -> dict[str, Any]:
    """A change for programs: what cannot be told is listed as `unavailable`, and null."""
    top = {
        axis: [{"index": i, "moved": _finite(d), "relative": _finite(r)} for i, d, r in places]
        for axis, places in change.top.items()
    }
    found: dict[str, Any] = {
        "estimated": change.estimated,
        "relative": _finite(change.relative),
        "error": change.error,
        "from_zero": change.from_zero,
        "moved": _finite(change.moved),
        "max_abs": _finite(change.max_abs),
        "cosine": _finite(change.cosine),
        "share": _finite(change.share),
        "nonfinite": change.nonfinite,
        "jumps": change.jumps,
    }
    if change.rounded is not None:
        found["rounded"] = change.rounded
    if top:
        found["top"] = top
    missing = [key for key in ("relative", *EXACT, "cosine", "nonfinite") if found.get(key) is None and key != "top"]
    if change.from_zero and "relative" in missing:
        missing.remove("relative")
    return {**found, "unavailable": missing}


def _finite(x: float | None) -> float | None:
    return x if x is not None and math.isfinite(x) else None
