"""Gates for continuous integration: which differences are too many."""

from __future__ import annotations

import operator
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from wexport.delta.change import Change
from wexport.delta.difference import Difference
from wexport.errors import UsageError

_CATEGORIES = ("structure", "graph", "names", "values")
MEASURES = ("relative", "max_abs", "cosine", "share", "nonfinite")
_BARE = " from manifests alone; compare the bundles or models"
_SIGNS = {">": operator.gt, ">=": operator.ge, "<": operator.lt, "<=": operator.le}
_RULE = re.compile(r"\s*(\w+)\s*(>=|<=|>|<)\s*(\S+)\s*")


@dataclass(frozen=True, slots=True)
class Tripped:
    """A gate that does not let a difference pass: its text, and what it names, with the number found."""

    gate: str
    name: str
    found: float | str


def check(gates: Sequence[str]) -> None:
    """Refuse gates that are none, before anything is read.

    Raises:
        UsageError: a gate is neither a category nor a rule.
    """
    for gate in gates:
        if gate not in _CATEGORIES:
            _rule(gate)


def _rule(gate: str) -> tuple[str, str, float]:
    match = _RULE.fullmatch(gate)
    try:
        if match is not None and match[1] in MEASURES:
            limit = float(match[3])
            if limit == limit:
                return match[1], match[2], limit
    except ValueError:
        pass
    known = f"{', '.join(_CATEGORIES)}, or one of {', '.join(MEASURES)} with >, >=, < or <= and a number"
    raise UsageError(f"--fail-on {gate!r}: is no gate; expected {known}, such as 'relative>0.1'")


def tripped(found: Difference, gates: Sequence[str]) -> list[Tripped]:
    """The gates that trip, in their order, each with everything that it names.

    Raises:
        UsageError: a gate asks for what cannot be told from what is at hand.
    """
    return [trip for gate in gates for trip in _trips(found, gate)]


def _trips(found: Difference, gate: str) -> Iterator[Tripped]:
    if gate in _CATEGORIES:
        yield from (Tripped(gate, fact.name, fact.what) for fact in found.facts if fact.category == gate)
        return
    measure, sign, limit = _rule(gate)
    seen = set()
    for fact in found.facts:
        if fact.change is None or fact.name in seen:
            continue
        seen.add(fact.name)
        value = _value(fact.change, measure)
        if value is None or _is_blurred(fact.change, measure, sign, limit):
            measured = fact.change.share is not None
            why = ": its numbers are too large or too small" if measured else _BARE
            text = f"cannot be told{why}"
            raise UsageError(f"--fail-on {gate!r}: {measure} of {fact.name!r} {text}")
        if _SIGNS[sign](value, limit):
            yield Tripped(gate, fact.name, value)


def _is_blurred(change: Change, measure: str, sign: str, limit: float) -> bool:
    """Whether the limit lies below what an estimate can tell from rounding, and so does the change."""
    most = change.at_most
    if measure != "relative" or most is None or most == change.relative:
        return False
    return bool(_SIGNS[sign](0.0, limit) != _SIGNS[sign](most, limit))


def _value(change: Change, measure: str) -> float | None:
    if measure == "relative" and change.from_zero:
        return float("inf")
    if measure in ("relative", "max_abs") and change.jumps:
        return float("inf")  # no distance from a number to none, or back, is small
    if measure == "cosine" and change.cosine is None and (change.from_zero or change.size_b == 0):
        return 0.0
    found: Any = getattr(change, measure)
    return None if found is None else float(found)
