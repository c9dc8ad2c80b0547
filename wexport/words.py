"""What a manifest says, in the words in which the verbs print it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from wexport.names import label_rank, role_rank

LONGEST = 200  # characters of an attribute; more is cut


def count(n: int, word: str) -> str:
    """So many things."""
    ending = "" if n == 1 else "es" if word.endswith("s") else "s"
    return f"{n:,} {word}{ending}"


def shape_text(shape: Sequence[int | None]) -> str:
    """A shape as people write it: `(128,)`, `(?, 30, 6)`."""
    words = ["?" if n is None else str(n) for n in shape]
    return f"({words[0]},)" if len(words) == 1 else f"({', '.join(words)})"


def number(x: Any) -> str:
    """A number of a statistic; a dash where there is none."""
    return "-" if x is None else f"{x:,}" if isinstance(x, int) else f"{x:.6g}"


def origin(framework: str, version: str | None) -> str:
    """The framework that wrote a file."""
    return f"{framework} {version}" if version else framework


def kind_of(item: Mapping[str, Any]) -> list[str]:
    """A tensor's type, shape and axes."""
    return [item.get("stored_as") or item["dtype"], shape_text(item["shape"]), item["axes"]]


def port(found: Mapping[str, Any]) -> str:
    """The shape and type of a value, as far as they are known."""
    shape = found.get("shape")
    return " ".join(w for w in ("" if shape is None else shape_text(shape), found.get("dtype") or "") if w)


def attribute(value: Any) -> str:
    """An attribute of a layer; a long one is cut."""
    text = whole_attribute(value)
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 10]} ..."


def whole_attribute(value: Any) -> str:
    """An attribute of a layer, however long."""
    if isinstance(value, Mapping) and "name" in value:
        own = ", ".join(f"{k}={v}" for k, v in value.items() if k != "name")
        return f"{value['name']}({own})" if own else str(value["name"])
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def argument(arg: Any, values: Mapping[str, Mapping[str, Any]]) -> str:
    """An argument of a call: values with their shapes, constants, tensors."""
    if isinstance(arg, list):
        return f"[{', '.join(argument(a, values) for a in arg)}]"
    if isinstance(arg, Mapping):
        return json.dumps(arg.get("const", arg.get("tensor")))
    return "null" if arg is None else named(arg, values)


def named(value: str, values: Mapping[str, Mapping[str, Any]]) -> str:
    """A value with its shape, where that is known."""
    shape = values.get(value, {}).get("shape")
    return value if shape is None else f"{value} {shape_text(shape)}"


def by_gate(manifest: Mapping[str, Any], names: Iterable[str]) -> list[str]:
    """Names in the order in which people read them: layers in theirs, then direction, cell, gate, then role."""
    place = {layer: i for i, layer in enumerate(manifest["layers"])}

    def key(name: str) -> tuple[Any, ...]:
        item = manifest["tensors"][name]
        at = item["at"]
        labels = [(label_rank(str(at[a])), str(at[a])) for a in ("direction", "cell", "part", "gate") if a in at]
        return (place.get(item["layer"], len(place)), labels, role_rank(item["role"]))

    return sorted(names, key=key)
