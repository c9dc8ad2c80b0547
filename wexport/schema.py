"""The manifest's JSON Schema (2020-12), made from what the layers' rooms declare.

`python -m wexport.schema` prints it; `schemas/manifest-1.schema.json` is that text, and a test holds them together.
Fields that it does not name are allowed everywhere: a reader ignores what it does not know.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from wexport.layers.complete import KINDS
from wexport.layers.registry import Kind
from wexport.manifest import LATER, SECTIONS, VERSION
from wexport.sketch import METHOD

Json = Any
_TEXT: Json = {"type": "string"}
_COUNT: Json = {"type": "integer", "minimum": 0}
_SHAPE: Json = {"type": "array", "items": _COUNT}
_OPEN_SHAPE: Json = {
    "anyOf": [{"type": "null"}, {"type": "array", "items": {"type": ["integer", "string", "null"]}}],
}
_NUMBER: Json = {"type": ["number", "null"]}
_SHA: Json = {"type": "string", "pattern": "^[0-9a-f]{64}$"}
_DTYPES = (
    "F64", "F32", "F16", "BF16", "F8_E4M3", "F8_E5M2", "C64",
    "I64", "I32", "I16", "I8", "U64", "U32", "U16", "U8", "BOOL",
)  # fmt: skip


def schema() -> dict[str, Json]:
    """The schema of a manifest."""
    sections = {
        "model": _model(),
        "inputs": _each({"shape": _OPEN_SHAPE, "dtype": {"type": ["string", "null"]}}),
        "outputs": _each({"value": _TEXT}),
        "layers": {"type": "object", "additionalProperties": {"$ref": "#/$defs/layer"}},
        "calls": {"type": "array", "items": {"$ref": "#/$defs/call"}},
        "equations": {"type": "object", "additionalProperties": {"type": "array", "items": _TEXT}},
        "weights": {"type": "object", "additionalProperties": {"$ref": "#/$defs/weight"}},
        "tensors": {"type": "object", "additionalProperties": {"$ref": "#/$defs/tensor"}},
        "aliases": _each(
            {"tensor": _TEXT, "layer": _TEXT, "role": _TEXT, "axes": _TEXT, "transposed": {"type": "boolean"}}
        ),
        "left_out": _each({"shape": _SHAPE, "reason": _TEXT}),
        "stats": _each(
            {**dict.fromkeys(("min", "max", "mean", "std", "l2"), _NUMBER), "zeros": _COUNT, "nonfinite": _COUNT}
        ),
        "sketches": _each({}, {METHOD: {"type": "string", "pattern": "^[A-Za-z0-9+/]{342}==$"}}),  # 256 bytes
    }
    version = {"type": "integer", "minimum": 1, "maximum": VERSION}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": f"wexport manifest, format version {VERSION}",
        "type": "object",
        "required": ["wexport", *(name for name in SECTIONS if name not in LATER)],
        "properties": {"wexport": version, **{name: sections[name] for name in SECTIONS}},
        "$defs": {
            "layer": _layer(),
            **{f"layer:{name}": _kind(KINDS[name]) for name in sorted(KINDS)},
            "argument": _argument(),
            "call": _call(),
            "weight": _weight(),
            "tensor": _tensor(),
        },
    }


def _object(required: Mapping[str, Json], maybe: Mapping[str, Json] | None = None) -> Json:
    return {"type": "object", "required": list(required), "properties": {**required, **(maybe or {})}}


def _each(required: Mapping[str, Json], maybe: Mapping[str, Json] | None = None) -> Json:
    return {"type": "object", "additionalProperties": _object(required, maybe)}


def _model() -> Json:
    source = _object({"file": _TEXT, "format": _TEXT}, {"bytes": _COUNT})
    return _object(
        {
            "name": _TEXT,
            "framework": _TEXT,
            "framework_version": {"type": ["string", "null"]},
            "source": source,
            "parameters": _COUNT,
            "fingerprint": _SHA,
        }
    )


def _layer() -> Json:
    """A layer of any kind; one whose kind is known here has that kind's attributes."""
    rules = [
        {"if": {"properties": {"kind": {"const": name}}}, "then": {"$ref": f"#/$defs/layer:{name}"}}
        for name in sorted(KINDS)
    ]
    reads = _object(
        {
            "from": _TEXT,
            "axes": {"type": "array", "items": _TEXT},
            "sizes": _SHAPE,
            "strides": {"type": "array", "items": {"type": "integer"}},
            "start": {"type": "integer"},
        },
        {"features": _SHAPE},
    )
    common = {
        "kind": _TEXT,
        "class": {"type": ["string", "null"]},
    }
    maybe = {
        "reads": {"type": "array", "items": reads},
        "zero": {"type": "array", "items": _TEXT},
        "part": _TEXT,
        "parts": {"type": "array", "items": _TEXT},
        "fused": {"type": "array", "items": _TEXT},
        "time_distributed": {"type": "integer", "minimum": 1},
        "partial": {"type": "boolean"},
    }
    return {**_object(common, maybe), "allOf": rules}


