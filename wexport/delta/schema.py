"""The JSON Schema (2020-12) of what `diff --json` prints, made from what the comparison declares.

`python -m wexport.delta.schema` prints it; `schemas/diff-1.schema.json` is that text, and a test holds them together.
Fields that it does not name are allowed everywhere: a reader ignores what it does not know.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from wexport.delta.gates import MEASURES
from wexport.delta.match import BYTES, NAME, POSITION
from wexport.delta.models import GRAPH, NAMES, STRUCTURE, VALUES

VERSION = 1
Json = Any
_TEXT: Json = {"type": "string"}
_MAYBE_TEXT: Json = {"type": ["string", "null"]}
_COUNT: Json = {"type": "integer", "minimum": 0}
_SHAPE: Json = {"type": "array", "items": _COUNT}
_OPEN_SHAPE: Json = {"type": "array", "items": {"type": ["integer", "null"]}}
_TEXTS: Json = {"type": "array", "items": _TEXT}
_FLAG: Json = {"type": "boolean"}
_LENGTH: Json = {"type": ["number", "null"], "minimum": 0}
_FORM = (STRUCTURE, GRAPH)  # the second where it may be but the other framework's way of writing
_LAYER_HOW = (BYTES, POSITION, NAME)
_TENSOR_HOW = (f"{NAME} and {BYTES}", *_LAYER_HOW, "zero")


def schema() -> dict[str, Json]:
    """The schema of a difference."""
    required = {
        "wexport_diff": {"const": VERSION},
        "a": _side(),
        "b": _side(),
        "verdict": _TEXT,
        "same": _FLAG,
        "same_weights": _FLAG,
        "facts": _list({"$ref": "#/$defs/fact"}),
        "groups": _list(_object({"layer": _TEXT, "part": _TEXT, "change": {"$ref": "#/$defs/change"}})),
        "provenance": {"type": "object", "additionalProperties": {"type": "array", "minItems": 2, "maxItems": 2}},
        "equal": _object(dict.fromkeys(("layers", "of_layers", "tensors", "parameters"), _COUNT)),
        "within_tolerance": _COUNT,
        "matches": _object({"layers": _list(_match(_LAYER_HOW)), "tensors": _list(_match(_TENSOR_HOW))}),
        "gates": _object({"asked": _TEXTS, "tripped": _list(_trip())}),
        "notes": _TEXTS,
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": f"wexport diff, format version {VERSION}",
        **_object(required),
        "$defs": {"fact": _fact(), "change": _change()},
    }


def _object(required: Mapping[str, Json], maybe: Mapping[str, Json] | None = None) -> Json:
    return {"type": "object", "required": list(required), "properties": {**required, **(maybe or {})}}


def _list(items: Json) -> Json:
    return {"type": "array", "items": items}


def _side() -> Json:
    about = dict.fromkeys(("name", "framework", "framework_version", "format"), _MAYBE_TEXT)
    counts = dict.fromkeys(("tensors", "layers", "bytes_read"), _COUNT)
    return _object({"path": _TEXT, "what": {"enum": ["bundle", "manifest", "model"]}, **about, **counts})


def _match(how: tuple[str, ...]) -> Json:
    return _object({"a": _MAYBE_TEXT, "b": _MAYBE_TEXT, "how": {"enum": list(how)}})


def _trip() -> Json:
    """A gate that tripped: what it found is a number, an infinite one as text, or a fact's words."""
    return _object({"gate": _TEXT, "name": _TEXT, "found": {"type": ["number", "string"]}})


def _change() -> Json:
    """How far something moved; null is what cannot be told, and stands in `unavailable`."""
    place = _object({"index": _COUNT, "moved": _LENGTH, "relative": _LENGTH})
    required = {
        "estimated": _FLAG,
        "relative": _LENGTH,
        "error": _LENGTH,
        "from_zero": _FLAG,
        "moved": _LENGTH,
        "max_abs": _LENGTH,
        "cosine": {"type": ["number", "null"], "minimum": -1, "maximum": 1},
        "share": {**_LENGTH, "maximum": 1},
        "nonfinite": {"type": ["integer", "null"], "minimum": 0},
        "jumps": _COUNT,
        "unavailable": {"type": "array", "items": {"enum": [*MEASURES, "top"]}, "uniqueItems": True},
    }
    top = {"type": "object", "additionalProperties": _list(place)}
    return _object(required, {"rounded": _FLAG, "top": top})


# -- facts -------------------------------------------------------------------------------------------------------------


def _facts() -> dict[str, tuple[tuple[str, ...], Json]]:
    """Every fact: which categories it can be of, and what its detail holds."""
    where = _object({"kind": _TEXT, "after": _TEXTS, "before": _TEXTS, "tensors": _COUNT})
    tensor = _object({"dtype": _TEXT, "shape": _SHAPE})
    shapes = _object({"from": _OPEN_SHAPE, "to": _OPEN_SHAPE})
    types = _object({"from": _TEXT, "to": _TEXT})
    reads = _object({"from": _TEXTS, "to": _TEXTS})
    calls = {"type": "array", "items": _COUNT, "minItems": 2, "maxItems": 2}
    rewired = {"anyOf": [_object({"argument": _TEXT, "from": _TEXTS, "to": _TEXTS}), _object({"calls": calls})]}
    how = _object({"how": {"enum": [*_LAYER_HOW, "activation"]}}, {"layer": _TEXT})
    found: dict[str, tuple[tuple[str, ...], Json]] = {
        "layer added": (_FORM, where),
        "layer removed": (_FORM, where),
        "layer renamed": ((NAMES,), how),
        "layer rewired": (_FORM, rewired),
        "attribute changed": (_FORM, _object({"attribute": _TEXT, "from": {}, "to": {}}, {"layer": _TEXT})),
        "tensor added": (_FORM, tensor),
        "tensor removed": (_FORM, tensor),
        "tensor renamed": ((NAMES,), _object({"how": {"enum": list(_TENSOR_HOW)}})),
        "tensor reshaped": (_FORM, _object({"from": _SHAPE, "to": _SHAPE})),
        "tensor retyped": ((STRUCTURE,), types),
        "values changed": ((VALUES,), _object({}, {"zero": {"enum": ["a", "b"]}})),
        "alias added": ((STRUCTURE,), _object({"tensor": _TEXT})),
        "alias removed": ((STRUCTURE,), _object({"tensor": _TEXT})),
        "output rewired": (_FORM, reads),
    }
    for port in ("input", "output"):
        found[f"{port} added"] = found[f"{port} removed"] = ((STRUCTURE,), _object({}))
        found[f"{port} renamed"] = ((NAMES,), _object({}))
        found[f"{port} reshaped"] = (_FORM, shapes)
        found[f"{port} retyped"] = ((STRUCTURE,), types)
        found[f"{port} reordered"] = ((STRUCTURE,), _object({"from": _COUNT, "to": _COUNT}))
    return found


def _fact() -> Json:
    """A difference; its side is null where it has no partner, and its change where nothing was measured."""
    facts = _facts()
    sides = {
        "added": {"a": {"type": "null"}, "b": _TEXT},
        "removed": {"a": _TEXT, "b": {"type": "null"}},
    }
    rules = [
        {
            "if": {"properties": {"fact": {"const": name}}},
            "then": {
                "properties": {
                    "category": {"enum": list(categories)},
                    "detail": detail,
                    **sides.get(name.partition(" ")[2], {}),
                }
            },
        }
        for name, (categories, detail) in sorted(facts.items())
    ]
    required = {
        "fact": {"enum": sorted(facts)},
        "category": {"enum": [STRUCTURE, GRAPH, NAMES, VALUES]},
        "a": _MAYBE_TEXT,
        "b": _MAYBE_TEXT,
        "detail": {"type": "object"},
        "change": {"anyOf": [{"type": "null"}, {"$ref": "#/$defs/change"}]},
    }
    return {**_object(required), "allOf": rules}


if __name__ == "__main__":
    print(json.dumps(schema(), indent=1))  # noqa: T201 - what it is run for