def _kind(kind: Kind) -> Json:
    """The attributes of a kind; a layer that is `partial` (only its weights are known) need not have them all."""
    properties = {**kind.attributes, **kind.optional}
    if not kind.attributes:
        return {"properties": properties}
    whole = {"required": list(kind.attributes)}
    partial = {"required": ["partial"], "properties": {"partial": {"const": True}}}
    return {"properties": properties, "if": {"not": partial}, "then": whole}


def _argument() -> Json:
    constant = _object({"const": {}, "dtype": _TEXT, "shape": _SHAPE}, {"stored": {"type": ["string", "null"]}})
    several = {"type": "array", "items": {"$ref": "#/$defs/argument"}}
    return {"anyOf": [{"type": ["string", "null"]}, several, constant, _object({"tensor": _TEXT})]}


def _call() -> Json:
    out = _object(
        {
            "value": {"type": ["string", "null"]},
            "role": _TEXT,
            "shape": _OPEN_SHAPE,
            "dtype": {"type": ["string", "null"]},
        }
    )
    args = {"type": "object", "additionalProperties": {"$ref": "#/$defs/argument"}}
    body = _object(
        {
            "inputs": {"type": "array", "items": _TEXT},
            "calls": {"type": "array", "items": {"$ref": "#/$defs/call"}},
            "outputs": {"type": "array", "items": {"$ref": "#/$defs/argument"}},
        }
    )
    bodies = {"type": "object", "additionalProperties": body}
    return _object({"layer": _TEXT, "args": args, "out": {"type": "array", "items": out}}, {"bodies": bodies})


def _weight() -> Json:
    """An array of the source: how it is taken apart, or that it is a copy of another one, or a constant's elements."""
    common = {"index": {"type": ["integer", "null"]}, "shape": _SHAPE, "dtype": _TEXT}
    lengths = {"type": "object", "additionalProperties": _COUNT}
    labels = {"type": "object", "additionalProperties": {"type": "array", "items": _TEXT}}
    words, places = {"type": "array", "items": _TEXT}, {"type": "array", "items": {"type": "integer"}}
    form = {"axes": words, "sizes": _SHAPE, "strides": places, "start": {"type": "integer"}, "features": _SHAPE}
    segment = _object({"from": _TEXT, "size": _COUNT}, form)
    maybe = {
        "layout": _TEXT,
        "as": _TEXT,
        "sizes": lengths,
        "labels": labels,
        "at": {"type": "object", "additionalProperties": _TEXT},
        "segments": {"type": "object", "additionalProperties": {"type": "array", "items": segment}},
        "steps": {"type": "array", "items": {"type": "object"}},
        "copy_of": _TEXT,
        "constant": {},
    }
    forms = (["layout", "as", "sizes"], ["copy_of"], ["constant"])
    return {**_object(common, maybe), "anyOf": [{"required": form} for form in forms]}


def _tensor() -> Json:
    return _object(
        {
            "dtype": {"enum": list(_DTYPES)},
            "shape": _SHAPE,
            "axes": _TEXT,
            "layer": {"type": ["string", "null"]},
            "role": _TEXT,
            "weight": _TEXT,
            "at": {"type": "object", "additionalProperties": {"type": ["string", "integer"]}},
            "sha256": _SHA,
        },
        {"stored_as": _TEXT},
    )


def violations(manifest: Mapping[str, Json], most: int = 10) -> list[str]:
    """Where a manifest breaks the schema, and how; the first few places."""
    from itertools import islice

    from jsonschema import Draft202012Validator

    found = islice(Draft202012Validator(schema()).iter_errors(manifest), most)
    return [f"{' > '.join(str(p) for p in error.absolute_path) or 'top'}: {_short(error.message)}" for error in found]


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= 200 else f"{line[:100]} ... {line[-90:]}"


if __name__ == "__main__":
    print(json.dumps(schema(), indent=1))  # noqa: T201 - what it is run for
